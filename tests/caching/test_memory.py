"""What caches hold: as much as the summary says, and for methods of the trunk no more than a few tensors of tokens."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import nn

import disca
from disca.caching.methods import METHODS
from tests.families import FAMILIES
from tests.methods import policy

STEPS = [1000.0, 800.0, 600.0, 400.0]


def alive() -> dict[int, int]:
    """Bytes of every storage that a tensor keeps alive."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if type(thing) in (torch.Tensor, nn.Parameter)]  # no fake ones
    return {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}


def held(host: nn.Module, method: str, inputs: dict[str, Any]) -> tuple[int, int]:
    """Bytes that came alive in the first two steps of a run, and what the run says."""
    with disca.attach(host, policy(method, host, every=2), timesteps=STEPS) as run, torch.no_grad():
        before = alive()
        for timestep in STEPS[:2]:  # of latents of their own, which a cache may keep
            host(timestep=torch.tensor([timestep]), **{**inputs, "hidden_states": inputs["hidden_states"].clone()})
        now = alive()
        return sum(size for place, size in now.items() if place not in before), run.summary().bytes_held


@pytest.mark.parametrize("family", ["hunyuan_video", "wan"])
@pytest.mark.parametrize("method", METHODS)
def test_the_summary_says_how_much_is_held(family: str, method: str) -> None:
    host = FAMILIES[family].transformer(0)
    inputs = FAMILIES[family].inputs(host)
    host(timestep=torch.tensor([1000.0]), **inputs)
    measured, said = held(host, method, inputs)
    assert said > 0
    assert measured == pytest.approx(said, abs=256)  # scalars and flags of the run itself


@pytest.mark.parametrize("family", ["hunyuan_video", "wan"])
@pytest.mark.parametrize(
    ("method", "count"),
    [("reuse", 1), ("repeat_change", 1), ("taylor", 2), ("disca", 1), ("disca/all", 2), ("freqca", 3), ("magcache", 1)],
)
def test_methods_of_the_trunk_hold_a_few_tensors(family: str, method: str, count: int) -> None:
    host = FAMILIES[family].transformer(0)
    inputs = FAMILIES[family].inputs(host)
    frames, rows, columns = disca.adapters.adapter_for(host).grid(host.config, inputs)
    tokens = frames * rows * columns + (0 if family == "wan" else inputs["encoder_hidden_states"].shape[1])
    width = host.config.num_attention_heads * host.config.attention_head_dim
    with disca.attach(host, policy(method, host, every=1), timesteps=STEPS) as run, torch.no_grad():
        for timestep in STEPS[:3]:
            host(timestep=torch.tensor([timestep]), **inputs)
    assert 0 < run.summary().bytes_held <= count * tokens * width * 4


@pytest.mark.parametrize("family", ["hunyuan_video", "wan"])
def test_the_light_variant_holds_tensors_of_the_projection(family: str) -> None:
    host = FAMILIES[family].transformer(0)
    inputs = FAMILIES[family].inputs(host)
    with disca.attach(host, disca.taylorseer_lite(every=1, order=2), timesteps=STEPS) as run, torch.no_grad():
        for timestep in STEPS[:4]:
            velocity = host(timestep=torch.tensor([timestep]), **inputs)[0]
    assert run.summary().bytes_held == 3 * velocity.numel() * velocity.element_size()
