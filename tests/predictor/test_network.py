"""The predictor starts as reuse, takes the host's own conditioning, and is kept to the host it was made for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from torch import Tensor, nn

from disca.adapters import ADAPTERS, Adapter, adapter_for, describe
from disca.features import Features
from disca.metrics.flops import count_flops
from disca.predictor.network import Fusion, Predictor

Make = Callable[..., Any]
WIDTH = 32


def trained(predictor: Predictor, seed: int = 5) -> Predictor:
    """As if trained: no weight is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in predictor.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return predictor


class Listening:
    """A host's call as its blocks see it: into the first, with what beside, and out of the last."""

    def __init__(self, host: nn.Module, inputs: dict[str, Any], t: float = 900.0) -> None:
        adapter, seen, out = adapter_for(host), [], []
        first, last = adapter.blocks(host)[0], adapter.blocks(host)[-1]
        before = first.register_forward_pre_hook(
            lambda module, args, kwargs: seen.append(adapter.received(adapter.takes(module), args, kwargs)),
            with_kwargs=True,
        )
        after = last.register_forward_hook(lambda module, args, output: out.append(output))
        with torch.no_grad():
            self.velocity = host(timestep=torch.full((len(inputs["hidden_states"]),), t), **inputs)[0]
        before.remove()
        after.remove()
        (self.cached,) = out
        ((self.current, self.conditioning),) = seen


@pytest.fixture
def heard(hunyuan: nn.Module, make_inputs: Make) -> Listening:
    return Listening(hunyuan, make_inputs(hunyuan, batch=2))


def test_fusion_is_the_authors_two_layers_on_both_side_by_side() -> None:
    fusion, current, cached = Fusion(8), *torch.randn(2, 3, 5, 8)
    assert {name: tuple(value.shape) for name, value in fusion.state_dict().items()} == {
        "0.weight": (8, 16),
        "0.bias": (8,),
        "2.weight": (8, 8),
        "2.bias": (8,),
    }
    expected = nn.Sequential.forward(fusion, torch.cat([current, cached], dim=-1))
    torch.testing.assert_close(fusion(current, cached), expected)
    with torch.no_grad():
        torch.testing.assert_close(fusion(current, cached), expected)
        assert count_flops(fusion, current, cached) == 2 * 15 * 3 * 64


@pytest.mark.parametrize("init", ["random", "host"])
def test_a_residual_predictor_starts_as_reuse(hunyuan: nn.Module, heard: Listening, init: Any) -> None:
    predictor = Predictor.from_host(hunyuan, residual="cache", init=init)
    predictor.calibrate(heard.cached)
    forecast = predictor(heard.current, heard.cached, heard.conditioning)
    assert all(torch.equal(new, old) for new, old in zip(forecast, heard.cached, strict=True))


def test_the_authors_layout_is_fusion_then_the_host_s_single_stream_blocks(
    hunyuan: nn.Module, heard: Listening
) -> None:
    predictor = trained(Predictor.from_host(hunyuan))
    hidden, context = (predictor.fusion_mlp(*both) for both in zip(heard.current, heard.cached, strict=True))
    for block in predictor.blocks:
        assert type(block) is type(hunyuan.single_transformer_blocks[0])
        hidden, context = block(
            hidden,
            context,
            heard.conditioning["temb"],
            heard.conditioning["attention_mask"],
            image_rotary_emb=heard.conditioning["freqs_cis"],
        )
    found = predictor(heard.current, heard.cached, heard.conditioning)
    torch.testing.assert_close(found, (hidden, context))


@pytest.mark.parametrize("part", ["temb", "attention_mask", "freqs_cis"])
def test_every_part_of_the_conditioning_reaches_the_blocks(hunyuan: nn.Module, heard: Listening, part: str) -> None:
    predictor = trained(Predictor.from_host(hunyuan))
    before = predictor(heard.current, heard.cached, heard.conditioning)
    value = heard.conditioning[part]
    other = {"temb": lambda: value + 1, "attention_mask": lambda: None, "freqs_cis": lambda: value[::-1]}[part]()
    after = predictor(heard.current, heard.cached, {**heard.conditioning, part: other})
    assert not torch.allclose(before[0], after[0])


def test_both_inputs_count_and_in_their_order(hunyuan: nn.Module, heard: Listening) -> None:
    for residual in ("none", "cache"):
        predictor = trained(Predictor.from_host(hunyuan, residual=residual))
        forecast = predictor(heard.current, heard.cached, heard.conditioning)[0]
        moved = tuple(features + 1 for features in heard.current)
        assert not torch.allclose(predictor(moved, heard.cached, heard.conditioning)[0], forecast)
        swapped = predictor(heard.cached, heard.current, heard.conditioning)[0]
        assert not torch.allclose(swapped, forecast)


