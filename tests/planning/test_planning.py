"""Plans: the cheapest there is, whatever a table says, and never dearer for a larger budget (law 7)."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations, pairwise
from math import inf
from random import Random
from typing import Any

import pytest

from disca.planning import (
    NONE,
    Costs,
    Form,
    Frontier,
    Plan,
    Point,
    aggregate,
    cost_of,
    larger,
    neighbours,
    smaller,
    solve,
    within_budget,
)

FORMS: tuple[Form, ...] = ("squared", "linear", "drift")


def table(seed: int, history: int, steps: int | None = None) -> Costs:
    """Random errors, in no order at all: a forecast from later may be worse."""
    draw = Random(seed)
    steps = steps or draw.randint(2, 10)
    times = (1.0, *sorted((draw.random() for _ in range(steps - 1)), reverse=True), 0.0)
    keys = [(i, j) for j in range(steps) for i in (range(j) if history == 2 and j else [NONE])]
    rows = [{key: tuple(draw.random() for _ in range(steps - 1 - key[1])) for key in keys} for _ in range(2)]
    return Costs(times, *rows, history)


def brute_force(steps: int, gap: object, count: int) -> float:
    choices = ((0, *chosen) for chosen in combinations(range(1, steps), count - 1))
    return min(cost_of(full, steps, gap) for full in choices)  # type: ignore[arg-type]


@pytest.mark.parametrize("history", [1, 2])
@pytest.mark.parametrize("form", FORMS)
def test_the_cheapest_plan_is_that_of_brute_force(form: Form, history: int) -> None:
    for seed in range(200):
        costs = table(seed, history)
        gap = costs.gap(form, inclusive=bool(seed % 2))
        plans = solve(costs.steps, gap, history=history)
        assert sorted(plans) == list(range(1, costs.steps + 1))
        for count, plan in plans.items():
            assert len(plan.full_steps) == count
            assert plan.cost == pytest.approx(brute_force(costs.steps, gap, count), rel=1e-12)
            assert cost_of(plan.full_steps, costs.steps, gap) == pytest.approx(plan.cost, rel=1e-12)


def test_one_predecessor_for_each_step_would_not_be_exact() -> None:
    """What the cost of a gap depends on has to be in the state: that it is makes a difference."""
    worse = 0
    for seed in range(100):
        costs = table(seed, 2, 9)
        gap = costs.gap("squared")
        best: dict[int, tuple[int, ...]] = {0: (0,)}
        for _ in range(3):
            best = {
                k: min(((*full, k) for j, full in best.items() if j < k), key=lambda full: _begun(full, gap))
                for k in range(len(next(iter(best.values()))), 9)
            }
        greedy = min(cost_of(full, 9, gap) for full in best.values())
        worse += greedy > solve(9, gap)[4].cost + 1e-12
    assert worse > 5


def _begun(full: tuple[int, ...], gap: object) -> float:
    path = (NONE, *full)
    return sum(gap(*path[at : at + 3]) for at in range(len(path) - 2))  # type: ignore[operator]


@pytest.mark.parametrize("form", FORMS)
def test_a_larger_budget_never_costs_more(form: Form) -> None:
    for seed in range(200):
        costs = table(seed, 1 + seed % 2)
        plans = solve(costs.steps, costs.gap(form), history=costs.history)
        kept = within_budget(plans)
        assert all(a.cost > b.cost and len(a.full_steps) < len(b.full_steps) for a, b in pairwise(kept))
        frontier = Frontier(costs.steps, tuple(Point(plan.full_steps, plan.cost) for plan in kept))
        bought = [frontier.point(count).cost for count in range(1, costs.steps + 1)]
        assert bought == sorted(bought, reverse=True)
        assert bought == [min(plans[c].cost for c in range(1, count + 1)) for count in range(1, costs.steps + 1)]


def test_constraints_are_kept_and_exact() -> None:
    costs = table(3, 2, 10)
    gap = costs.gap("linear", longest=4, forced=(6, 9))
    plans = solve(10, gap)
    assert min(plans) == 4  # 0, one of 2 to 4, 6 and 9
    for count, plan in plans.items():
        full = plan.full_steps
        assert {6, 9} <= set(full) and max(b - a for a, b in pairwise(full)) <= 4
        assert plan.cost == pytest.approx(brute_force(10, gap, count))


def test_what_is_left_of_a_run_is_planned_from_where_it_is() -> None:
    costs = table(5, 2, 9)
    gap = costs.gap()
    for count, plan in solve(9, gap, start=(2, 4), most=3).items():
        rests = ((4, *chosen) for chosen in combinations(range(5, 9), count - 1))
        full = [(2, *rest) for rest in rests]
        assert plan.full_steps[0] == 4
        assert plan.cost == pytest.approx(min(sum(gap(*(*f, 9)[a : a + 3]) for a in range(len(f) - 1)) for f in full))


def test_a_gap_is_what_its_definition_says() -> None:
    costs = Costs(
        (1.0, 0.7, 0.5, 0.0), {(NONE, 0): (2.0, 3.0), (0, 1): (1.0,)}, {(NONE, 0): (0.4, 1.5), (0, 1): (0.5,)}, 2
    )
    assert costs.gap("squared")(NONE, 0, 3) == pytest.approx((0.2 * 2) ** 2 + (0.5 * 3) ** 2)
    assert costs.gap("linear")(NONE, 0, 3) == pytest.approx(0.2 * 2 + 0.5 * 3)
    assert costs.gap("drift")(NONE, 0, 3) == pytest.approx(1.5**2)
    assert costs.gap("drift")(NONE, 0, 2) == pytest.approx(0.4**2)
    assert costs.gap("linear")(NONE, 0, 1) == 0.0
    assert costs.gap("linear", inclusive=True)(NONE, 0, 1) == pytest.approx(0.2 * 2)
    assert costs.gap("linear", inclusive=True)(NONE, 0, 3) == costs.gap("linear")(NONE, 0, 3)  # nothing after the end
    assert costs.gap("linear")(1, 2, 3) == 0.0 and costs.gap("linear")(0, 1, 4) == inf


def test_each_step_counts_by_its_growth() -> None:
    rows: dict[str, Any] = {"errors": {(NONE, 0): (2.0, 3.0)}, "drifts": {(NONE, 0): (0.4, 1.5)}}
    costs = Costs((1.0, 0.7, 0.5, 0.0), **rows, growth=(9.0, 5.0, 1.5))
    assert costs.gap("squared")(NONE, 0, 3) == pytest.approx((5 * 0.2 * 2) ** 2 + (1.5 * 0.5 * 3) ** 2)
    assert costs.gap("linear")(NONE, 0, 3) == pytest.approx(5 * 0.2 * 2 + 1.5 * 0.5 * 3)
    assert costs.gap("drift")(NONE, 0, 3) == pytest.approx((5 * 0.4 + 1.5 * 1.1) ** 2)
    for form in FORMS:
        table_, even = table(2, 2, 8), replace(table(2, 2, 8), growth=(1.0,) * 8)
        assert solve(8, table_.gap(form)) == solve(8, even.gap(form))
    early = replace(table(2, 2, 8), growth=(1.0, *(100.0 * 0.1**step for step in range(7))))
    assert solve(8, early.gap())[4].full_steps[:3] == (0, 1, 2)


def test_aggregating_takes_the_quantile_of_each_entry() -> None:
    clips = [Costs((1.0, 0.5, 0.0), {(NONE, 0): (float(v),)}, {(NONE, 0): (10.0 - v,)}, 1) for v in (3, 1, 2, 4, 5)]
    found = aggregate(clips, 0.8)
    assert found.errors == {(NONE, 0): (4.0,)} and found.drifts == {(NONE, 0): (8.0,)}
    assert aggregate(clips, 1.0).errors == {(NONE, 0): (5.0,)}
    with pytest.raises(ValueError, match="at least one clip"):
        aggregate([], 0.5)
    with pytest.raises(ValueError, match="different runs"):
        aggregate([clips[0], table(0, 1, 2)], 0.5)


def test_values_survive_a_file() -> None:
    costs = replace(table(1, 2, 6), growth=(1.0, 3.0, 2.0, 1.5, 1.0, 1.0))
    again = Costs.from_dict(json.loads(json.dumps(costs.to_dict())))
    assert again.errors.keys() == costs.errors.keys() and again.times == costs.times and again.history == 2
    assert again.growth == costs.growth
    assert again.gap()(0, 1, 6) == pytest.approx(costs.gap()(0, 1, 6), rel=2e-3)
    frontier = Frontier(6, (Point((0,), 2.0, 0.5, 0.2), Point((0, 3), 1.0)), again)
    assert Frontier.from_dict(json.loads(json.dumps(frontier.to_dict()))) == frontier
    assert hash(frontier) == hash(Frontier.from_dict(frontier.to_dict()))


def test_a_frontier_gives_the_best_within_a_budget() -> None:
    points = (Point((0,), 3.0, 0.3), Point((0, 2), 2.0, 0.1), Point((0, 1, 2), 1.0, 0.2))
    assert Frontier(4, points).at(3).full_steps == (0, 2)  # runs are believed over the table
    unsampled = (*points[:2], Point((0, 1, 2), 1.0))
    assert Frontier(4, unsampled).at(3).full_steps == (0, 1, 2)
    assert Frontier(4, unsampled).at(9).full_steps == (0, 1, 2)
    with pytest.raises(ValueError, match=r"no plan of 0 full steps; there are plans of 1, 2, 3"):
        Frontier(4, points).at(0)
    with pytest.raises(ValueError, match="at least one plan"):
        Frontier(4, ())


def test_neighbours_are_all_moves_of_one_step() -> None:
    assert set(neighbours((0, 2), 4)) == {(0, 1), (0, 3)}
    assert set(larger((0, 2), 4)) == {(0, 1, 2), (0, 2, 3)}
    assert set(smaller((0, 1, 3))) == {(0, 3), (0, 1)}
    assert Plan((0,), 1.0) == Plan((0,), 1.0)
