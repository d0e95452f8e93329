"""Shared fixtures: a tiny HunyuanVideo with random weights, and what it is called with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from torch import nn

from tests.families import FAMILIES, Draw, hunyuan_arguments
from tests.official.golden import MODELS, Golden

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")


def tiny_hunyuan(*, seed: int = 0, **changes: Any) -> nn.Module:
    """A HunyuanVideo of width 32: two dual-stream and three single-stream blocks, random weights."""
    return FAMILIES["hunyuan_video"].transformer(seed, **changes)


def hunyuan_inputs(
    transformer: nn.Module, *, batch: int = 1, frames: int = 3, size: int = 8, seed: int = 0
) -> dict[str, Any]:
    """Arguments of a tiny HunyuanVideo but its timestep; the last two of six text tokens are padding."""
    return {**hunyuan_arguments(transformer, Draw(seed), batch, size, frames), "return_dict": False}


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


@pytest.fixture(params=MODELS)
def golden(request: pytest.FixtureRequest) -> Golden:
    """A tiny model of the authors' code, and what that code made of it."""
    return Golden(request.param)


@pytest.fixture(params=["dit", "predictor"])
def part(request: pytest.FixtureRequest) -> str:
    """A file of a golden model."""
    return request.param
