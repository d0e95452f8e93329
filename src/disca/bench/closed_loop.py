"""Plans as they would be used: runs of the real sampler, against full runs from the same noise."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from math import inf
from typing import Any

import torch
from torch import Tensor

from disca.bench.journal import Journal
from disca.caching.budgeted import Budgeted
from disca.caching.doubts import Doubt
from disca.caching.gates import Given
from disca.caching.methods import from_name
from disca.caching.policy import Policy
from disca.caching.run import attach
from disca.features import Call, Features, Moment
from disca.metrics.fidelity import relative_l2
from disca.planning import NONE, Costs, Gap, Rows, cost_of, neighbours, quantile_of
from disca.schedules import Schedule

Sample = Callable[[int], Tensor]
"""``sample(i)`` runs the pipeline on the i-th prompt and gives its last latents."""
Tell = Callable[[str, int, int], None]
"""``tell(what, done, of)``: how far the work is."""
Steps = tuple[int, ...]
GROWN = 2
"""Clips that growth is measured on: it is much the same for all."""
BREADTH = 4
"""Candidates that are sampled before the search goes on from the best of them."""


@dataclass
class ClosedLoop:
    """Runs with full steps as they would be used, against full runs from the same noise."""

    target: Any
    method: str
    options: Mapping[str, Any]
    sample: Sample
    count: int
    steps: int
    journal: Journal
    tell: Tell
    references: dict[int, Tensor] = field(default_factory=dict)
    sampled: int = 0

    def error(self, full_steps: Steps) -> float:
        """Mean over the clips of the relative L2 of the last latents."""
        return sum(self.clip(full_steps, index) for index in range(self.count)) / self.count

    def clip(self, full_steps: Steps, index: int) -> float:
        """Relative L2 of one clip's last latents."""
        name = f"run {index} {' '.join(map(str, full_steps))}"
        if (kept := self.journal.get(name)) is not None:
            return float(kept)
        if index not in self.references:
            self.references[index] = self.run((), index)
        error = float(relative_l2(self.run(self.policy(full_steps), index), self.references[index]).mean())
        self.journal.put(name, error)
        return error

    def run(self, policy: Policy, index: int) -> Tensor:
        """One run with a policy; gives the last latents."""
        self.sampled += 1
        with attach(self.target, policy), torch.no_grad():
            return self.sample(index)

    def policy(self, full_steps: Steps) -> Policy:
        """The method with these full steps."""
        return from_name(self.method, **self.options, full_steps=Schedule(self.steps, full_steps))


def growth(loop: ClosedLoop, costs: Costs) -> tuple[float, ...]:
    """See :attr:`disca.planning.Costs.growth`: how far runs end in which one step only is forecast, from the steps
    before it, over how far that forecast moves the latents. Steps that are full in any case have 1."""
    found: dict[int, float] = {}
    for step in range(costs.steps - 1, 0, -1):
        row = costs.errors.get(costs.key(step - 2, step - 1), ())
        if row and row[0] > 0:
            others = tuple(other for other in range(costs.steps) if other != step)
            move = abs(costs.times[step] - costs.times[step + 1]) * row[0]
            found[step] = sum(loop.clip(others, index) for index in range(min(GROWN, loop.count))) / move
        loop.tell("measuring growth", costs.steps - step, costs.steps - 1)
    last = found.get(max(found, default=0), 1.0) or 1.0
    return tuple(found.get(step, last) / last for step in range(costs.steps))


def refined(
    loop: ClosedLoop, start: Steps, others: Collection[Steps], gap: Gap, candidates: int
) -> tuple[Steps, float]:
    """The best of some plans by what runs say, and its error: the neighbours of ``start`` and the ``others`` that cost
    least, and from the best of those on."""
    costs: dict[Steps, float] = {}
    tried = {start: loop.error(start)}
    best = start
    while len(tried) < candidates:
        for plan in {*others, *neighbours(best, loop.steps)} - costs.keys():
            costs[plan] = cost_of(plan, loop.steps, gap)
        fresh = sorted((cost, plan) for plan, cost in costs.items() if plan not in tried and cost < inf)
        if not fresh:
            break
        for _, plan in islice(fresh, min(BREADTH, candidates - len(tried))):
            tried[plan] = loop.error(plan)
            loop.tell("refining", len(tried), candidates)
        best = min(tried, key=lambda plan: (tried[plan], plan))
    return best, tried[best]


@dataclass(frozen=True)
class _Recorded(Doubt):
    """Another doubt, which notes what it finds."""

    doubt: Doubt
    log: list[tuple[int, float]] = field(default_factory=list, hash=False)

    def start(self) -> Any:
        return self.doubt.start()

    def observe(self, memory: Any, moment: Moment, call: Call, outputs: Features) -> None:
        self.doubt.observe(memory, moment, call, outputs)

    def measure(self, memory: Any, moment: Moment, call: Call) -> float:
        self.log.append((moment.step, self.doubt.measure(memory, moment, call)))
        return self.log[-1][1]

    def held(self, memory: Any) -> tuple[Tensor, ...]:
        return self.doubt.held(memory)


def limits_along(loop: ClosedLoop, plan: Steps, doubt: Doubt, costs: Costs, share: float) -> Rows:
    """What a doubt comes to at the forecast steps of a plan, but for a ``share`` of the clips, in runs as they would be
    used; by the two full steps behind."""
    recorded, found = _Recorded(doubt), dict[int, list[float]]()
    never: Rows = {(NONE, NONE): (inf,)}
    watching = Budgeted(Given(plan, loop.steps), recorded, never, costs)
    rules = tuple(replace(rule, when=watching) for rule in loop.policy(plan))
    for index in range(loop.count):
        recorded.log.clear()
        loop.run(rules, index)
        for step, value in recorded.log:
            found.setdefault(step, []).append(value)
        loop.tell("measuring doubts", index + 1, loop.count)
    rows: dict[tuple[int, int], tuple[float, ...]] = {}
    for previous, (last, next) in zip((NONE, *plan), pairwise((*plan, loop.steps)), strict=False):
        begins = any(previous < switch <= last for switch in costs.switches)
        row = tuple(quantile_of(found[step], share) for step in range(last + 1, next) if step in found)
        rows |= {(NONE if begins else previous, last): row} if row else {}
    return rows
