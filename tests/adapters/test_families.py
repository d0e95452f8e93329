"""What the adapters say of each family is so."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import disca
from disca.adapters import ADAPTERS, Adapter, adapter_for
from tests.families import FAMILIES
from tests.pipelines import PIPELINES, Sampler


@pytest.fixture(params=FAMILIES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def call(name: str, host: nn.Module, t: float = 0.75, **more: Any) -> Tensor:
    return FAMILIES[name].call(host, {**FAMILIES[name].inputs(host), **more}, t, 0.5)


def test_every_adapter_has_a_tiny_host() -> None:
    assert {adapter_for(family.make()).transformer for family in FAMILIES.values()} == set(ADAPTERS)


def test_blocks_take_and_give_what_the_adapter_says(name: str) -> None:
    host = FAMILIES[name].transformer()
    adapter, seen = adapter_for(host), []

    def look(block: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        features, _ = adapter.received(adapter.takes(block), args, kwargs)
        seen.append((features, adapter.features(output)))

    for block in adapter.blocks(host):
        block.register_forward_hook(look, with_kwargs=True)
    with torch.no_grad():
        call(name, host)
    assert len(seen) == len(adapter.blocks(host))
    for (_, out), (into, _) in pairwise(seen):
        assert all(torch.equal(a, b) for a, b in zip(out, into, strict=True))
    for features in (*seen[0], *seen[-1]):
        assert tuple(tokens.shape[-1] for tokens in features) == adapter.widths(host.config)
    tokens = 1 if adapter.context is None else 2
    assert len(seen[0][0]) == tokens
    if tokens == 2:
        text = seen[0][0][1]
        assert text.shape[1] < seen[0][0][0].shape[1] or name.startswith("hunyuan_video_15")


def test_gradient_checkpointing_changes_nothing(name: str) -> None:
    """It calls every block by position."""
    host = FAMILIES[name].transformer()
    plain = call(name, host)
    host.enable_gradient_checkpointing()
    at = adapter_for(host).timestep_at
    with disca.attach(host, disca.reuse(every=1), timesteps=[at(0.75)]) as run:
        attached = call(name, host)
        attached.square().mean().backward()
    assert torch.equal(attached, plain)
    assert run.summary().transformer_evaluations == 1
    assert all(any(p.grad is not None for p in block.parameters()) for block in adapter_for(host).blocks(host))


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("flux", "controlnet_block_samples"),
        ("flux", "controlnet_single_block_samples"),
        ("qwen_image", "controlnet_block_samples"),
    ],
)
def test_what_is_added_between_blocks_is_refused(name: str, argument: str) -> None:
    host = FAMILIES[name].transformer()
    samples = {argument: [torch.ones(1, 16, 16)]}
    with disca.attach(host, disca.reuse(every=2), timesteps=[0.75]):
        with pytest.raises(ValueError, match=f"called with {argument}, which it adds between its blocks"):
            call(name, host, **samples)
        call(name, host)
    call(name, host, **samples)


def test_times_are_converted_to_the_host_s_units() -> None:
    up = Adapter(transformer="Mine", stacks=(), time_ascends=True)
    assert [up.timestep_at(time) for time in (1.0, 0.75, 0.0)] == [0.0, 250.0, 1000.0]
    small = Adapter(transformer="Mine", stacks=(), time_scale=1.0)
    assert [small.timestep_at(time) for time in (1.0, 0.75, 0.0)] == [1.0, 0.75, 0.0]


@pytest.mark.parametrize("stock", [name for name in PIPELINES if not name.endswith("two_experts")])
def test_a_pipeline_s_timesteps_are_in_the_units_that_the_adapter_says(stock: str) -> None:
    sampler = Sampler(PIPELINES[stock])
    host, adapter, seen = sampler.pipe.transformer, adapter_for(sampler.pipe.transformer), []
    host.register_forward_pre_hook(lambda m, args, kwargs: seen.append(kwargs[adapter.timestep]), with_kwargs=True)
    with disca.attach(sampler.pipe) as run:
        moments = []
        host.register_forward_hook(lambda *_: moments.append(run.moment))
        sampler()
    assert [moment.step for moment in moments] == sorted([0, 1, 2, 3] * PIPELINES[stock].branches)
    for timestep, moment in zip(seen, moments, strict=True):
        assert float(timestep.max()) == pytest.approx(
            adapter.timestep_at(moment.t),
            abs=1.5e-3 * adapter.time_scale,  # UniPC rounds to whole timesteps
        )


def test_streams_of_different_widths_are_fused_apart() -> None:
    with pytest.raises(ValueError, match="fuse_jointly=False"):
        Adapter(transformer="Mine", stacks=(), context_width=("text_width",))
    adapter = Adapter(transformer="Mine", stacks=(), width=("hidden_size",), context=None)
    assert adapter.widths({"hidden_size": 48}) == (48,)
    with pytest.raises(ValueError, match="no hidden_size, so the width of its tokens is not known"):
        adapter.widths({})
