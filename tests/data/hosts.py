"""Whole pipelines of diffusers, tiny and random: real VAE classes, text encoders and tokenizers, no downloads.

A row of ``HOSTS`` builds one; the tests of encoding range over them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tests.families import FAMILIES, redraw
from tests.pipelines import clip_eyes, euler

TEXTS = ("a red boat on a lake", "a dog runs", "two birds", "")
"""What the tokenizers have words for; others are read as unknown."""


def tokenizer(*templates: str, piece: str = r"\w+|[^\w\s]", specials: tuple[str, ...] = ()) -> Any:
    """A tokenizer that knows the pieces of ``TEXTS`` inside of the templates."""
    import re

    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split
    from transformers import PreTrainedTokenizerFast

    texts = [template.format(text) for template in templates or ("{}",) for text in TEXTS]
    between = [
        part for text in texts for part in (re.split("|".join(map(re.escape, specials)), text) if specials else [text])
    ]
    pieces = sorted({match.group() for part in between for match in re.finditer(piece, part)})
    words = dict.fromkeys(["<pad>", "<unk>", "</s>", *specials, *pieces])
    inner = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = Split(Regex(piece), behavior="removed", invert=True)
    names = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, additional_special_tokens=list(specials), model_max_length=64, **names
    )


def t5(words: Any, kind: str = "T5EncoderModel", width: int = 16) -> Any:
    import transformers

    config = {"d_kv": 8, "num_heads": 2, "d_ff": 16, "num_layers": 1, "vocab_size": len(words), "d_model": width}
    settings = getattr(transformers, kind.replace("EncoderModel", "Config"))(**config)
    return redraw(getattr(transformers, kind)(settings), seed=3)


def clip_text(words: Any, width: int = 8) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    size = {"hidden_size": width, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    ends = {"eos_token_id": 2, "pad_token_id": 0, "bos_token_id": 1}
    return redraw(CLIPTextModel(CLIPTextConfig(vocab_size=len(words), **size, **ends)), seed=4)


def language_model(words: Any, width: int = 16) -> dict[str, Any]:
    size = {"hidden_size": width, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 3}
    return {**size, "num_key_value_heads": 2, "vocab_size": len(words), "max_position_embeddings": 2048}


def wan_vae(seed: int = 1) -> nn.Module:
    from diffusers import AutoencoderKLWan

    statistics = {"latents_mean": [0.1, -0.2, 0.0, 0.3], "latents_std": [0.5, 2.0, 1.0, 1.5]}
    return redraw(
        AutoencoderKLWan(base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, **statistics), seed=seed
    )


def hunyuan_vae(seed: int = 1) -> nn.Module:
    from diffusers import AutoencoderKLHunyuanVideo

    blocks = {"down_block_types": ("HunyuanVideoDownBlock3D",) * 4, "up_block_types": ("HunyuanVideoUpBlock3D",) * 4}
    size = {"latent_channels": 4, "block_out_channels": (4, 4, 4, 4), "layers_per_block": 1, "norm_num_groups": 2}
    return redraw(AutoencoderKLHunyuanVideo(**size, **blocks, mid_block_add_attention=False), seed=seed)


def hunyuan_15_vae(seed: int = 1) -> nn.Module:
    from diffusers import AutoencoderKLHunyuanVideo15

    return redraw(
        AutoencoderKLHunyuanVideo15(latent_channels=4, block_out_channels=(8,) * 5, layers_per_block=1), seed=seed
    )


def umt5() -> dict[str, Any]:
    words = tokenizer()
    return {"tokenizer": words, "text_encoder": t5(words, "UMT5EncoderModel")}


def wan(*, experts: int = 1, family: str = "wan", **options: Any) -> Any:
    from diffusers import WanPipeline

    names = ("transformer", "transformer_2")[:experts]
    transformers = {name: FAMILIES[family].transformer(50 * index) for index, name in enumerate(names)}
    return WanPipeline(**umt5(), vae=wan_vae(), scheduler=euler(shift=3.0), **transformers, **options)


def wan_image(family: str, *, experts: int = 1, **options: Any) -> Any:
    from diffusers import WanImageToVideoPipeline

    names = ("transformer", "transformer_2")[:experts]
    transformers = {name: FAMILIES[family].transformer(50 * index) for index, name in enumerate(names)}
    eyes = clip_eyes(2) if family == "wan_image" else {"image_encoder": None, "image_processor": None}
    return WanImageToVideoPipeline(
        **umt5(), **eyes, vae=wan_vae(), scheduler=euler(shift=3.0), **transformers, **options
    )


def hunyuan_video(**changes: Any) -> Any:
    from diffusers import HunyuanVideoPipeline
    from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
    from transformers import LlamaConfig, LlamaModel

    # Pieces so long that the template has about as many as the pipeline cuts off, and the prompt survives.
    words, words_2 = tokenizer(DEFAULT_PROMPT_TEMPLATE["template"], piece=r"[\s\S]{1,4}"), tokenizer()
    encoder = redraw(LlamaModel(LlamaConfig(**language_model(words))), seed=5)
    return HunyuanVideoPipeline(
        text_encoder=encoder,
        tokenizer=words,
        text_encoder_2=clip_text(words_2),
        tokenizer_2=words_2,
        vae=hunyuan_vae(),
        transformer=FAMILIES["hunyuan_video"].transformer(**changes),
        scheduler=euler(shift=7.0),
    )


def hunyuan_video_image(family: str, **changes: Any) -> Any:
    from diffusers import HunyuanVideoImageToVideoPipeline
    from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video_image2video import DEFAULT_PROMPT_TEMPLATE
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    specials = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<image>")
    words = tokenizer(DEFAULT_PROMPT_TEMPLATE["template"], piece=r"[\s\S]{1,4}", specials=specials)
    words_2 = tokenizer()
    eyes = CLIPVisionConfig(
        image_size=24, patch_size=1, hidden_size=8, intermediate_size=8, num_attention_heads=2, num_hidden_layers=2
    )
    config = LlavaConfig(
        vision_config=eyes,
        text_config=LlamaConfig(**language_model(words)),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        pad_token_id=0,
    )
    return HunyuanVideoImageToVideoPipeline(
        text_encoder=redraw(LlavaForConditionalGeneration(config), seed=5),
        tokenizer=words,
        text_encoder_2=clip_text(words_2),
        tokenizer_2=words_2,
        vae=hunyuan_vae(),
        transformer=FAMILIES[family].transformer(**changes),
        scheduler=euler(shift=7.0),
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}, do_convert_rgb=True
        ),
    )


CHAT = "{% for message in messages %}{{ message['content'] }} {% endfor %}"


def _hunyuan_15_parts() -> dict[str, Any]:
    from diffusers import ClassifierFreeGuidance
    from transformers import Qwen2_5_VLTextConfig, Qwen2_5_VLTextModel

    words = tokenizer()
    words.chat_template = CHAT
    config = Qwen2_5_VLTextConfig(**language_model(words), rope_scaling={"type": "default", "mrope_section": [1, 1, 2]})
    return {
        "text_encoder": redraw(Qwen2_5_VLTextModel(config), seed=5),
        "tokenizer": words,
        "text_encoder_2": t5(words),
        "tokenizer_2": words,
        "vae": hunyuan_15_vae(),
        "scheduler": euler(shift=5.0),
        "guider": ClassifierFreeGuidance(guidance_scale=2.0),
    }


def _shortened(pipe: Any) -> Any:
    """A template of a few tokens, few tokens of a prompt and few of a picture, as the tiny tokenizer counts them."""
    pipe.system_message, pipe.prompt_template_encode_start_idx = "Describe", 1
    pipe.tokenizer_max_length, pipe.tokenizer_2_max_length = 64, 6
    pipe.vision_num_semantic_tokens = 4
    return pipe


def hunyuan_video_15() -> Any:
    from diffusers import HunyuanVideo15Pipeline

    transformer = FAMILIES["hunyuan_video_15"].transformer()
    return _shortened(HunyuanVideo15Pipeline(transformer=transformer, **_hunyuan_15_parts()))


def hunyuan_video_15_image() -> Any:
    from diffusers import HunyuanVideo15ImageToVideoPipeline
    from transformers import SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel

    eyes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    encoder = SiglipVisionModel(SiglipVisionConfig(image_size=8, patch_size=4, **eyes))
    return _shortened(
        HunyuanVideo15ImageToVideoPipeline(
            transformer=FAMILIES["hunyuan_video_15"].transformer(),
            image_encoder=redraw(encoder, seed=2),
            feature_extractor=SiglipImageProcessor(size={"height": 8, "width": 8}),
            **_hunyuan_15_parts(),
        )
    )


def ltx() -> Any:
    from diffusers import AutoencoderKLLTXVideo, LTXPipeline

    vae = AutoencoderKLLTXVideo(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1, 1),
    )  # fmt: skip
    redraw(vae, seed=1)
    vae.latents_mean.copy_(torch.tensor([0.1, -0.2, 0.0, 0.3]))
    vae.latents_std.copy_(torch.tensor([0.5, 2.0, 1.0, 1.5]))
    words = tokenizer()
    transformer = FAMILIES["ltx"].transformer()
    return LTXPipeline(
        tokenizer=words, text_encoder=t5(words), vae=vae, transformer=transformer, scheduler=euler(shift=1.0)
    )


def cogvideox() -> Any:
    from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXPipeline

    vae = AutoencoderKLCogVideoX(
        latent_channels=4, block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_num_groups=2,
        down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4,
    )  # fmt: skip
    words = tokenizer()
    transformer = FAMILIES["cogvideox"].transformer(
        attention_head_dim=16, use_rotary_positional_embeddings=True, max_text_seq_length=226
    )
    scheduler = CogVideoXDDIMScheduler(prediction_type="v_prediction", timestep_spacing="trailing")
    return CogVideoXPipeline(
        tokenizer=words, text_encoder=t5(words), vae=redraw(vae, seed=1), transformer=transformer, scheduler=scheduler
    )


def mochi() -> Any:
    from diffusers import AutoencoderKLMochi, MochiPipeline

    vae = AutoencoderKLMochi(
        latent_channels=12, encoder_block_out_channels=(32, 32, 32, 32), decoder_block_out_channels=(32, 32, 32, 32),
        layers_per_block=(1, 1, 1, 1, 1),
    )  # fmt: skip
    words = tokenizer()
    transformer = FAMILIES["mochi"].transformer(in_channels=12, max_sequence_length=256)
    return MochiPipeline(
        tokenizer=words, text_encoder=t5(words), vae=redraw(vae, seed=1), transformer=transformer,
        scheduler=euler(invert_sigmas=True),
    )  # fmt: skip


@dataclass(frozen=True)
class TinyHost:
    build: Callable[[], Any]
    width: int = 32
    height: int = 16
    frames: int = 5

    def __call__(self) -> Any:
        pipe = self.build()
        pipe.set_progress_bar_config(disable=True)
        return pipe

    @property
    def size(self) -> str:
        return f"{self.width}x{self.height}x{self.frames}"


HOSTS: dict[str, TinyHost] = {
    "WanPipeline": TinyHost(wan),
    "WanPipeline/two_experts": TinyHost(lambda: wan(experts=2, boundary_ratio=0.875)),
    "WanPipeline/expand_timesteps": TinyHost(lambda: wan(expand_timesteps=True)),
    "WanImageToVideoPipeline": TinyHost(lambda: wan_image("wan_image")),
    "WanImageToVideoPipeline/two_experts": TinyHost(
        lambda: wan_image("wan_image_channels", experts=2, boundary_ratio=0.9)
    ),
    "WanImageToVideoPipeline/expand_timesteps": TinyHost(lambda: wan_image("wan", expand_timesteps=True)),
    "HunyuanVideoPipeline": TinyHost(hunyuan_video),
    "HunyuanVideoPipeline/guidance_embeds": TinyHost(lambda: hunyuan_video(guidance_embeds=True)),
    "HunyuanVideoImageToVideoPipeline/latent_concat": TinyHost(
        lambda: hunyuan_video_image("hunyuan_video_latent_concat")
    ),
    "HunyuanVideoImageToVideoPipeline/token_replace": TinyHost(
        lambda: hunyuan_video_image("hunyuan_video_token_replace", guidance_embeds=False)
    ),
    "HunyuanVideo15Pipeline": TinyHost(hunyuan_video_15),
    "HunyuanVideo15ImageToVideoPipeline": TinyHost(hunyuan_video_15_image, width=64, height=64),
    "LTXPipeline": TinyHost(ltx, width=64, height=64, frames=9),
    "CogVideoXPipeline": TinyHost(cogvideox),
    "MochiPipeline": TinyHost(mochi, frames=7),
}
