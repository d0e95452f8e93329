"""Tiny random text encoders, for what pipelines only do with prompts in words: several videos of each."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from tests.families import TEXT, Draw, redraw
from tests.pipelines import Sampler

WORDS = ("<pad>", "<unk>", "a", "red", "blue", "boat")
PROMPTS = {"prompt": ["a red boat", "a blue boat"], "negative_prompt": ["a", "a"]}


def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", model_max_length=TEXT)


def t5(kind: str) -> nn.Module:
    import transformers

    size = {"vocab_size": len(WORDS), "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    return redraw(getattr(transformers, f"{kind}EncoderModel")(getattr(transformers, f"{kind}Config")(**size)))


def clip() -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel

    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    return redraw(CLIPTextModel(CLIPTextConfig(vocab_size=len(WORDS), eos_token_id=1, **size)))


def llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaModel

    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    return redraw(LlamaModel(LlamaConfig(vocab_size=len(WORDS), **size)))


def with_words(sampler: Sampler) -> dict[str, Any]:
    """Give a pipeline text encoders; returns what it is called with beside prompts."""
    pipe = sampler.pipe
    name = type(pipe).__name__
    if name == "HunyuanVideoPipeline":
        pipe.register_modules(
            text_encoder=llama(), tokenizer=tokenizer(), text_encoder_2=clip(), tokenizer_2=tokenizer()
        )
        return {"prompt_template": {"template": "{}", "crop_start": 0}}
    if name == "FluxPipeline":
        pipe.register_modules(
            text_encoder=clip(), tokenizer=tokenizer(), text_encoder_2=t5("T5"), tokenizer_2=tokenizer()
        )
        pipe.tokenizer_max_length = TEXT
        return {}
    pipe.register_modules(
        text_encoder=t5("UMT5" if name.startswith(("Wan", "AnyFlow")) else "T5"), tokenizer=tokenizer()
    )
    return {}


def two_of_each(sampler: Sampler, *, steps: int = 4) -> Tensor:
    """Latents of two videos of each of two prompts."""
    more = with_words(sampler) | PROMPTS | {"max_sequence_length": TEXT}
    given = sampler.stock.arguments(sampler.pipe, Draw(0), 1, 8)
    size = {name: value for name, value in given.items() if "prompt" not in name}
    copies = "num_videos_per_prompt" if "num_frames" in size else "num_images_per_prompt"
    return sampler.run(steps, **size, **more, **{copies: 2})
