"""A second time for every flow host: through a hook, or through its own input for r where it has one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMapEulerDiscreteScheduler, UniPCMultistepScheduler
from torch import Tensor, nn

import disca
from disca.adapters import adapter_for
from disca.meanflow.second_time import SecondTime
from tests.families import FAMILIES, redraw
from tests.pipelines import PIPELINES, Sampler, euler, unipc

WITHOUT = [name for name in FAMILIES if name not in ("cogvideox", "anyflow", "hunyuan_video_15_mean_flow")]
"""Families of flows that have no input for r."""

STOCK = [
    name
    for name in PIPELINES
    if not name.startswith(("CogVideoX", "AnyFlow")) and not name.endswith(("UniPC", "two_experts"))
]
"""Stock pipelines of such hosts, under Euler steps."""


@pytest.fixture(params=WITHOUT)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@torch.no_grad()
def velocity(name: str, host: nn.Module, t: float = 0.75, r: float | None = None) -> Tensor:
    return FAMILIES[name].call(host, FAMILIES[name].inputs(host, batch=2), t, r)


def at(second: SecondTime, t: float, r: float) -> Any:
    return second.at(torch.tensor([t]), torch.tensor([r]))


def trained(second: SecondTime) -> SecondTime:
    redraw(second, seed=3)
    return second


@pytest.mark.parametrize("read", ["interval", "r"])
def test_at_first_the_host_is_itself_whatever_r_is(name: str, read: Any) -> None:
    host = FAMILIES[name].transformer()
    before, second = velocity(name, host), SecondTime.for_host(host, input=read)
    for r in (0.75, 0.3, 0.0):
        with second.attach(host), at(second, 0.75, r):
            assert torch.equal(velocity(name, host), before)


def test_at_first_the_averaged_host_is_itself_where_r_is_t(name: str) -> None:
    """So it embeds r as the host embeds t: in the host's units, through the host's sinusoid."""
    host = FAMILIES[name].transformer()
    before, second = velocity(name, host), SecondTime.for_host(host, layout="average")
    with second.attach(host):
        with at(second, 0.75, 0.75):
            torch.testing.assert_close(velocity(name, host), before, rtol=1e-4, atol=1e-5)
        with at(second, 0.75, 0.3):
            assert not torch.allclose(velocity(name, host), before, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("layout", ["sum", "average"])
def test_a_bare_host_is_told_by_the_timesteps_of_the_run(name: str, layout: Any) -> None:
    host = FAMILIES[name].transformer()
    second = trained(SecondTime.for_host(host, layout=layout))
    second.install(host)
    times = [1.0, 0.75, 0.4, 0.0]
    with disca.attach(host, timesteps=[adapter_for(host).timestep_at(t) for t in times[:-1]]):
        told = [velocity(name, host, t) for t in times[:-1]]
    for t, r, found in zip(times, times[1:], told, strict=False):
        with at(second, t, r):
            torch.testing.assert_close(found, velocity(name, host, t))
        with at(second, t, 0.9 * r + 0.05):
            assert not torch.allclose(found, velocity(name, host, t), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["wan_per_token", "ltx_per_token", "hunyuan_video_token_replace"])
def test_clean_tokens_stay_where_they_are(name: str) -> None:
    """Those of a given first frame are at time 0, from which no step goes anywhere."""
    host = FAMILIES[name].transformer()
    second, embedded = trained(SecondTime.for_host(host)), []
    second.register_forward_pre_hook(lambda module, times: embedded.append(torch.stack(times)))
    with second.attach(host), at(second, 0.75, 0.5):
        velocity(name, host)
    rows = torch.cat(embedded, dim=1).T
    assert {tuple(row) for row in rows.tolist()} == {(0.75, 0.5), (0.0, 0.0)}
    assert sum(row == [0.0, 0.0] for row in rows.tolist()) * 2 == len(rows)


@pytest.mark.parametrize("stock", STOCK)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_stock_pipeline_s_scheduler_tells_the_times(stock: str, dtype: torch.dtype) -> None:
    sampler = Sampler(PIPELINES[stock])
    sampler.pipe.to(dtype=dtype)
    second, seen = SecondTime.for_host(sampler.pipe.transformer), []
    second.register_forward_pre_hook(lambda module, times: seen.append(torch.stack(times)[:, -1]))
    second.install(sampler.pipe.transformer)
    with disca.attach(sampler.pipe, disca.reuse(every=2)):
        sampler(steps=6)
    sigmas = sampler.pipe.scheduler.sigmas.double()
    sigmas = 1 - sigmas if sampler.pipe.scheduler.config.invert_sigmas else sigmas
    pairs = torch.stack([sigmas[:-1], sigmas[1:]], dim=1)
    told = [times for times in seen if times.any()]  # without those of clean first frames
    assert torch.equal(torch.stack(told), pairs.repeat_interleave(PIPELINES[stock].branches, dim=0))
    assert pairs[0, 0] > 0.9
    assert pairs[-1, 1] == 0


@pytest.mark.parametrize("stock", ["WanPipeline", "MochiPipeline", "FluxPipeline"])
def test_a_stock_pipeline_integrates_mean_velocities(stock: str) -> None:
    """Its steps are x + (r - t) u(x, t, r) with the u of the host's own convention."""
    sampler = Sampler(PIPELINES[stock])
    host, trajectory = sampler.pipe.transformer, []
    second = trained(SecondTime.for_host(host))
    second.install(host)
    calls: list[tuple[tuple[Any, ...], dict[str, Any], Tensor]] = []
    host.register_forward_hook(lambda m, args, kwargs, out: calls.append((args, kwargs, out[0])), with_kwargs=True)

    def follow(pipe: Any, step: int, timestep: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        trajectory.append(tensors["latents"].clone())
        return tensors

    scale = "true_cfg_scale" if "Flux" in stock else "guidance_scale"
    with disca.attach(sampler.pipe):
        sampler(steps=3, callback_on_step_end=follow, **{scale: 1.0})
    plain, told = list(calls), sampler.pipe.scheduler.sigmas
    assert len(plain) == 3
    for step, (args, kwargs, out) in enumerate(plain):
        t, r = told[step : step + 2].tolist()
        times = (1 - t, 1 - r) if adapter_for(host).time_ascends else (t, r)
        with torch.no_grad(), second.at(*(torch.tensor([time]) for time in times)):
            torch.testing.assert_close(host(*args, **kwargs)[0], out, rtol=1e-4, atol=1e-5)
        if step:
            expected = trajectory[step - 1] + (r - t) * out
            torch.testing.assert_close(trajectory[step], expected, rtol=1e-4, atol=1e-5)


def test_it_is_saved_beside_the_host(name: str, tmp_path: Path) -> None:
    host = FAMILIES[name].transformer()
    second = trained(SecondTime.for_host(host, layout="average"))
    second.save_pretrained(tmp_path)
    loaded = SecondTime.from_pretrained(tmp_path)
    found = []
    for one in (second, loaded):
        with one.attach(host), at(one, 0.75, 0.3):
            found.append(velocity(name, host))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("name", [name for name in WITHOUT if name != "hunyuan_video_15"])
def test_it_may_become_a_part_of_the_host(name: str) -> None:
    host = FAMILIES[name].transformer()
    second = trained(SecondTime.for_host(host))
    second.install(host)
    with at(second, 0.75, 0.3):
        before = velocity(name, host)
        second.adopt(host)
        assert torch.equal(velocity(name, host), before)
    assert any(f"{adapter_for(host).time_embedder}_r." in key for key in host.state_dict())


def test_what_is_no_flow_has_none() -> None:
    with pytest.raises(ValueError, match="CogVideoXTransformer3DModel is not sampled along a flow"):
        SecondTime.for_host(FAMILIES["cogvideox"].transformer())


@pytest.mark.parametrize("name", ["anyflow", "hunyuan_video_15_mean_flow"])
def test_a_host_with_its_own_needs_no_other(name: str) -> None:
    with pytest.raises(ValueError, match="takes r itself, as"):
        SecondTime.for_host(FAMILIES[name].transformer())


def student(stock: str) -> Sampler:
    """A stock pipeline whose host takes r itself."""
    sampler = Sampler(PIPELINES[stock])
    if not stock.startswith("AnyFlow"):
        sampler.pipe = PIPELINES[stock].build(0, use_meanflow=True)
        sampler.pipe.set_progress_bar_config(disable=True)
    return sampler


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("stock", ["HunyuanVideo15Pipeline", "HunyuanVideo15ImageToVideoPipeline", "AnyFlowPipeline"])
def test_a_host_that_takes_r_gets_it(stock: str, dtype: torch.dtype) -> None:
    """From the scheduler where the pipeline leaves it empty (the first does), at full precision in any dtype."""
    sampler, seen = student(stock), []
    host = sampler.pipe.transformer.to(dtype)
    sampler.pipe.to(dtype=dtype)
    with disca.attach(sampler.pipe, disca.reuse(every=2)):
        embedder = host.condition_embedder if stock.startswith("AnyFlow") else host.time_embed
        embedder.register_forward_pre_hook(
            lambda module, args, kwargs: seen.append(kwargs.get("timestep_r", args[-1] if len(args) < 3 else args[1])),
            with_kwargs=True,
        )
        sampler(steps=4)
    expected = (1000 * sampler.pipe.scheduler.sigmas[1:]).repeat_interleave(PIPELINES[stock].branches)
    found = torch.stack([r.flatten()[0] for r in seen])
    if stock == "HunyuanVideo15Pipeline":
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected.float())
    else:  # what the pipeline passes itself stays as it was
        assert torch.equal(found, expected.to(found.dtype))


