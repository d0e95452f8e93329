"""Full steps that are computed: measured on the model with the forecast that will be used, solved exactly, refined on
the real sampler."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from disca.bench.closed_loop import ClosedLoop, Sample, Steps, Tell, growth, limits_along, refined
from disca.bench.journal import Journal
from disca.bench.trying import trying
from disca.caching.budgeted import Budgeted
from disca.caching.constants import SCHEMA
from disca.caching.doubts import DOUBTS
from disca.caching.gates import Gate, Given, MadeFor
from disca.caching.methods import METHODS, from_name
from disca.caching.policy import Policy
from disca.caching.run import attach
from disca.errors import unknown
from disca.files import write_text_atomic
from disca.metrics.flops import counting
from disca.planning import (
    Costs,
    Form,
    Frontier,
    Gap,
    Plan,
    Point,
    Rows,
    aggregate,
    cost_of,
    larger,
    rows_of,
    smaller,
    solve,
    within_budget,
)
from disca.provenance import command_line, hardware, now, versions
from disca.schedules import Schedule

SCHEDULED = tuple(name for name, method in METHODS.items() if "full_steps" in method.options)
"""Methods whose full steps can be computed."""
STANDS_FOR = {"toca": "fora", "duca": "fora"}
"""Fresh tokens change what is kept at every forecast, so these have no table of costs. That of the cache whose tokens
they refresh stands for it; among its plans their own runs decide."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What is wanted: one of the three."""

    full_steps: int | None = None
    """At most so many full steps."""
    speedup: float | None = None
    """So many times fewer operations of the transformer than with every step full."""
    error: float | None = None
    """Runs that end so near to full ones: mean relative L2 of the last latents."""

    def __post_init__(self) -> None:
        given = [value for value in vars(self).values() if value is not None]
        if len(given) != 1 or not given[0] > 0:
            raise ValueError(f"A budget is one of a number of full steps, a speed-up and an error; given {self}.")


@dataclass(frozen=True, kw_only=True)
class Search:
    """How a plan is looked for."""

    quantile: float = 0.8
    """Of the prompts, whose error counts: what caching spoils is a few hard ones."""
    form: Form = "drift"
    inclusive: bool = False
    """See :meth:`disca.planning.Costs.gap`."""
    longest: int | None = None
    """No two full steps are farther apart; None leaves it open. Measuring takes less with it."""
    force_last: bool = False
    """The last step is full in any case."""
    doubt: Literal["input", "disagreement"] | None = None
    """Measure this along the chosen plan, to refresh where a forecast is in doubt, see :mod:`disca.caching.doubts`."""
    doubted: float = 0.9
    """Quantile of the prompts whose doubt is the limit."""
    candidates: int = 24
    """Plans that are sampled for the budget, the one that the table says is cheapest among them."""
    growth: bool = True
    """Count what each step's error comes to at the end of the run, which takes two runs more for each step; without it,
    only how far the step moves the latents."""
    others: bool = True
    """Whether the best plans for all other budgets are sampled too, one each."""

    def __post_init__(self) -> None:
        if not 0 < self.quantile <= 1 or self.candidates < 1 or (self.longest is not None and self.longest < 1):
            raise ValueError(
                f"quantile is a share of the prompts in (0, 1], candidates and longest are at least 1; given {self}."
            )


