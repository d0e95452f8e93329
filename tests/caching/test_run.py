"""Runs: attaching, and telling step, branch and beginning."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

import disca
from disca.adapters import adapter_for
from disca.meanflow.second_time import SecondTime

TIMESTEPS = [1000.0, 800.0, 500.0, 200.0]


@torch.no_grad()
def call(transformer: nn.Module, inputs: dict[str, Any], timestep: float, branch: str | None = None) -> Tensor:
    given = {**inputs, "timestep": torch.full((len(inputs["hidden_states"]),), timestep)}
    if branch is None:
        return transformer(**given)[0]
    with transformer.cache_context(branch):
        return transformer(**given)[0]


@pytest.fixture
def inputs(any_hunyuan: nn.Module, make_inputs: Any) -> dict[str, Any]:
    return make_inputs(any_hunyuan)


def test_moments(any_hunyuan: nn.Module, inputs: dict[str, Any]) -> None:
    seen = []
    with disca.attach(any_hunyuan, disca.reuse(every=2), timesteps=TIMESTEPS) as run:
        for timestep in TIMESTEPS:
            for branch in ("cond", "uncond"):
                call(any_hunyuan, inputs, timestep, branch)
                seen.append(run.moment)
    times = [1, 0.8, 0.5, 0.2, 0]
    assert seen == [
        disca.Moment(step=step, steps=4, t=times[step], r=times[step + 1], branch=branch, grid=(3, 4, 4))
        for step in range(4)
        for branch in ("cond", "uncond")
    ]


def test_nameless_calls_within_a_step_are_branches(any_hunyuan: nn.Module, inputs: dict[str, Any]) -> None:
    with disca.attach(any_hunyuan, disca.reuse(full_steps=(0, 2)), timesteps=TIMESTEPS) as run:
        for timestep in TIMESTEPS:
            for _ in range(3):
                call(any_hunyuan, inputs, timestep)
    assert run.summary().branches == dict.fromkeys("012", disca.caching.summary.Steps(full=(0, 2), forecast=(1, 3)))


def test_a_branch_that_comes_late_is_full_at_first(any_hunyuan: nn.Module, inputs: dict[str, Any]) -> None:
    with disca.attach(any_hunyuan, disca.reuse(full_steps=(0,)), timesteps=TIMESTEPS) as run:
        for step, timestep in enumerate(TIMESTEPS):
            call(any_hunyuan, inputs, timestep, "cond")
            if step >= 1:
                call(any_hunyuan, inputs, timestep, "uncond")
    assert {name: steps.full for name, steps in run.summary().branches.items()} == {"cond": (0,), "uncond": (1,)}


def test_a_run_that_begins_later_is_full_at_first(any_hunyuan: nn.Module, inputs: dict[str, Any]) -> None:
    with disca.attach(any_hunyuan, disca.reuse(full_steps=(0,)), timesteps=TIMESTEPS) as run:
        for timestep in TIMESTEPS[1:]:
            call(any_hunyuan, inputs, timestep)
    assert run.summary().branches["0"].full == (1,)


def test_a_scheduler_set_anew_is_a_new_run(any_hunyuan: nn.Module, inputs: dict[str, Any]) -> None:
    """Also after nameless calls that were given up within the first step."""
    scheduler = FlowMatchEulerDiscreteScheduler()
    pipe = SimpleNamespace(transformer=any_hunyuan, scheduler=scheduler)
    with disca.attach(pipe, disca.reuse(every=2)) as run:
        for calls in (1, 1, 3):
            scheduler.set_timesteps(4)
            for _ in range(calls):
                call(any_hunyuan, inputs, 1000)
            assert len(run.summary().branches) == calls


def test_memory_is_counted_and_let_go(any_hunyuan: nn.Module, inputs: dict[str, Any]) -> None:
    tokens, width = 3 * 4 * 4 + 6, 32
    one = 4 * tokens * width
    for policy, tensors in ((disca.reuse(every=2), 1), (disca.taylor(every=2, order=1), 2)):
        with disca.attach(any_hunyuan, policy, timesteps=TIMESTEPS) as run:
            held = []
            for timestep in TIMESTEPS:
                call(any_hunyuan, inputs, timestep)
                held.append(run.bytes_held())
        assert held == [one, one, tensors * one, 0]
        assert run.summary().bytes_held == tensors * one
    with disca.attach(any_hunyuan, disca.reuse(every=2), timesteps=TIMESTEPS) as run:
        call(any_hunyuan, inputs, 1000)
    assert run.bytes_held() == 0


def test_the_end_of_a_pipeline_lets_go(any_hunyuan: nn.Module, inputs: dict[str, Any]) -> None:
    with disca.attach(any_hunyuan, disca.reuse(every=2), timesteps=TIMESTEPS) as run:
        call(any_hunyuan, inputs, 1000)
        any_hunyuan._reset_stateful_cache()  # what pipelines do at their end
        assert run.bytes_held() == 0
        assert run.summary().transformer_evaluations == 1


def test_a_student_aside_before_the_first_call_is_refused(hunyuan: nn.Module, make_inputs: Any) -> None:
    """It would be told times that nobody knows."""
    inputs = make_inputs(hunyuan)
    with SecondTime.for_host(hunyuan).attach(hunyuan), disca.attach(hunyuan, timesteps=TIMESTEPS) as run:
        with run.aside(), pytest.raises(RuntimeError, match="aside before the first call"):
            call(hunyuan, inputs, TIMESTEPS[0])
        call(hunyuan, inputs, TIMESTEPS[0])
        with run.aside():
            call(hunyuan, inputs, TIMESTEPS[0])


def test_calls_aside_are_full_and_leave_no_trace(any_hunyuan: nn.Module, inputs: dict[str, Any]) -> None:
    whole = [call(any_hunyuan, inputs, timestep) for timestep in TIMESTEPS]
    with disca.attach(any_hunyuan, disca.reuse(every=2), timesteps=TIMESTEPS) as run:
        expected = [call(any_hunyuan, inputs, timestep) for timestep in TIMESTEPS]
        for timestep, forecast, full in zip(TIMESTEPS, expected, whole, strict=True):
            with run.aside():
                assert torch.equal(call(any_hunyuan, inputs, timestep), full)
            assert torch.equal(call(any_hunyuan, inputs, timestep), forecast)
    assert run.summary().branches["0"].full == (0, 2)


def test_a_summary_reads_well(any_hunyuan: nn.Module, inputs: dict[str, Any]) -> None:
    with disca.attach(any_hunyuan, disca.reuse(every=3), timesteps=TIMESTEPS) as run:
        assert str(run.summary()) == "Nothing was sampled yet."
        for timestep in TIMESTEPS:
            call(any_hunyuan, inputs, timestep, "cond")
    summary = run.summary()
    lines = str(summary).splitlines()
    assert lines[0] == "2 transformer evaluations, 2 forecasts"
    assert lines[1] == "  cond: full at 0 3; forecast at 1 2"
    assert summary.seconds_full > summary.seconds_forecast > 0
    assert lines[-1] == "held: 0.01 MB at most"


def test_the_gate_is_asked_once_per_step(any_hunyuan: nn.Module, inputs: dict[str, Any]) -> None:
    asked = []

    class Curious(disca.caching.gates.Gate):
        def start(self) -> list[int]:
            return []

        def opens(self, memory: list[int], moment: disca.Moment, call: Any) -> bool:
            memory.append(moment.step)
            asked.append((moment.step, moment.branch, tuple(memory)))
            return moment.step % 2 == 0

    rule = disca.Rule(disca.caching.sites.Trunk(), Curious(), disca.caching.forecasts.Reuse())
    with disca.attach(any_hunyuan, (rule,), timesteps=TIMESTEPS[:2]):
        for timestep in TIMESTEPS[:2]:
            for branch in ("a", "b"):
                call(any_hunyuan, inputs, timestep, branch)
    assert asked == [(0, "a", (0,)), (1, "a", (0, 1))]


def test_gradient_checkpointing_calls_the_trunk_too(any_hunyuan: nn.Module, inputs: dict[str, Any]) -> None:
    timestep = torch.tensor([1000.0])
    plain = any_hunyuan(timestep=timestep, **inputs)[0]
    any_hunyuan.enable_gradient_checkpointing()
    with disca.attach(any_hunyuan, disca.reuse(every=1), timesteps=TIMESTEPS) as run:
        assert torch.equal(any_hunyuan(timestep=timestep, **inputs)[0], plain)
    assert run.summary().transformer_evaluations == 1


def test_a_schedule_for_another_step_count_runs_no_block(any_hunyuan: nn.Module, inputs: dict[str, Any]) -> None:
    any_hunyuan.transformer_blocks[0].register_forward_pre_hook(lambda *_: 1 / 0)
    policy = disca.reuse(full_steps=disca.Schedule(8, (0, 2, 4, 7)))
    with disca.attach(any_hunyuan, policy, timesteps=TIMESTEPS), pytest.raises(ValueError, match="is for 8 steps but"):
        call(any_hunyuan, inputs, 1000)


def test_what_cannot_be_attached_is_refused(any_hunyuan: nn.Module) -> None:
    policy = disca.reuse(every=2)
    with pytest.raises(ValueError, match="No adapter describes Linear"):
        disca.attach(nn.Linear(1, 1), policy, timesteps=TIMESTEPS)
    with pytest.raises(ValueError, match="so timesteps are needed"):
        disca.attach(any_hunyuan, policy)
    with pytest.raises(ValueError, match="A policy is a tuple of rules"):
        disca.attach(any_hunyuan, disca.reuse, timesteps=TIMESTEPS)
    with (
        disca.attach(any_hunyuan, timesteps=TIMESTEPS),
        pytest.raises(ValueError, match=r"attached to this .* already"),
    ):
        disca.attach(any_hunyuan, policy, timesteps=TIMESTEPS)
    disca.attach(any_hunyuan, policy, timesteps=TIMESTEPS).detach()


def test_a_predictor_for_another_host_is_refused_before_anything_is_touched(
    any_hunyuan: nn.Module, make_hunyuan: Any
) -> None:
    before = dict(vars(any_hunyuan))
    stranger = disca.Predictor.from_host(make_hunyuan(num_attention_heads=4))
    with pytest.raises(ValueError, match="HunyuanVideoTransformer3DModel"):
        disca.attach(any_hunyuan, disca.disca(stranger, every=2), timesteps=TIMESTEPS)
    assert vars(any_hunyuan) == before


def test_the_adapter_finds_the_blocks_while_attached(any_hunyuan: nn.Module) -> None:
    blocks = adapter_for(any_hunyuan).blocks(any_hunyuan)
    with disca.attach(any_hunyuan, timesteps=TIMESTEPS):
        assert adapter_for(any_hunyuan).blocks(any_hunyuan) == blocks


def test_detaching_twice_does_nothing(any_hunyuan: nn.Module) -> None:
    run = disca.attach(any_hunyuan, timesteps=TIMESTEPS)
    run.detach()
    with disca.attach(any_hunyuan, timesteps=TIMESTEPS) as other:
        run.detach()
        assert list(any_hunyuan.single_transformer_blocks) == []
    assert other is not run


def test_a_host_without_a_first_stack_has_a_trunk(make_hunyuan: Any, make_inputs: Any) -> None:
    transformer = make_hunyuan(num_layers=0)
    inputs = make_inputs(transformer)
    plain = call(transformer, inputs, 1000)
    with disca.attach(transformer, disca.reuse(every=2), timesteps=TIMESTEPS) as run:
        assert torch.equal(call(transformer, inputs, 1000), plain)
        call(transformer, inputs, 800)
    assert run.summary().branches["0"].forecast == (1,)