def test_what_blocks_do_not_name_is_no_conditioning(hunyuan: nn.Module, heard: Listening) -> None:
    """Hosts pass their token-replace conditioning by place, also to blocks that ignore it."""
    names = ["temb", "attention_mask", "freqs_cis"]
    assert list(heard.conditioning) == names
    assert Predictor.from_host(hunyuan).config.conditioning == names


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({}, {"stack": "transformer_blocks"}),
        ({"image_condition_type": "token_replace"}, {}),
        ({"image_condition_type": "token_replace"}, {"stack": "transformer_blocks"}),
        ({"num_single_layers": 0}, {"stack": "transformer_blocks"}),
        ({"num_layers": 0}, {}),
    ],
)
def test_blocks_of_any_kind_of_the_family_do(make_hunyuan: Make, make_inputs: Make, changes: Any, options: Any) -> None:
    host = make_hunyuan(**changes)
    heard = Listening(host, make_inputs(host))
    predictor = Predictor.from_host(host, depth=1, **options)
    stack = getattr(host, options.get("stack", "single_transformer_blocks"))
    assert type(predictor.blocks[0]) is type(stack[-1])
    forecast = predictor(heard.current, heard.cached, heard.conditioning)
    assert [features.shape for features in forecast] == [features.shape for features in heard.cached]


def test_blocks_start_as_copies_of_the_host_s_last_ones_and_are_no_longer_the_same(hunyuan: nn.Module) -> None:
    predictor = Predictor.from_host(hunyuan, depth=2, init="host")
    for copied, original in zip(predictor.blocks, hunyuan.single_transformer_blocks[-2:], strict=True):
        for name, value in original.state_dict().items():
            assert torch.equal(copied.state_dict()[name], value)
            assert copied.state_dict()[name].data_ptr() != value.data_ptr()


def test_gradients_reach_all_of_the_predictor_and_nothing_else(hunyuan: nn.Module, heard: Listening) -> None:
    hunyuan.requires_grad_(False)
    predictor = trained(Predictor.from_host(hunyuan, residual="cache"))
    hidden, _ = predictor(heard.current, heard.cached, heard.conditioning)
    hunyuan.proj_out(hunyuan.norm_out(hidden, heard.conditioning["temb"])).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in predictor.parameters())
    assert all(parameter.grad is None for parameter in hunyuan.parameters())


def test_the_scale_is_the_spread_of_each_channel(hunyuan: nn.Module) -> None:
    predictor = Predictor.from_host(hunyuan, residual="cache")
    spread = torch.linspace(1, 4, WIDTH)
    spread[0] = 0.0
    draw = torch.randn(8, 500, WIDTH, generator=torch.Generator().manual_seed(0)) * spread + 7
    predictor.calibrate((draw, 3 * draw[:, :50]))
    torch.testing.assert_close(predictor.scale[0, 1:], spread[1:], rtol=0.05, atol=0)
    torch.testing.assert_close(predictor.scale[1, 1:], 3 * spread[1:], rtol=0.2, atol=0)
    assert 0 < predictor.scale[0, 0] < 0.1  # a silent channel keeps a small voice
    with pytest.raises(ValueError, match="residual='cache'"):
        Predictor.from_host(hunyuan).calibrate((draw, draw))


def test_forecasts_are_in_units_of_the_cache(hunyuan: nn.Module, heard: Listening) -> None:
    """Cached features ten times as large give changes ten times as large."""
    predictor, larger = trained(Predictor.from_host(hunyuan, residual="cache")), tuple(10 * c for c in heard.cached)
    changes = []
    for cached in (heard.cached, larger):
        predictor.calibrate(cached)
        changes.append(predictor(heard.current, cached, heard.conditioning)[0] - cached[0])
    torch.testing.assert_close(changes[1], 10 * changes[0], rtol=1e-3, atol=1e-4)


def test_the_first_forward_that_trains_calibrates_and_no_later_one(hunyuan: nn.Module, heard: Listening) -> None:
    predictor = Predictor.from_host(hunyuan, residual="cache")
    with torch.no_grad():
        predictor(heard.current, heard.cached, heard.conditioning)
    predictor.eval()(heard.current, heard.cached, heard.conditioning)
    assert (predictor.scale == 1).all()
    predictor.train()(heard.current, heard.cached, heard.conditioning)
    calibrated = predictor.scale.clone()
    assert not (calibrated == 1).any()
    again = Predictor.from_host(hunyuan, residual="cache")
    again.load_state_dict(predictor.state_dict())
    again.train()(heard.current, tuple(2 * features for features in heard.cached), heard.conditioning)
    assert torch.equal(again.scale, calibrated)


def test_a_predictor_learns_what_reuse_cannot_know(hunyuan: nn.Module, make_inputs: Make, heard: Listening) -> None:
    """A few steps on one pair bring the forecast of another timestep closer than the cache is."""
    later = Listening(hunyuan, make_inputs(hunyuan, batch=2, seed=1), t=500.0)
    torch.manual_seed(0)
    predictor = Predictor.from_host(hunyuan, residual="cache", init="host")
    optimizer = torch.optim.AdamW(predictor.parameters(), lr=3e-3)

    def distance(features: Features) -> Tensor:
        return (features[0] - later.cached[0]).square().mean()

    for _ in range(50):
        optimizer.zero_grad()
        distance(predictor(later.current, heard.cached, later.conditioning)).backward()
        optimizer.step()
    with torch.no_grad():
        learned = distance(predictor(later.current, heard.cached, later.conditioning))
    assert learned < 0.5 * distance(heard.cached)


