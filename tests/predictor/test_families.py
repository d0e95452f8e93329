"""The predictor of every family: blocks of the host's own class, built as the host builds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from disca.adapters import Adapter, adapter_for
from disca.features import Features
from disca.predictor.network import Predictor
from tests.families import FAMILIES, redraw


class Heard:
    """A host's call as its trunk sees it: into the last blocks, with what beside, and out of them."""

    def __init__(self, name: str, depth: int = 2) -> None:
        family = FAMILIES[name]
        self.host = family.transformer()
        self.adapter: Adapter = adapter_for(self.host)
        blocks = self.adapter.blocks(self.host)
        into: list[Any] = []
        first: list[Any] = []
        out: list[Any] = []
        hooks = [
            blocks[0].register_forward_pre_hook(self._received(first), with_kwargs=True),
            blocks[-depth].register_forward_pre_hook(self._received(into), with_kwargs=True),
            blocks[-1].register_forward_hook(lambda module, args, output: out.append(output)),
        ]
        with torch.no_grad():
            family.call(self.host, family.inputs(self.host, batch=2), 0.75, 0.5)
        for hook in hooks:
            hook.remove()
        ((self.into, _),) = into
        ((self.current, self.conditioning),) = first
        self.cached: Features = self.adapter.features(out[0])

    def _received(self, found: list[Any]) -> Any:
        return lambda block, args, kwargs: found.append(self.adapter.received(self.adapter.takes(block), args, kwargs))

    def __call__(self, predictor: Predictor) -> Features:
        with torch.no_grad():
            return predictor(self.current, self.cached, self.conditioning)


@pytest.fixture(params=FAMILIES)
def heard(request: pytest.FixtureRequest) -> Heard:
    return Heard(request.param)


def test_copied_blocks_compute_what_the_host_s_compute(heard: Heard) -> None:
    """Whatever the host's constructor gave to its blocks, the predictor's have it too: sizes, epsilons, options."""
    predictor = Predictor.from_host(heard.host, depth=2, init="host").eval()
    for ending in dict.fromkeys(predictor._streams):
        predictor.set_submodule("fusion_mlp" + ending, Current())
    found = predictor(heard.into, heard.cached, heard.conditioning)
    for ours, theirs in zip(found, heard.cached, strict=True):
        torch.testing.assert_close(ours, theirs)


class Current(nn.Module):
    """In the place of a fusion: what is now, and nothing of the cache."""

    def forward(self, current: Tensor, *cached: Tensor | None) -> Tensor:
        return current


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_it_has_one_to_four_blocks(heard: Heard, depth: int) -> None:
    predictor = redraw(Predictor.from_host(heard.host, depth=depth))
    assert len(predictor.blocks) == depth
    forecast = heard(predictor)
    assert [features.shape for features in forecast] == [features.shape for features in heard.cached]
    assert all(features.isfinite().all() for features in forecast)


def test_it_has_blocks_of_any_kind_of_the_host(heard: Heard) -> None:
    for stack in heard.adapter.stacks:
        predictor = redraw(Predictor.from_host(heard.host, depth=1, stack=stack))
        assert type(predictor.blocks[0]) is type(getattr(heard.host, stack)[-1])
        assert [features.shape for features in heard(predictor)] == [features.shape for features in heard.cached]


def test_at_first_it_is_reuse(heard: Heard) -> None:
    predictor = Predictor.from_host(heard.host, residual="cache")
    predictor.calibrate(heard.cached)
    assert all(torch.equal(new, old) for new, old in zip(heard(predictor), heard.cached, strict=True))
    for scale, features in zip(predictor._scales, heard.cached, strict=True):
        assert scale.shape == features.shape[-1:]
        assert not (scale == 1).any()


def test_both_inputs_and_the_time_reach_it(heard: Heard) -> None:
    predictor = redraw(Predictor.from_host(heard.host, depth=1))
    before = heard(predictor)[0]
    current, cached, conditioning = heard.current, heard.cached, heard.conditioning
    for heard.current, heard.cached, heard.conditioning in (
        (tuple(features + 1 for features in current), cached, conditioning),
        (current, tuple(features + 1 for features in cached), conditioning),
        (current, cached, {**conditioning, "temb": conditioning["temb"] + 1}),
    ):
        assert not torch.allclose(heard(predictor)[0], before)


def test_gradients_reach_all_of_it_and_nothing_else(heard: Heard) -> None:
    heard.host.requires_grad_(False)
    predictor = redraw(Predictor.from_host(heard.host, depth=2, residual="cache")).train()
    forecast = predictor(heard.current, heard.cached, heard.conditioning)
    torch.cat([features.flatten() for features in forecast]).square().mean().backward()
    without = {name for name, p in predictor.named_parameters() if p.grad is None or not p.grad.any()}
    dropped = {"blocks.1.attn1.add_q_proj.weight", "blocks.1.attn1.norm_added_q.weight"}  # Mochi's last text queries
    assert without == (dropped if heard.adapter.last_block else set())


def test_it_is_the_same_after_a_while_on_disk(heard: Heard, tmp_path: Path) -> None:
    predictor = redraw(Predictor.from_host(heard.host, depth=2, residual="cache"))
    predictor.calibrate(heard.cached)
    predictor.save_pretrained(tmp_path)
    loaded = Predictor.from_pretrained(tmp_path)
    loaded.matches(heard.host)
    torch.testing.assert_close(heard(loaded), heard(predictor))


def test_it_takes_the_dtype_of_most_of_a_host(tmp_path: Path) -> None:
    """Wan keeps some small weights in float32, whatever it is loaded in."""
    host = FAMILIES["wan"].transformer()
    host.save_pretrained(tmp_path)
    host = type(host).from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in host.blocks[0].parameters()} == {torch.float32, torch.bfloat16}
    assert Predictor.from_host(host).dtype == torch.bfloat16


def test_its_share_of_a_full_size_host() -> None:
    from diffusers import MochiTransformer3DModel, WanTransformer3DModel

    with torch.device("meta"):
        for host, share in ((WanTransformer3DModel(), 0.054), (MochiTransformer3DModel(), 0.045)):
            assert Predictor.from_host(host).parameter_share(host) == pytest.approx(share, abs=0.005)
