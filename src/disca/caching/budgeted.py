"""When to compute in full: as planned, earlier where a forecast is in doubt, and never more often than planned."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import Any

from torch import Tensor

from disca.caching.doubts import Doubt
from disca.caching.gates import Gate, MadeFor, Static
from disca.features import Call, Features, Moment
from disca.planning import NONE, Costs, Form, Rows, cost_from


@dataclass
class Spending:
    """What a gate with a budget remembers."""

    doubt: Any
    left: tuple[int, ...] | None = None
    """Full steps to come, from now on; None before the first step."""
    previous: int = NONE
    last: int = NONE
    """The last two full steps."""
    call: Call | None = None
    """What the gate was asked with in the step under way."""


@dataclass(frozen=True)
class Budgeted(Gate):
    """The steps of a static gate, and besides those at which a doubt exceeds what most clips showed at that step of the
    plan. Each of these is paid for: of the planned steps to come, the one is dropped without which, by the table of
    costs, the rest costs least. So a run has as many full steps as the static gate plans, and takes as long. Where none
    is left to pay with, forecasts are used whatever the doubt.
    """

    gate: Static
    doubt: Doubt
    limits: Rows = field(repr=False, hash=False)
    """The largest doubts that are nothing out of the ordinary, at the steps after two full steps of the plan. Other
    full steps have none, so that a run that has left the plan comes back to it before it leaves it again."""
    costs: Costs = field(repr=False)
    """Of the forecast."""
    form: Form = "drift"
    """What gaps cost, see :meth:`disca.planning.Costs.gap`."""
    made_for: MadeFor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.gate, Static):
            raise ValueError(f"A budget needs a plan that is known beforehand; given {self.gate}.")
        if not self.limits:
            raise ValueError("There are no limits of a doubt. Measure them: disca calibrate schedule METHOD --doubt.")

    def bounds(self, steps: int) -> tuple[int, int]:
        return self.gate.bounds(steps)

    def start(self) -> Spending:
        return Spending(self.doubt.start())

    def held(self, memory: Spending) -> tuple[Tensor, ...]:
        return self.doubt.held(memory.doubt)

    def opens(self, memory: Spending, moment: Moment, call: Call) -> bool:
        step, memory.call = moment.step, call
        if memory.left is None:
            memory.left = tuple(one for one in self.gate.schedule(moment.steps).full_steps if one >= step)
        if step in memory.left:
            memory.left = tuple(one for one in memory.left if one > step)
            return True
        rest = self._repaid(memory, step)
        if rest is None or self.doubt.measure(memory.doubt, moment, call) <= self._limit(memory, step):
            return False
        memory.left = rest
        return True

    def observe(self, memory: Spending, moment: Moment, call: Call, outputs: Features) -> None:
        if memory.last == moment.step or memory.call is None:  # only the first site is looked at
            return
        memory.previous, memory.last = memory.last, moment.step
        self.doubt.observe(memory.doubt, moment, memory.call, outputs)

    def _limit(self, memory: Spending, step: int) -> float:
        row = self.limits.get((memory.previous, memory.last), ())
        return row[step - memory.last - 1] if step - memory.last <= len(row) else inf

    def _repaid(self, memory: Spending, step: int) -> tuple[int, ...] | None:
        """What is left of the plan after a step that it did not have, or None where nothing can pay for it. Another
        transformer that takes over has a plan of its own, so its steps cannot."""
        if memory.last == NONE:
            return None
        left = memory.left or ()
        switch = min((one for one in self.costs.switches if one > step), default=self.costs.steps)
        rests = [tuple(one for one in left if one != gone) for gone in left if gone < switch]
        costs = {rest: cost_from((memory.last, step), rest, self.costs.steps, self._gap) for rest in rests}
        return min((rest for rest in rests if costs[rest] < inf), key=costs.__getitem__, default=None)

    @cached_property
    def _gap(self) -> Any:
        return self.costs.gap(self.form)
