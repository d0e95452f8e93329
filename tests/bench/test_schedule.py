"""Computed schedules: what is measured is what runs err, what is chosen is what was asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import disca
from disca.bench.calibrate import from_calibration
from disca.bench.journal import Journal
from disca.bench.schedule import SCHEDULED, STANDS_FOR, Budget, ScheduleCalibration, Search, calibrate_schedule
from disca.bench.trying import trying
from disca.bundle import Bundle
from disca.cli import main
from disca.planning import NONE
from disca.schedules import Schedule
from tests import methods
from tests.families import redraw
from tests.pipelines import PIPELINES, Interrupted, Sampler

STEPS = 5
ORDER_ONE = {"hicache": {"order": 1}, "freqca": {"order": 1}, "taylorseer_lite": {"order": 1}}
"""With more, a table takes steps before the last two full ones to be evenly spaced."""


def policy(method: str, host: Any, full_steps: tuple[int, ...]) -> Any:
    options: dict[str, Any] = ORDER_ONE.get(method, {})
    if method in methods.PREDICTORS:
        options = {"predictor": methods.policy(method, host, every=2)[0].how.predictor}  # type: ignore[attr-defined]
    return disca.from_name(method.partition("/")[0], **options, full_steps=full_steps)


@contextmanager
def calls_of(sampler: Sampler, forced: list[Tensor] | None = None) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Latents that go into the transformers and velocities that come out; ``forced`` latents go in instead."""
    entering: list[Tensor] = []
    leaving: list[Tensor] = []

    def before(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        assert "hidden_states" in kwargs
        entering.append(kwargs["hidden_states"].clone())
        if forced is not None:
            return args, {**kwargs, "hidden_states": forced[len(entering) - 1]}
        return None

    def after(module: nn.Module, args: Any, output: Any) -> None:
        leaving.append(output[0].clone())

    handles = []
    for host in sampler.transformers:
        handles += [host.register_forward_pre_hook(before, with_kwargs=True), host.register_forward_hook(after)]
    try:
        yield entering, leaving
    finally:
        for handle in handles:
            handle.remove()


def errors(sampler: Sampler, rules: Any, branches: int) -> list[list[Tensor]]:
    """Errors of the velocities, by step and branch, of a run with a policy on the states of the full run."""
    with calls_of(sampler) as (states, exact):
        sampler(steps=STEPS)
    with disca.attach(sampler.pipe, rules), calls_of(sampler, states) as (_, forecast):
        sampler(steps=STEPS)
    found = [one - other for one, other in zip(forecast, exact, strict=True)]
    return [found[step * branches : (step + 1) * branches] for step in range(STEPS)]


def rms(tensors: list[Tensor]) -> float:
    return math.sqrt(sum(float(tensor.square().mean()) for tensor in tensors) / len(tensors))


HOSTS = ("HunyuanVideoPipeline", "WanPipeline", "WanPipeline/UniPC", "CogVideoXPipeline/DDIM", "MochiPipeline")


@pytest.mark.parametrize(
    ("stock", "method"),
    [
        *((name, "disca") for name in HOSTS),
        ("WanPipeline", "disca/all"),
        *(("WanPipeline", name) for name in SCHEDULED if name not in STANDS_FOR),
    ],
)
def test_a_table_is_what_attached_policies_err_on_the_states_of_full_runs(stock: str, method: str) -> None:
    sampler = Sampler(PIPELINES[stock])
    host, branches = sampler.transformers[0], PIPELINES[stock].branches
    plain = sampler(steps=STEPS)
    rules = policy(method, host, (0,))
    with trying(sampler.pipe, rules) as tried:
        assert torch.equal(sampler(steps=STEPS), plain)  # the run itself is a full one
        costs = tried.clip()
    assert costs.steps == STEPS and costs.history == min(2, rules[0].how.history)
    pairs = [(NONE, 0), (0, 1), (0, 3), (1, 2)] if costs.history == 2 else [(NONE, 0), (NONE, 1), (NONE, 3)]
    for previous, last in pairs:
        full = tuple(sorted({0, last} | ({previous} if previous != NONE else set())))
        whole = disca.from_name(method.partition("/")[0], **_options(rules, method), full_steps=full)
        measured = errors(sampler, whole, branches)[last + 1 :]
        assert costs.errors[previous, last] == pytest.approx([rms(each) for each in measured], rel=2e-3, abs=1e-7)
        moved: list[Any] = [0.0] * branches
        for offset, each in enumerate(measured):
            at = last + 1 + offset
            interval = costs.times[at] - costs.times[at + 1]
            moved = [m + interval * one for m, one in zip(moved, each, strict=True)]
            assert costs.drifts[previous, last][offset] == pytest.approx(rms(moved), rel=2e-3, abs=1e-7)
    assert max(costs.errors[NONE, 0]) > 1e-4


@pytest.mark.parametrize(("options", "history"), [({"residual": "line"}, 2), ({"cached": "tail"}, 1)])
def test_a_predictor_is_told_of_as_many_full_steps_as_it_wants(options: Any, history: int) -> None:
    """Also where it keeps what entered the last blocks, which is read when a step is told, not when it was computed."""
    sampler = Sampler(PIPELINES["WanPipeline"])
    predictor = disca.Predictor.from_host(sampler.transformers[0], depth=1, timed=True, **options)
    redraw(predictor, seed=3)
    with trying(sampler.pipe, disca.disca(predictor, full_steps=(0,))) as tried:
        sampler(steps=STEPS)
        costs = tried.clip()
    assert costs.history == predictor.wants.history == history
    measured = errors(sampler, disca.disca(predictor, full_steps=(0, 1, 2)), 2)[3:]
    assert costs.errors[costs.key(1, 2)] == pytest.approx([rms(each) for each in measured], rel=2e-3)


def _options(rules: Any, method: str) -> dict[str, Any]:
    return {"predictor": rules[0].how.predictor} if method in methods.PREDICTORS else ORDER_ONE.get(method, {})


def test_trying_leaves_no_trace() -> None:
    sampler = Sampler(PIPELINES["WanPipeline"])
    before = {name: dict(module.__dict__) for name, module in sampler.transformers[0].named_modules()}
    with pytest.raises(Interrupted), trying(sampler.pipe, disca.taylor(full_steps=(0,))):
        sampler(steps=STEPS, stop_after=2)
    after = {name: dict(module.__dict__) for name, module in sampler.transformers[0].named_modules()}
    assert {name: values.keys() for name, values in after.items()} == {n: v.keys() for n, v in before.items()}
    assert type(sampler.transformers[0].blocks) is nn.ModuleList


def calibrated(sampler: Sampler, method: str = "taylor", **changes: Any) -> ScheduleCalibration:
    given = {"budget": Budget(full_steps=3), "search": Search(candidates=6), **changes}
    return calibrate_schedule(sampler.pipe, method, lambda i: sampler(steps=STEPS, seed=i), ("one", "two"), **given)


def test_what_is_found_is_the_best_of_what_was_sampled(tmp_path: Path) -> None:
    sampler = Sampler(PIPELINES["WanPipeline"])
    found = calibrated(sampler)
    assert len(found.chosen) <= 3 and found.transformer == "WanTransformer3DModel"
    assert found.made_for.times == found.costs.times and len(found.costs.times) == STEPS + 1
    by_count = {len(point.full_steps): point for point in found.frontier.points}
    for point in by_count.values():
        ends = []
        for seed in range(2):
            full = sampler(steps=STEPS, seed=seed)
            with disca.attach(sampler.pipe, disca.taylor(full_steps=point.full_steps)):
                ends.append(float((sampler(steps=STEPS, seed=seed) - full).norm() / full.norm()))
        assert point.error == pytest.approx(sum(ends) / 2, rel=1e-5)
    shares = [point.flops for point in found.frontier.points]
    assert shares == sorted(shares) and by_count[STEPS].flops == 1.0 and by_count[STEPS].error == 0.0
    found.save(tmp_path / "found.json")
    (rule,) = from_calibration(tmp_path / "found.json")
    assert rule.when.full_steps == found.chosen and rule.when.made_for == found.made_for
    (rule,) = from_calibration(tmp_path / "found.json", full_steps=2)
    assert rule.when.full_steps == found.frontier.at(2).full_steps
    with (
        disca.attach(sampler.pipe, from_calibration(tmp_path / "found.json")),
        pytest.warns(UserWarning, match="a run of 5 steps; this has 4"),
        pytest.raises(ValueError, match="for 5 steps"),
    ):
        sampler(steps=4)
    stranger = Sampler(PIPELINES["HunyuanVideoPipeline"])
    with pytest.raises(ValueError, match="measured on WanTransformer3DModel"):
        disca.attach(stranger.pipe, from_calibration(tmp_path / "found.json"))


def test_growth_is_what_one_forecast_alone_comes_to() -> None:
    sampler = Sampler(PIPELINES["WanPipeline"])
    found = calibrated(sampler, "reuse").costs
    ends = []
    for step in range(1, STEPS):
        others, apart = [other for other in range(STEPS) if other != step], 0.0
        for seed in range(2):
            full = sampler(steps=STEPS, seed=seed)
            with disca.attach(sampler.pipe, disca.reuse(full_steps=others)):
                apart += float((sampler(steps=STEPS, seed=seed) - full).norm() / full.norm()) / 2
        ends.append(
            apart / ((found.times[step] - found.times[step + 1]) * found.errors[found.key(step - 2, step - 1)][0])
        )
    assert found.growth[1:] == pytest.approx([end / ends[-1] for end in ends], rel=1e-4)
    assert calibrated(sampler, "reuse", search=Search(growth=False)).costs.growth == ()


def test_the_first_step_of_another_expert_is_full_in_every_plan() -> None:
    sampler = Sampler(PIPELINES["WanPipeline/two_experts"])
    found = calibrated(sampler, search=Search(candidates=3, force_last=True))
    switch = next(step for step, t in enumerate(found.costs.times) if t < 0.5)
    with disca.attach(sampler.pipe, disca.taylor(full_steps=(0,))) as run:
        sampler(steps=STEPS)
    (branch, *_) = run.summary().branches.values()
    assert branch.full == (0, switch)  # as the run does by itself
    for point in found.frontier.points:
        assert {0, switch, STEPS - 1} <= set(point.full_steps)


@pytest.mark.parametrize("budget", [Budget(speedup=1.5), Budget(error=0.05)], ids=str)
def test_other_budgets_are_kept(budget: Budget) -> None:
    found = calibrated(Sampler(PIPELINES["WanPipeline"]), "reuse", budget=budget)
    point = found.frontier.point(len(found.chosen))
    if budget.speedup:
        assert point.flops is not None and 1 / point.flops >= 1.5
        larger = [one for one in found.frontier.points if len(one.full_steps) > len(found.chosen)]
        assert all(one.flops is not None and 1 / one.flops < 1.5 for one in larger)
    else:
        assert point.error is not None and point.error <= 0.05


def test_an_interrupted_calibration_goes_on(tmp_path: Path) -> None:
    whole = calibrated(Sampler(PIPELINES["WanPipeline"]))
    sampler, runs = Sampler(PIPELINES["WanPipeline"]), []

    def until(most: int) -> Any:
        def sample(index: int) -> Tensor:
            if len(runs) == most:
                raise Interrupted("stopped")
            runs.append(index)
            return sampler(steps=STEPS, seed=index)

        return sample

    def go(most: int) -> ScheduleCalibration:
        journal = Journal(tmp_path / "partial", {"a": 1})
        return calibrate_schedule(sampler.pipe, "taylor", until(most), ("one", "two"), budget=Budget(full_steps=3),
                                  search=Search(candidates=6), journal=journal)  # fmt: skip

    for most in (1, 7):
        with pytest.raises(Interrupted):
            go(most)
    with (tmp_path / "partial").open("a") as file:
        file.write('["run 0 0 1", 0.')  # killed while it wrote
    found = go(10**6)
    assert found.frontier == whole.frontier and found.chosen == whole.chosen
    assert len(runs) <= whole.sampled + 2  # the full runs to compare with, again after the last interruption
    assert Journal(tmp_path / "partial", {"a": 2}).get("clip 0") is None  # of other settings


def test_a_longest_distance_is_kept_and_measures_less() -> None:
    sampler = Sampler(PIPELINES["WanPipeline"])
    found = calibrated(sampler, search=Search(candidates=3, longest=2))
    for point in found.frontier.points:
        ends = (*point.full_steps, STEPS)
        assert max(b - a for a, b in pairwise(ends)) <= 2
    assert max(len(row) for row in found.costs.errors.values()) == 1
    wide = calibrated(sampler, search=Search(candidates=3))
    for key, row in found.costs.errors.items():
        assert row == pytest.approx(wide.costs.errors[key][: len(row)])


@pytest.mark.parametrize("method", STANDS_FOR)
def test_where_tokens_are_fresh_the_table_is_another_s_and_the_runs_are_its_own(method: str) -> None:
    sampler, options = Sampler(PIPELINES["WanPipeline"]), {"ratio": 0.5}
    found, other = calibrated(sampler, method, options=options), calibrated(sampler, STANDS_FOR[method])
    assert (found.costs.errors, found.costs.drifts) == (other.costs.errors, other.costs.drifts)
    point, without = (one.frontier.points[0] for one in (found, other))
    assert point.full_steps == without.full_steps and without.flops < point.flops < 1
    ends = []
    for seed in range(2):
        full = sampler(steps=STEPS, seed=seed)
        with disca.attach(sampler.pipe, disca.from_name(method, full_steps=point.full_steps, **options)):
            ends.append(float((sampler(steps=STEPS, seed=seed) - full).norm() / full.norm()))
    assert point.error == pytest.approx(sum(ends) / 2, rel=1e-5) and point.error != without.error


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("tailor", {}, "Did you mean 'taylor'"),
        ("speca", {}, "full steps of speca are not computed"),
        ("toca", {"options": {"rate": 0.1}}, "Did you mean 'ratio'"),
        ("taylor", {"options": {"every": 2}}, "every cannot be given"),
        ("taylor", {"options": {"ordr": 2}}, "Did you mean 'order'"),
        ("disca", {}, "needs a predictor"),
        ("taylor", {"budget": Budget(full_steps=1), "search": Search(longest=2)}, "The nearest has 3 full steps"),
        ("taylor", {"budget": Budget(speedup=50)}, "The nearest has a speed-up of"),
        ("taylor", {"budget": Budget(error=1e-30), "search": Search(longest=2)}, None),
    ],
)
def test_what_cannot_be_is_refused(method: str, changes: Any, message: str | None) -> None:
    sampler = Sampler(PIPELINES["WanPipeline"])
    if message is None:
        assert calibrated(sampler, method, **changes).chosen == tuple(range(STEPS))  # nothing less is so near
        return
    with pytest.raises(ValueError, match=message):
        calibrated(sampler, method, **changes)