@pytest.mark.parametrize("residual", ["none", "cache"])
def test_it_is_the_same_after_a_while_on_disk(
    hunyuan: nn.Module, heard: Listening, tmp_path: Path, residual: Any
) -> None:
    predictor = trained(Predictor.from_host(hunyuan, depth=1, residual=residual)).eval()
    if residual == "cache":
        predictor.calibrate(heard.cached)
    predictor.save_pretrained(tmp_path)
    loaded = Predictor.from_pretrained(tmp_path)
    loaded.matches(hunyuan)
    assert loaded.state_dict().keys() == predictor.state_dict().keys()
    found, expected = (p(heard.current, heard.cached, heard.conditioning) for p in (loaded, predictor))
    torch.testing.assert_close(found, expected)


def test_a_predictor_for_another_host_is_refused(hunyuan: nn.Module, make_hunyuan: Make) -> None:
    predictor = Predictor.from_host(hunyuan)
    predictor.matches(make_hunyuan(seed=9))
    with pytest.raises(
        ValueError, match="This predictor was made for HunyuanVideoTransformer3DModel with num_layers=2"
    ):
        predictor.matches(make_hunyuan(num_layers=1))


def test_a_stored_block_that_is_none_is_refused(hunyuan: nn.Module, tmp_path: Path) -> None:
    Predictor.from_host(hunyuan, depth=1).save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    stored = config.read_text()
    module = "diffusers.models.transformers.transformer_hunyuan_video"
    for name, said in (("os:system", "no torch module"), (f"{module}:Other", "cannot be imported"), ("", "cannot")):
        config.write_text(stored.replace(f"{module}:HunyuanVideoSingleTransformerBlock", name))
        with pytest.raises(ValueError, match=said):
            Predictor.from_pretrained(tmp_path)


def test_families_fused_apart_have_two_networks(hunyuan: nn.Module, heard: Listening) -> None:
    own = adapter_for(hunyuan)
    try:
        describe(Adapter(transformer=own.transformer, stacks=own.stacks, fuse_jointly=False))
        predictor = trained(Predictor.from_host(hunyuan, depth=1, residual="cache"))
        names = {name.split(".")[0] for name in predictor.state_dict()}
        assert names == {"fusion_mlp_img", "fusion_mlp_txt", "gate_img", "gate_txt", "blocks", "scale", "calibrated"}
        before = predictor(heard.current, heard.cached, heard.conditioning)
        nn.init.zeros_(predictor.gate_txt.weight)
        after = predictor(heard.current, heard.cached, heard.conditioning)
        assert torch.equal(before[0], after[0])
        assert not torch.equal(before[1], after[1])
    finally:
        ADAPTERS[own.transformer] = own


def test_its_share_of_the_parameters_at_full_size_is_the_paper_s() -> None:
    from diffusers import HunyuanVideoTransformer3DModel

    with torch.device("meta"):
        host = HunyuanVideoTransformer3DModel()
        assert Predictor.from_host(host).parameter_share(host) == pytest.approx(0.0243, abs=0.0001)


def test_it_takes_the_host_s_dtype(hunyuan: nn.Module, make_inputs: Make) -> None:
    hunyuan.to(torch.bfloat16)
    inputs = {
        name: value.bfloat16() if isinstance(value, Tensor) else value for name, value in make_inputs(hunyuan).items()
    }
    heard = Listening(hunyuan, inputs)
    predictor = trained(Predictor.from_host(hunyuan, residual="cache"))
    assert predictor.dtype == torch.bfloat16
    forecast = predictor(heard.current, heard.cached, heard.conditioning)
    assert all(features.dtype == torch.bfloat16 for features in forecast)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"depth": 0}, "one to 4 blocks, not 0"),
        ({"depth": 5}, "one to 4 blocks, not 5"),
        ({"depth": 4, "init": "host"}, "has 3 blocks, too few to copy 4"),
        ({"stack": "single_blocks"}, "Did you mean 'single_transformer_blocks'"),
        ({"residual": "cached"}, "Did you mean 'cache'"),
        ({"init": "hosts"}, "Did you mean 'host'"),
    ],
)
def test_options_that_make_no_sense_are_refused(hunyuan: nn.Module, options: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Predictor.from_host(hunyuan, **options)


def test_a_host_with_an_adapter_cannot_be_copied(hunyuan: nn.Module) -> None:
    hunyuan.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))
    with pytest.raises(ValueError, match="cannot be copied"):
        Predictor.from_host(hunyuan, init="host")
    Predictor.from_host(hunyuan)