def test_the_r_that_a_pipeline_is_given_is_that_of_a_call_with_it() -> None:
    sampler, plain = student("HunyuanVideo15Pipeline"), student("HunyuanVideo15Pipeline")
    host = plain.pipe.transformer
    steps = iter(range(8))

    def add(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        r = 1000 * plain.pipe.scheduler.sigmas[next(steps) // 2 + 1]
        return args, {**kwargs, "timestep_r": r.expand(1)}

    without = plain(steps=4)
    host.register_forward_pre_hook(add, with_kwargs=True)
    expected = plain(steps=4)
    with disca.attach(sampler.pipe, disca.reuse(every=1)):
        torch.testing.assert_close(sampler(steps=4), expected)
    assert not torch.allclose(without, expected, rtol=1e-3, atol=1e-3)


def test_a_bare_host_that_takes_r_gets_it_too() -> None:
    for name in ("anyflow", "hunyuan_video_15_mean_flow"):
        host = FAMILIES[name].transformer()
        with disca.attach(host, timesteps=[1000.0, 600.0]):
            for t, r in ((1.0, 0.6), (0.6, 0.0)):
                told, given = velocity(name, host, t), velocity(name, host, t, r)
                torch.testing.assert_close(told, given)
                assert not torch.allclose(told, velocity(name, host, t, 0.5 * r + 0.1), rtol=1e-3, atol=1e-4)


def test_an_r_that_is_left_empty_by_place_is_filled_in() -> None:
    name = "hunyuan_video_15_mean_flow"
    host = FAMILIES[name].transformer()
    given = FAMILIES[name].inputs(host)
    places = ("hidden_states", "timestep", "encoder_hidden_states", "encoder_attention_mask", "timestep_r")

    @torch.no_grad()
    def call(r: Tensor | None) -> Tensor:
        named = {**given, "timestep": torch.tensor([600.0]), "timestep_r": r}
        placed = [named.pop(place) for place in places]
        return host(*placed, **named, return_dict=False)[0]

    expected, other = call(torch.tensor([250.0])), call(torch.tensor([100.0]))
    with disca.attach(host, timesteps=[600.0, 250.0]):
        torch.testing.assert_close(call(None), expected)
        torch.testing.assert_close(call(torch.tensor([100.0])), other)
    assert not torch.allclose(expected, other, rtol=1e-3, atol=1e-4)


def second_times(sampler: Sampler) -> None:
    SecondTime.for_host(sampler.pipe.transformer).install(sampler.pipe.transformer)


@pytest.mark.parametrize("stock", STOCK)
def test_a_student_under_a_multistep_scheduler_is_refused(stock: str) -> None:
    sampler = Sampler(PIPELINES[stock])
    second_times(sampler)
    options = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
    sampler.pipe.scheduler = UniPCMultistepScheduler(**options)
    with pytest.raises(ValueError, match=r"UniPCMultistepScheduler does not take\. Give .*FlowMatchEulerDiscrete"):
        disca.attach(sampler.pipe, disca.reuse(every=2))


@pytest.mark.parametrize("stock", ["HunyuanVideo15Pipeline", "HunyuanVideo15ImageToVideoPipeline", "AnyFlowPipeline"])
def test_so_is_one_that_takes_r_itself(stock: str) -> None:
    sampler = student(stock)
    own, sampler.pipe.scheduler = sampler.pipe.scheduler, unipc()
    with pytest.raises(ValueError, match="UniPCMultistepScheduler does not take"):
        disca.attach(sampler.pipe, disca.reuse(every=2))
    sampler.pipe.scheduler = own
    with disca.attach(sampler.pipe, disca.reuse(every=2)):
        sampler.pipe.scheduler = unipc()  # while attached
        with pytest.raises((ValueError, TypeError), match="UniPCMultistepScheduler"):  # AnyFlow's refuses it itself
            sampler()


def test_a_host_that_counts_upward_needs_a_scheduler_that_does() -> None:
    sampler = Sampler(PIPELINES["MochiPipeline"])
    second_times(sampler)
    sampler.pipe.scheduler = euler()
    with pytest.raises(ValueError, match=r"invert_sigmas=False\. Give .* with invert_sigmas=True"):
        disca.attach(sampler.pipe)
    sampler = Sampler(PIPELINES["WanPipeline"])
    second_times(sampler)
    sampler.pipe.scheduler = euler(invert_sigmas=True)
    with pytest.raises(ValueError, match=r"invert_sigmas=True\. Give .* with invert_sigmas=False"):
        disca.attach(sampler.pipe)


def test_a_flow_map_scheduler_is_welcome() -> None:
    sampler = Sampler(PIPELINES["WanPipeline"])
    second_times(sampler)
    sampler.pipe.scheduler = FlowMapEulerDiscreteScheduler(shift=3.0)
    with disca.attach(sampler.pipe, disca.reuse(every=2)):
        assert sampler(steps=3).isfinite().all()
