"""A fresh, untrained pipeline of the lab."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, HunyuanVideoTransformer3DModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from disca.lab.codec import PatchCodec
from disca.lab.pipeline import LabPipeline
from disca.lab.words import TRAINING, WORDS, sample
from disca.lab.world import World

SPECIAL = ("<pad>", "<start>", "<unknown>", "<end>")
PROMPT_TOKENS = 7  # start, five words, end


@dataclass(frozen=True, kw_only=True)
class Size:
    """Dimensions of the lab's models."""

    heads: int = 3
    head_width: int = 32
    dual_blocks: int = 2
    single_blocks: int = 10
    text_width: int = 64
    components: int = 32
    shift: float = 5.0
    """Of the scheduler's times; HunyuanVideo 1.0 was measured with 5."""
    codec_clips: int = 3000
    """Clips that the codec is fitted to."""


def pipeline(size: Size, seed: int, world: World | None = None) -> LabPipeline:
    """An untrained pipeline: the codec is fitted, every other weight is drawn from ``seed``."""
    world = world or World()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        transformer, text_encoder = _transformer(size), _text_encoder(size)
        initialise(transformer)
    clips = world.clips(sample(TRAINING, size.codec_clips, seed), torch.Generator().manual_seed(seed))
    return LabPipeline(
        tokenizer=_tokenizer(),
        text_encoder=text_encoder.eval(),
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=size.shift),
        codec=PatchCodec.fit(clips, components=size.components).eval(),
    )


def initialise(transformer: nn.Module) -> None:
    """AdaLN-zero: Xavier weights, and zeros for biases, modulations and the output projection (arXiv 2212.09748)."""
    for name, module in transformer.named_modules():
        if not isinstance(module, (nn.Linear, nn.Conv3d)):
            continue
        flat = module.weight.flatten(1)
        bound = math.sqrt(6 / sum(flat.shape))
        zero = name == "proj_out" or (".norm" in f".{name}" and name.endswith("linear"))
        nn.init.constant_(module.weight, 0) if zero else nn.init.uniform_(module.weight, -bound, bound)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _transformer(size: Size) -> HunyuanVideoTransformer3DModel:
    quarter = size.head_width // 8 * 2
    rest = (size.head_width - quarter) // 2
    return HunyuanVideoTransformer3DModel(
        in_channels=size.components,
        out_channels=size.components,
        num_attention_heads=size.heads,
        attention_head_dim=size.head_width,
        num_layers=size.dual_blocks,
        num_single_layers=size.single_blocks,
        num_refiner_layers=1,
        patch_size=1,
        patch_size_t=1,
        guidance_embeds=False,
        text_embed_dim=size.text_width,
        pooled_projection_dim=size.text_width,
        rope_axes_dim=(quarter, rest, rest),
    )


def _text_encoder(size: Size) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(SPECIAL) + len(WORDS),
            hidden_size=size.text_width,
            intermediate_size=2 * size.text_width,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=PROMPT_TOKENS,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=3,
        )
    )


def _tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<start>",
        unk_token="<unknown>",
        eos_token="<end>",
        model_max_length=PROMPT_TOKENS,
    )
