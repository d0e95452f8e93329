"""What a schedule would gain on a machine, before anything is trained or sampled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from disca.adapters import ADAPTERS
from disca.bench.cost import PASSES, STEPS, HostCost, cost_of
from disca.bench.machines import Machine
from disca.bench.operations import flops
from disca.bench.sizes import Size, feed_of
from disca.schedules import Schedule


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A schedule of DisCa against the base, of which every step is full."""

    machine: Machine
    seconds_full: float
    seconds_forecast: float
    seconds_run: float
    """Of the transformer, all steps of the schedule."""
    speedup: float
    """Over 50 steps of two passes."""
    speedup_over_stock: float
    """Over what the stock pipeline does by default, which may be one pass."""


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """A host at one size, and what a schedule gains there."""

    size: Size
    cost: HostCost
    schedule: Schedule
    stock_steps: int
    stock_passes: int
    bound: float
    """Speed-up over 50 steps of two passes by operations alone."""
    bound_over_stock: float

    def on(self, machine: Machine) -> Prediction:
        """The same in seconds."""
        cost, of = self.cost, machine.seconds
        return Prediction(
            machine=machine,
            seconds_full=of(cost.full),
            seconds_forecast=of(cost.forecast),
            seconds_run=of(cost.run(self.schedule)),
            speedup=cost.speedup(self.schedule, of, over=STEPS * PASSES),
            speedup_over_stock=cost.speedup(self.schedule, of, over=self.stock_steps * self.stock_passes),
        )


def outlook(
    host: str, config: Mapping[str, Any], size: Size, schedule: Schedule, *, text: int | None = None, depth: int = 2
) -> Outlook:
    """What a host of this class and configuration costs, and what ``schedule`` spares; nothing is loaded.

    Raises:
        ValueError: a host that nobody described, or a size that it cannot have.
    """
    return outlook_of(host, cost_of(host, config, size, text=text, depth=depth), size, schedule)


def outlook_of(host: str, cost: HostCost, size: Size, schedule: Schedule) -> Outlook:
    """The same of a cost that was counted before."""
    feed = feed_of(ADAPTERS[host])
    stock = feed.steps * feed.passes
    return Outlook(
        size=size,
        cost=cost,
        schedule=schedule,
        stock_steps=feed.steps,
        stock_passes=feed.passes,
        bound=cost.speedup(schedule, flops),
        bound_over_stock=cost.speedup(schedule, flops, over=stock),
    )