@pytest.mark.parametrize(
    "make", [lambda: Budget(), lambda: Budget(full_steps=2, error=0.1), lambda: Search(quantile=0.0)]
)
def test_settings_that_cannot_be_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r"one of a number|quantile is a share"):
        make()


def test_a_number_is_no_list_of_steps() -> None:
    with pytest.raises(ValueError, match=r"says how many steps are full, not which.*disca calibrate schedule"):
        disca.reuse(full_steps=4)  # type: ignore[arg-type]


def test_the_command_calibrates_a_bundle_of_the_lab(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "bundle", "--output", str(tmp_path / "mine")]) == 0
    output = tmp_path / "found.json"
    args = ["calibrate", "schedule", "disca", "--model", "lab-distilled", "--bundle", str(tmp_path / "mine")]
    (tmp_path / "prompts.txt").write_text("a red seven drifting left\n")
    args += ["--prompts", str(tmp_path / "prompts.txt"), "--steps", "4", "--full", "2", "--candidates", "2"]
    assert main([*args, "--output", str(output)]) == 0
    assert "full at 0" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.json", "mine", "prompts.txt"]
    found = json.loads(output.read_text())
    assert found["schema"] == 1 and found["method"] == "disca" and found["command"] and found["options"] == {}
    bundle = Bundle.from_pretrained(tmp_path / "mine")
    assert Schedule(4, tuple(found["chosen"])) in bundle.schedules and [f.steps for f in bundle.frontiers] == [4]
    assert {schedule.steps for schedule in bundle.schedules} == {4, 8, 20}
    from disca.lab import weights

    pipe = weights.pipeline("distilled")
    with bundle.attach(pipe, full_steps=3) as run:
        pipe("a red seven drifting left", num_inference_steps=4, output_type="latent")
    assert tuple(run.summary().branches["cond"].full) == bundle.frontiers[0].at(3).full_steps
    with pytest.raises(ValueError, match="no plan of 0"), bundle.attach(pipe, full_steps=0):
        pass
    assert main([*args[:3], "--steps", "4", "--full", "2"]) == 2
    assert "Say where to write" in capsys.readouterr().err
