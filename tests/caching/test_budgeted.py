"""A gate with a budget: as many full steps as planned, whatever the doubts, and the plan itself without any."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import combinations
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor

import disca
from disca.bench.schedule import Budget, ScheduleCalibration, Search, calibrate_schedule
from disca.caching.budgeted import Budgeted
from disca.caching.doubts import Disagreement, Doubt, InputError
from disca.caching.gates import Every, Given, Static
from disca.caching.polynomials import Taylor
from disca.caching.watchful import InputForecastError
from disca.features import Call, Features, Moment
from disca.planning import NONE, Costs, cost_from
from tests.pipelines import PIPELINES, Sampler

CALL = Call((torch.ones(1, 2, 2),), lambda *inputs: inputs)


@dataclass(frozen=True)
class Told(Doubt):
    """Doubts by a list."""

    values: tuple[float, ...] = field(default=())

    def start(self) -> list[int]:
        return []

    def observe(self, memory: list[int], moment: Moment, call: Call, outputs: Features) -> None:
        memory.append(moment.step)

    def measure(self, memory: list[int], moment: Moment, call: Call) -> float:
        return self.values[moment.step]

    def held(self, memory: list[int]) -> tuple[Tensor, ...]:
        return ()


def table(steps: int, *, seed: int = 0, switches: tuple[int, ...] = ()) -> Costs:
    draw = Random(seed)
    times = tuple(1 - step / steps for step in range(steps + 1))
    begins = {j: max(step for step in (0, *switches) if step <= j) for j in range(steps)}
    keys = [(i, j) for j in range(steps) for i in (range(begins[j], j) if j > begins[j] else [NONE])]
    random = {key: tuple(draw.random() for _ in range(steps - 1 - key[1])) for key in keys}
    return Costs(times, random, random, 2, switches)


def gate_of(plan: Static, doubts: tuple[float, ...], costs: Costs, limit: float = 0.5) -> Budgeted:
    """One with the same limit everywhere."""
    return Budgeted(plan, Told(doubts), {key: tuple(limit for _ in row) for key, row in costs.errors.items()}, costs)


def opened(gate: Budgeted, steps: int, begin: int = 0, end: int | None = None) -> tuple[int, ...]:
    """Steps at which a gate opens, told of each as a run would."""
    memory, full = gate.start(), []
    for step in range(begin, steps if end is None else end):
        moment = Moment(step=step, steps=steps, t=1 - step / steps, r=1 - (step + 1) / steps)
        if gate.opens(memory, moment, CALL) or step == begin:
            full.append(step)
            for _ in range(2):  # two sites
                gate.observe(memory, moment, CALL, CALL.inputs)
    assert memory.doubt == full  # each observed once, by the first site
    return tuple(full)


def test_a_run_never_has_more_full_steps_than_planned() -> None:
    draw, early = Random(0), 0
    for seed in range(300):
        steps = draw.randint(2, 14)
        plan = (0, *sorted(draw.sample(range(1, steps), draw.randint(0, steps - 1))))
        doubts = tuple(draw.random() * draw.choice([0.6, 1.0, 3.0]) for _ in range(steps))
        full = opened(gate_of(Given(plan), doubts, table(steps, seed=seed)), steps)
        assert len(full) == len(plan)
        early += full != plan
    assert early > 100


def test_without_doubt_it_is_the_plan() -> None:
    costs = table(12)
    for plan in (Every(3), Given((0, 1, 5, 11)), Given((0,))):
        gate = gate_of(plan, (0.5,) * 12, costs)  # at the limit, not above
        assert opened(gate, 12) == plan.schedule(12).full_steps
        assert gate.bounds(12) == plan.bounds(12)


def test_the_step_without_which_the_rest_costs_least_pays() -> None:
    for seed in range(20):
        costs = table(10, seed=seed)
        plan, doubts = (0, 4, 6, 9), tuple(1.0 if step == 2 else 0.0 for step in range(10))
        gap = costs.gap()
        rests = list(combinations((4, 6, 9), 2))
        best = min(rests, key=lambda rest: cost_from((0, 2), rest, 10, gap))
        assert opened(gate_of(Given(plan), doubts, costs), 10) == (0, 2, *best)


def test_where_nothing_can_pay_doubts_are_borne() -> None:
    sure = (9.0,) * 8
    assert opened(gate_of(Given((0,)), sure, table(8)), 8) == (0,)
    assert opened(gate_of(Given((0, 3)), sure, table(8)), 8) == (0, 1)
    blind = replace(table(8), errors={key: row[:1] for key, row in table(8).errors.items()},
                    drifts={key: row[:1] for key, row in table(8).drifts.items()})  # fmt: skip
    plan = (0, 2, 4, 6)  # no gap can be longer, so none can be dropped
    assert opened(gate_of(Given(plan), sure, blind), 8) == plan


def test_steps_of_another_transformer_do_not_pay() -> None:
    costs = table(8, switches=(4,))
    assert opened(gate_of(Given((0, 4, 6)), (9.0,) * 8, costs), 8, end=4) == (0,)
    assert opened(gate_of(Given((0, 4, 6)), (9.0,) * 8, costs), 8, begin=4) == (4, 5)


def test_limits_are_those_of_the_full_steps_behind() -> None:
    doubts, limits = (1.0,) * 6, {(NONE, 0): (5.0,), (0, 2): (5.0, 0.1)}
    gate = Budgeted(Given((0, 2, 5)), Told(doubts), limits, table(6))
    assert opened(gate, 6) == (0, 2, 4)
    assert opened(replace(gate, limits={(NONE, 2): (0.1,) * 3, (0, 2): (5.0,)}), 6) == (0, 2, 5)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="known beforehand"):
        Budgeted(InputForecastError(0.1), InputError(), {(NONE, 0): (1.0,)}, table(4))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="--doubt"):
        Budgeted(Given((0,)), InputError(), {}, table(4))


def features(*values: float) -> Features:
    return (torch.tensor([[[float(value), 2.0 * value]] for value in values]),)


def moment(step: int) -> Moment:
    return Moment(step=step, steps=9, t=1 - step / 9, r=1 - (step + 1) / 9)


def test_doubts_are_what_they_say_of_the_worst_sample() -> None:
    inputs = {0: features(1, 1), 2: features(2, 2), 4: features(3, 4)}
    outputs = {0: features(1, 2), 2: features(1, 4)}
    error, apart = InputError(), Disagreement(Taylor(1), Taylor(0))
    memories = error.start(), apart.start()
    for step in (0, 2):
        call = Call(inputs[step], lambda *given: given)
        error.observe(memories[0], moment(step), call, outputs[step])
        apart.observe(memories[1], moment(step), call, outputs[step])
    now = Call(inputs[4], lambda *given: given)
    assert error.measure(memories[0], moment(4), now) == pytest.approx(1 / 4)  # a line says 3 and 3
    assert apart.measure(memories[1], moment(4), now) == pytest.approx(2 / 4)  # 6 against 4 in the second sample
    assert all(doubt.held(memory) for doubt, memory in zip((error, apart), memories, strict=True))


@pytest.fixture(scope="module")
def calibrated() -> dict[str, ScheduleCalibration]:
    found = {}
    for doubt in ("input", "disagreement"):
        sampler = Sampler(PIPELINES["WanPipeline"])
        found[doubt] = calibrate_schedule(
            sampler.pipe, "taylor", lambda i, sampler=sampler: sampler(steps=8, seed=i), ("one", "two"),
            budget=Budget(full_steps=4), search=Search(candidates=2, others=False, doubt=doubt),  # type: ignore[arg-type]
        )  # fmt: skip
    return found


@pytest.mark.parametrize("doubt", ["input", "disagreement"])
def test_limits_are_what_gates_measure_in_runs_of_the_plan(calibrated: Any, doubt: str) -> None:
    found = calibrated[doubt]
    (rule,) = found.policy(refresh=True)
    gate, seen = rule.when, []

    class Watched(type(gate.doubt)):  # type: ignore[misc]
        def measure(self, memory: Any, now: Moment, call: Call) -> float:
            seen.append((now.step, super().measure(memory, now, call)))
            return -1.0

    sampler = Sampler(PIPELINES["WanPipeline"])
    for seed in range(2):
        with disca.attach(sampler.pipe, (replace(rule, when=replace(gate, doubt=Watched())),)) as run:
            sampler(steps=8, seed=seed)
        assert next(iter(run.summary().branches.values())).full == found.chosen
    expected: dict[int, float] = {}
    for step, value in seen:
        expected[step] = max(value, expected.get(step, 0.0))  # nine tenths of two clips are both
    gaps = zip((NONE, *found.chosen), found.chosen, (*found.chosen[1:], 8), strict=False)
    rows = {(i, j): tuple(expected[s] for s in range(j + 1, k) if s in expected) for i, j, k in gaps}
    assert gate.limits == {key: pytest.approx(row) for key, row in rows.items() if row}
    assert max(map(max, gate.limits.values())) > 0 and set(range(found.chosen[-1] + 1, 8)).isdisjoint(expected)


@pytest.mark.parametrize("scale", [0.0, 0.9, 1e9])
def test_the_budget_holds_in_every_run(calibrated: Any, scale: float) -> None:
    found = calibrated["input"]
    limits = {key: tuple(scale * value for value in row) for key, row in found.limits.items()}
    sampler, plain = Sampler(PIPELINES["WanPipeline"]), []
    (rule,) = found.policy(refresh=True)
    rule = replace(rule, when=replace(rule.when, limits=limits))
    for seed in range(3):
        with disca.attach(sampler.pipe, (rule,)) as run:
            latents = sampler(steps=8, seed=seed)
        branches = run.summary().branches
        assert len({steps.full for steps in branches.values()}) == 1  # one decision for both branches
        (full,) = {steps.full for steps in branches.values()}
        assert len(full) == len(found.chosen)
        if scale == 1e9:
            assert full == found.chosen
            with disca.attach(sampler.pipe, found.policy()):
                assert torch.equal(sampler(steps=8, seed=seed), latents)
        plain.append(full == found.chosen)
    assert scale != 0.0 or not all(plain)


def test_the_worst_sample_of_a_batch_decides() -> None:
    for worst, opens in ((1.2, False), (50.0, True)):
        gate = Budgeted(Given((0, 5)), InputError(), {(NONE, 0): (0.5,) * 4}, table(9))
        memory, calls = gate.start(), [Call(features(1, other), lambda *given: given) for other in (1, worst)]
        assert gate.opens(memory, moment(0), calls[0])
        gate.observe(memory, moment(0), calls[0], calls[0].inputs)
        assert gate.opens(memory, moment(1), calls[1]) == opens
