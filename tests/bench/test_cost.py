"""What is derived from a configuration is what the model really does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

import disca
from disca.adapters import adapter_for
from disca.bench.cost import HostCost, cost_of
from disca.bench.operations import Cost, Counting, flops
from disca.bench.shares import forecast_shares
from disca.bench.sizes import FEEDS, Size, feed_of, inputs_of
from disca.metrics.flops import count_flops
from disca.schedules import Schedule
from tests.families import FAMILIES

BATCHED_TIMES = ("wan_per_token", "ltx_per_token")  # the same hosts as without
NAMES = [name for name in FAMILIES if name not in BATCHED_TIMES]
DISCA_20 = Schedule(20, (0, 1, 2, 5, 9, 13, 17, 19))
DISCA_8 = Schedule(8, (0, 2, 4, 7))


def small_size(host: Any) -> Size:
    """A few tokens."""
    feed = feed_of(adapter_for(host))
    spatial = feed.spatial(host.config) if callable(feed.spatial) else feed.spatial
    frames = 1 if "2DModel" in type(host).__name__ else 1 + feed.temporal
    return Size(8 * spatial, 4 * spatial, frames)


def counted(host: Any, size: Size, text: int | None) -> tuple[list[int], int]:
    """Operations of a full and a forecast step of the real model, and the bytes it keeps."""
    adapter, predictor = adapter_for(host), disca.Predictor.from_host(host)
    inputs = inputs_of(adapter, host.config, size, torch.randn, text)
    steps = [adapter.timestep_at(time) for time in (1.0, 0.5)]
    with torch.no_grad(), disca.attach(host, disca.disca(predictor, full_steps=(0,)), timesteps=steps) as run:
        return [count_flops(host, **inputs.at(step)) for step in steps], run.summary().bytes_held


@pytest.mark.parametrize("name", NAMES)
def test_operations_and_cache_are_those_of_the_real_model(name: str) -> None:
    host = FAMILIES[name].transformer()
    size = small_size(host)
    text = host.config.get("max_text_seq_length")  # CogVideoX knows the places of so many
    found = cost_of(type(host).__name__, host.config, size, text=text, dtype=torch.float32)
    operations, held = counted(host, size, text)
    assert [found.full.flops, found.forecast.flops] == operations
    assert found.cache_bytes == held
    assert 0 <= found.extra_bytes <= 1.1 * held  # beside the predictor's weights
    widths = adapter_for(host).widths(host.config)
    assert held == 4 * sum(tokens * width for tokens, width in zip(found.tokens, widths, strict=True))
    assert 0 < found.full.attention < found.full.flops
    half = cost_of(type(host).__name__, host.config, size, text=text)
    assert (half.full.flops, 2 * half.cache_bytes) == (found.full.flops, found.cache_bytes)


def test_every_policy_has_a_cost() -> None:
    """Reuse keeps as much as DisCa and spends nothing in the place of the trunk; a line keeps twice as much."""
    host = FAMILIES["hunyuan_video"].make()
    name, size = type(host).__name__, small_size(host)
    learned = cost_of(name, host.config, size)
    reuse = cost_of(name, host.config, size, policy=lambda host: disca.reuse(full_steps=(0,)))
    assert (reuse.full.flops, reuse.full.attention) == (learned.full.flops, learned.full.attention)
    assert reuse.full.bytes == pytest.approx(learned.full.bytes, abs=64)  # the clock rounds times once in a process
    assert reuse.forecast.flops < learned.forecast.flops
    assert reuse.cache_bytes == learned.cache_bytes
    assert reuse.predictor_bytes == 0 < learned.predictor_bytes
    line = cost_of(name, host.config, size, policy=lambda host: disca.taylor(every=2), steps=4)
    assert line.cache_bytes == 2 * reuse.cache_bytes
    with pytest.raises(ValueError, match="forecasts none of the first 2 steps"):
        cost_of(name, host.config, size, policy=lambda host: disca.reuse(full_steps=(0, 1)))


def test_operations_move_what_they_read_and_write() -> None:
    with FakeTensorMode() as fake:
        x, weight = torch.empty(7, 5), torch.empty(3, 5)
        row, heads = torch.empty(1, 3), torch.empty(1, 2, 11, 4)
        works = {
            "product": lambda: F.linear(x, weight),
            "sum": lambda: F.linear(x, weight) + row.expand(7, 3),
            "views": lambda: x.view(5, 7).t()[None],
            "attention": lambda: F.scaled_dot_product_attention(heads, heads, heads),
        }
        found = {}
        for name, work in works.items():
            with Counting(fake) as counting:
                work()
            found[name] = counting.cost
    assert found["product"] == Cost(2 * 7 * 5 * 3, 4 * (35 + 15 + 21))
    assert found["sum"] == found["product"] + Cost(0, 4 * (21 + 3 + 21))
    assert found["views"] == Cost()
    assert found["attention"] == Cost(4 * 2 * 11 * 11 * 4, 4 * 4 * 88, 4 * 2 * 11 * 11 * 4)


def test_a_paper_s_numbers_at_full_size() -> None:
    """HunyuanVideo at 480x640, 65 frames: 29 773 TFLOP for 50 steps (arXiv 2608.17973, table 3);
    at 704x704, 129 frames: 63 888 + 256 tokens, and 11.9 and about 24 times fewer operations (arXiv 2602.05449)."""
    small = cost_of("HunyuanVideoTransformer3DModel", {"guidance_embeds": True}, Size(640, 480, 65))
    assert 50 * small.full.flops == pytest.approx(29773e12, rel=0.001)
    found = cost_of("HunyuanVideoTransformer3DModel", {"guidance_embeds": True}, Size(704, 704, 129))
    assert found.tokens == (63888, 256)
    assert found.extra_bytes == found.cache_bytes == 2 * 3072 * (63888 + 256)
    assert found.speedup(DISCA_20, flops) == pytest.approx(11.9, abs=0.05)
    assert found.speedup(DISCA_8, flops) == pytest.approx(24.2, abs=0.05)


def test_a_schedule_costs_its_steps() -> None:
    cost = HostCost(
        full=Cost(100, 10, 50),
        forecast=Cost(4, 2, 1),
        parameter_bytes=0,
        predictor_bytes=0,
        cache_bytes=0,
        extra_bytes=0,
        tokens=(1,),
    )
    assert cost.run(DISCA_8) == Cost(416, 48, 204)
    assert cost.run(DISCA_8, passes=2) == Cost(832, 96, 408)
    assert cost.speedup(DISCA_8, flops) == 100 * 100 / 416
    assert cost.speedup(DISCA_8, lambda cost: cost.bytes, over=50) == 50 * 10 / 48
    assert cost.speedup(Schedule(50, tuple(range(50))), flops, passes=2) == 1


def test_text_tokens_can_be_given() -> None:
    host = FAMILIES["hunyuan_video"].make()
    few, many = (cost_of(type(host).__name__, host.config, Size(64, 64, 5), text=n) for n in (8, 16))
    assert [few.tokens[1], many.tokens[1]] == [8, 16]
    assert few.full.flops < many.full.flops


def test_stock_defaults_are_the_pipelines_own() -> None:
    from inspect import signature

    import diffusers

    pipelines = {
        "HunyuanVideoTransformer3DModel": "HunyuanVideoPipeline",
        "HunyuanVideoFramepackTransformer3DModel": "HunyuanVideoFramepackPipeline",
        "HunyuanVideo15Transformer3DModel": "HunyuanVideo15Pipeline",
        "WanTransformer3DModel": "WanPipeline",
        "AnyFlowTransformer3DModel": "AnyFlowPipeline",
        "CogVideoXTransformer3DModel": "CogVideoXPipeline",
        "LTXVideoTransformer3DModel": "LTXPipeline",
        "MochiTransformer3DModel": "MochiPipeline",
        "FluxTransformer2DModel": "FluxPipeline",
        "QwenImageTransformer2DModel": "QwenImagePipeline",
    }
    assert pipelines.keys() == FEEDS.keys() == disca.adapters.ADAPTERS.keys()
    for host, pipeline in pipelines.items():
        parameters = signature(getattr(diffusers, pipeline).__call__).parameters
        assert FEEDS[host].steps == parameters["num_inference_steps"].default, host
        if "max_sequence_length" in parameters:
            assert FEEDS[host].text == parameters["max_sequence_length"].default, host


@pytest.mark.parametrize("text", ["704", "704x704x", "x704x704", "0x704x1", "704 by 704"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="size"):
        Size.parse(text)


def test_sizes_read_and_print() -> None:
    assert Size.parse("704x640x129") == Size(704, 640, 129)
    assert [str(Size.parse(text)) for text in ("1024x512", "704×704×5")] == ["1024x512", "704x704x5"]


def test_a_size_that_the_model_cannot_have_is_refused() -> None:
    for size in (Size(700, 704, 129), Size(704, 700, 129), Size(704, 704, 128)):
        with pytest.raises(ValueError, match=r"that 16 divides, and 4 n \+ 1 frames"):
            cost_of("HunyuanVideoTransformer3DModel", {}, size)


def test_modules_share_all_of_a_forecast_step() -> None:
    """Products are done by modules of the host outside its blocks and of the predictor, and by nothing else."""
    host = FAMILIES["hunyuan_video_15"].make()
    name, size = type(host).__name__, small_size(host)
    found = forecast_shares(name, host.config, size)
    step = found.pop("step")
    assert step.flops == cost_of(name, host.config, size).forecast.flops
    outermost = [one for path, one in found.items() if path.count(".") == 1 and path != "predictor.blocks"]
    outermost += [one for path, one in found.items() if path.startswith("predictor.blocks.") and path.count(".") == 2]
    assert sum(one.flops for one in outermost) == step.flops
    assert not any(path.startswith("host.transformer_blocks") for path in found)