@dataclass(frozen=True, kw_only=True)
class ScheduleCalibration:
    """What was measured and found."""

    method: str
    options: Mapping[str, Any]
    """Of the method, but what cannot be written down, such as a predictor."""
    transformer: str
    blocks: int
    chosen: Steps
    """The full steps for the budget that was asked for."""
    frontier: Frontier
    budget: Budget
    search: Search
    prompts: tuple[str, ...] = ()
    sampled: int = 0
    """Runs that were sampled, full ones among them."""
    limits: Rows = field(default_factory=dict)
    """Of the doubt, along the chosen plan; see :class:`disca.caching.budgeted.Budgeted`."""

    @property
    def schedule(self) -> Schedule:
        """The chosen full steps."""
        return Schedule(self.frontier.steps, self.chosen)

    @property
    def made_for(self) -> MadeFor:
        """The host and the run."""
        return MadeFor(self.transformer, self.costs.times, self.blocks)

    @property
    def costs(self) -> Costs:
        """What the forecast errs."""
        assert self.frontier.costs is not None
        return self.frontier.costs

    def policy(self, full_steps: int | None = None, *, refresh: bool = False, **extras: Any) -> Policy:
        """The method with the chosen full steps, or the best of at most ``full_steps``; it refuses other hosts, and
        warns in other runs.

        Args:
            refresh: compute a step ahead of its time where its forecast is in doubt, and drop a later one for it.
            extras: options that are in no file, such as ``predictor``.

        Raises:
            ValueError: refreshing by a doubt that was not measured; no plan of so few full steps.
        """
        schedule = self.schedule if full_steps is None else self.frontier.at(full_steps)
        rules = from_name(self.method, **self.options, **extras, full_steps=schedule)
        when: Gate = Given(schedule.full_steps, schedule.steps, self.made_for)
        if refresh:
            when = self._refreshed(schedule)
        return tuple(replace(rule, when=when) for rule in rules)

    def _refreshed(self, schedule: Schedule) -> Gate:
        if schedule.full_steps != self.chosen or self.search.doubt is None:
            raise ValueError(
                f"Limits of a doubt were measured along {self.chosen if self.search.doubt else 'no plan'}, not along "
                f"{schedule.full_steps}. Measure them with disca calibrate schedule --doubt and this budget."
            )
        plan, doubt = Given(schedule.full_steps, schedule.steps), DOUBTS[self.search.doubt]
        return Budgeted(plan, doubt, self.limits, self.costs, self.search.form, self.made_for)

    def save(self, path: str | Path) -> None:
        """Write it, with what is needed to measure it again."""
        about = {"versions": versions(), "hardware": hardware(), "command": command_line(), "date": now()}
        kept = ("method", "options", "transformer", "blocks", "chosen", "prompts", "sampled")
        plans = {
            "budget": asdict(self.budget),
            "search": asdict(self.search),
            "frontier": self.frontier.to_dict(),
            "limits": {f"{i},{j}": list(row) for (i, j), row in self.limits.items()},
        }
        values = {"schema": SCHEMA, **{name: getattr(self, name) for name in kept}, **plans, **about}
        write_text_atomic(Path(path), json.dumps(values) + "\n")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ScheduleCalibration:
        """As a file has it."""
        kept = {name: values[name] for name in ("method", "options", "transformer", "blocks", "sampled")}
        return cls(
            **kept,
            chosen=tuple(values["chosen"]),
            prompts=tuple(values["prompts"]),
            frontier=Frontier.from_dict(values["frontier"]),
            budget=Budget(**values["budget"]),
            search=Search(**values["search"]),
            limits=rows_of(values["limits"]),
        )


def calibrate_schedule(
    target: Any,
    method: str,
    sample: Sample,
    prompts: Sequence[str],
    *,
    budget: Budget,
    options: Mapping[str, Any] | None = None,
    search: Search | None = None,
    journal: Journal | None = None,
    tell: Tell = lambda what, done, of: None,
) -> ScheduleCalibration:
    """Measure what a method's forecast errs, and compute which steps are best full, for every number of them.

    Args:
        target: a pipeline.
        method: one of :data:`SCHEDULED`.
        sample: runs it on the prompt of an index and gives the last latents; equal indices give equal noise.
        options: of the method, but those that say when it computes in full; its ``predictor`` among them.
        journal: what an earlier, interrupted calibration has found, and where this one notes what it finds.
        tell: called as the work goes on.

    Raises:
        ValueError: a method without a static schedule of its own; no prompts; a budget that cannot be kept.
    """
    options, search, journal = dict(options or {}), search or Search(), journal or Journal()
    check_method(method, options)
    search = replace(search, others=True) if budget.error is not None else search
    if not prompts:
        raise ValueError("Calibration needs at least one prompt.")
    measured = _measured(target, method, options, sample, len(prompts), search, journal, tell)
    loop = ClosedLoop(target, method, options, sample, len(prompts), measured.costs.steps, journal, tell)
    if search.growth:
        measured = replace(measured, costs=replace(measured.costs, growth=growth(loop, measured.costs)))
    plans = _plans(measured, search)
    points = _points(plans, measured, search, loop)
    chosen = _refined(_count_for(budget, points), points, measured, search, loop)
    limits: Rows = {}
    if search.doubt is not None:
        limits = limits_along(loop, chosen.full_steps, DOUBTS[search.doubt], measured.costs, search.doubted)
    best = {len(point.full_steps): point for point in [*points, chosen]}
    frontier = Frontier(loop.steps, tuple(best[count] for count in sorted(best)), measured.costs)
    return ScheduleCalibration(
        method=method,
        options={name: value for name, value in options.items() if isinstance(value, (str, int, float, bool))},
        transformer=measured.transformer,
        blocks=measured.blocks,
        chosen=chosen.full_steps,
        frontier=frontier,
        budget=budget,
        search=search,
        prompts=tuple(prompts),
        sampled=loop.sampled + len(prompts),
        limits=limits,
    )


def check_method(method: str, options: Mapping[str, Any]) -> None:
    """Refuse methods without a schedule of their own, and options that they would refuse later.

    Raises:
        ValueError: one of those.
    """
    if method not in SCHEDULED:
        known = unknown("method with full steps of its own", method, SCHEDULED)
        raise ValueError(known if method not in METHODS else f"The full steps of {method} are not computed. {known}")
    given = [name for name in ("full_steps", "every", "threshold", "warmup", "phase", "force_last") if name in options]
    if given:
        raise ValueError(f"Which steps are full is what is computed, so {given[0]} cannot be given.")
    from_name(method, **options, full_steps=(0,))


