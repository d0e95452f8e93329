"""Shared fixtures: a tiny HunyuanVideo with random weights, and what it is called with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import settings
from torch import nn

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")


def redraw(module: nn.Module, *, seed: int = 0, scale: float = 0.1) -> nn.Module:
    """Every weight drawn anew and none of them zero, so that nothing passes through by luck."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def tiny_hunyuan(*, guidance_embeds: bool = False, seed: int = 0, **changes: Any) -> nn.Module:
    """A HunyuanVideo of width 32: two dual-stream and three single-stream blocks, random weights."""
    from diffusers import HunyuanVideoTransformer3DModel

    config: dict[str, Any] = {
        "in_channels": 4,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "num_layers": 2,
        "num_single_layers": 3,
        "num_refiner_layers": 1,
        "mlp_ratio": 2.0,
        "patch_size": 2,
        "patch_size_t": 1,
        "guidance_embeds": guidance_embeds,
        "text_embed_dim": 16,
        "pooled_projection_dim": 8,
        "rope_axes_dim": (4, 6, 6),
    }
    return redraw(HunyuanVideoTransformer3DModel(**{**config, **changes}), seed=seed)


def hunyuan_inputs(
    transformer: nn.Module, *, batch: int = 1, frames: int = 3, size: int = 8, seed: int = 0
) -> dict[str, Any]:
    """Arguments of a tiny HunyuanVideo but its timestep; the last two of six text tokens are padding."""
    config, generator = transformer.config, torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    mask = torch.ones(batch, 6)
    mask[:, 4:] = 0
    return {
        "hidden_states": draw(batch, config.in_channels, frames, size, size),
        "encoder_hidden_states": draw(batch, 6, config.text_embed_dim),
        "encoder_attention_mask": mask,
        "pooled_projections": draw(batch, config.pooled_projection_dim),
        "guidance": torch.full((batch,), 6000.0) if config.guidance_embeds else None,
        "return_dict": False,
    }


@pytest.fixture
def make_hunyuan() -> Callable[..., nn.Module]:
    """:func:`tiny_hunyuan`."""
    return tiny_hunyuan


@pytest.fixture
def make_inputs() -> Callable[..., dict[str, Any]]:
    """:func:`hunyuan_inputs`."""
    return hunyuan_inputs


@pytest.fixture
def hunyuan() -> nn.Module:
    return tiny_hunyuan()


@pytest.fixture(params=[False, True], ids=["plain", "guidance_embeds"])
def any_hunyuan(request: pytest.FixtureRequest) -> nn.Module:
    return tiny_hunyuan(guidance_embeds=request.param)
