"""A tiny Wan pipeline of random weights: nothing to look at, but every command that takes a pipeline takes it, so that
a training can be rehearsed in a minute before it is paid for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from torch import nn

from disca.files import check_writable

WORDS = ("a", "red", "blue", "boat", "dog", "two", "birds", "on", "lake", "runs", "fly", "sleeps")
"""What the tokenizer knows; other words are read as unknown."""
SIZE = "32x16x5"
"""Width, height and frames of a clip that it samples in a blink."""


def save(folder: str | Path, *, seed: int = 0) -> Path:
    """Write the pipeline into a new or empty ``folder`` of diffusers, whole or not at all.

    Raises:
        ValueError: the folder holds something already.
        OSError: it cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} holds something already. Give a new folder for the pipeline.")
    check_writable(folder.parent)
    draft = folder.with_name(f".{folder.name}-{uuid4().hex[:8]}")
    try:
        pipeline(seed=seed).save_pretrained(draft)
        if folder.exists():
            folder.rmdir()
        return draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def pipeline(*, seed: int = 0) -> Any:
    """The pipeline: four blocks of width 32, a real VAE class, text encoder and tokenizer."""
    from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
    from transformers import UMT5Config, UMT5EncoderModel

    words = _tokenizer()
    text = {"d_model": 16, "d_kv": 8, "num_heads": 2, "d_ff": 16, "num_layers": 1, "vocab_size": len(words)}
    blocks = {"num_attention_heads": 2, "attention_head_dim": 16, "ffn_dim": 64, "num_layers": 4}
    ends = {"in_channels": 4, "out_channels": 4, "text_dim": 16, "freq_dim": 64, "rope_max_seq_len": 64}
    video = {"base_dim": 4, "z_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return WanPipeline(
            tokenizer=words,
            text_encoder=UMT5EncoderModel(UMT5Config(**text)).eval(),
            vae=AutoencoderKLWan(**video, latents_mean=[0.0] * 4, latents_std=[1.0] * 4).eval(),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            transformer=_awake(WanTransformer3DModel(**ends, **blocks)),
        )


def _awake(transformer: nn.Module) -> nn.Module:
    """Its last layer drawn, where diffusers leaves it at zero: a model that says something."""
    nn.init.normal_(transformer.get_submodule("proj_out").weight, std=0.3)  # type: ignore[arg-type]
    return transformer.eval()


def _tokenizer() -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    specials = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "</s>"}
    known = {word: index for index, word in enumerate((*specials.values(), *WORDS))}
    inner = Tokenizer(WordLevel(known, unk_token="<unk>"))
    inner.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=64, **specials)