@dataclass(frozen=True)
class _Measured:
    costs: Costs
    transformer: str
    blocks: int
    flops: tuple[int, int]

    def share(self, full_steps: int) -> float:
        """Operations of a run with so many full steps, over those of a full one."""
        full, forecast = self.flops
        steps = self.costs.steps
        return (full_steps * full + (steps - full_steps) * forecast) / (steps * full)

    def gap(self, search: Search) -> Gap:
        """What gaps cost."""
        forced = (self.costs.steps - 1,) if search.force_last else ()
        return self.costs.gap(search.form, inclusive=search.inclusive, longest=search.longest, forced=forced)


def _measured(
    target: Any,
    method: str,
    options: Mapping[str, Any],
    sample: Sample,
    count: int,
    search: Search,
    journal: Journal,
    tell: Tell,
) -> _Measured:
    """The table of a method's forecast, clip by clip."""
    own = from_name(method, **options, full_steps=(0,))
    policy = from_name(STANDS_FOR[method], full_steps=(0,)) if method in STANDS_FOR else own
    clips: list[Costs] = []
    about: dict[str, Any] = {}
    with trying(target, policy, longest=search.longest) as tried:
        assert tried.run is not None
        expert = tried.run.experts[0]
        for index in range(count):
            if (kept := journal.get(f"clip {index}")) is None:
                tried.step_done = lambda index=index: tell("measuring", index, count)  # type: ignore[misc]
                sample(index)
                kept = {"costs": tried.clip().to_dict(), "flops": tried.flops}
                journal.put(f"clip {index}", kept)
            clips.append(Costs.from_dict(kept["costs"]))
            about = about or kept
            tell("measuring", index + 1, count)
        blocks = len(expert.adapter.blocks(expert.transformer))
    if clips[0].steps < 2:
        raise ValueError("A run of one step has nothing to forecast. Sample with at least 2 steps.")
    full, forecast = about["flops"]
    if policy is not own:
        forecast = full - _spared(target, own, sample)
    return _Measured(aggregate(clips, search.quantile), type(expert.transformer).__name__, blocks, (full, forecast))


def _spared(target: Any, policy: Policy, sample: Sample) -> int:
    """Operations that a forecast takes fewer than a full call, over a run with a policy."""

    def run(policy: Policy) -> tuple[int, int]:
        with counting() as so_far, attach(target, policy) as attached, torch.no_grad():
            sample(0)
            spent = so_far()
        return spent, sum(len(steps.forecast) for steps in attached.summary().branches.values())

    (full, _), (cached, forecasts) = run(()), run(policy)
    return (full - cached) // forecasts


def _plans(measured: _Measured, search: Search) -> list[Plan]:
    """The cheapest by the table, for every budget."""
    costs = measured.costs
    plans = within_budget(solve(costs.steps, measured.gap(search), history=costs.history))
    if not plans:
        raise ValueError(f"No full steps keep to {search}: allow a larger distance between them.")
    return plans


def _points(plans: Sequence[Plan], measured: _Measured, search: Search, loop: ClosedLoop) -> list[Point]:
    """The plans with what they take, and how near their runs come."""
    points = []
    for done, plan in enumerate(plans):
        error = loop.error(plan.full_steps) if search.others else None
        points.append(Point(plan.full_steps, plan.cost, error, measured.share(len(plan.full_steps))))
        loop.tell("sampling plans", done + 1, len(plans))
    return points


def _count_for(budget: Budget, points: Sequence[Point]) -> int:
    """The number of full steps that a budget comes to."""
    if budget.full_steps is not None:
        keeps = [point for point in points if len(point.full_steps) <= (budget.full_steps or 0)]
        said = f"{len(points[0].full_steps)} full steps"
    elif budget.speedup is not None:
        keeps = [point for point in points if (point.flops or 1.0) * budget.speedup <= 1.0]
        said = f"a speed-up of {1 / (points[0].flops or 1.0):.2f}"
    else:
        near = [point for point in points if point.error is not None and point.error <= (budget.error or 0.0)]
        keeps, said = near[:1], f"an error of {min(point.error or 0.0 for point in points):.3g}"
    if not keeps:
        raise ValueError(f"No plan keeps to {budget}. The nearest has {said}.")
    return len(keeps[-1].full_steps)


def _refined(count: int, points: Sequence[Point], measured: _Measured, search: Search, loop: ClosedLoop) -> Point:
    """The best plan with so many full steps, by runs."""
    gap = measured.gap(search)
    (start,) = (point.full_steps for point in points if len(point.full_steps) == count)
    best, error = refined(loop, start, _around(points, count, loop.steps), gap, search.candidates)
    return Point(best, cost_of(best, loop.steps, gap), error, measured.share(count))


def _around(points: Iterable[Point], count: int, steps: int) -> set[Steps]:
    """What the best plans with one full step more or fewer come to with one taken out or put in."""
    found: set[Steps] = set()
    for point in points:
        if len(point.full_steps) == count - 1:
            found |= set(larger(point.full_steps, steps))
        if len(point.full_steps) == count + 1:
            found |= set(smaller(point.full_steps))
    return found
