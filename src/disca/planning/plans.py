"""The cheapest full steps: exact, in one pass for every number of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from disca.planning.costs import NONE, Gap, Key


@dataclass(frozen=True)
class Plan:
    """Full steps, and what they cost."""

    full_steps: tuple[int, ...]
    cost: float


def cost_of(full_steps: Iterable[int], steps: int, gap: Gap) -> float:
    """What a plan costs."""
    first, *rest = full_steps
    return cost_from((NONE, first), rest, steps, gap)


def cost_from(start: Key, rest: Iterable[int], steps: int, gap: Gap) -> float:
    """What is left of a plan costs, after the last two full steps."""
    full = (*start, *rest, steps)
    return sum(gap(*full[at : at + 3]) for at in range(len(full) - 2))


def solve(
    steps: int, gap: Gap, *, start: Key = (NONE, 0), most: int | None = None, history: int = 2
) -> dict[int, Plan]:
    """The cheapest plan with exactly so many full steps, for every number for which there is one.

    Args:
        start: the first full step of the plan, after the one before it; for what is left of a run under way.
        most: no plan has more full steps than this, ``start`` among them.
        history: 1 where gaps do not depend on the full step before their last; that is quicker.
    """
    plans, layer, back = {}, {start: 0.0}, [{start: start}]
    for count in range(1, (most or steps) + 1):
        ends = {key: cost + gap(*key, steps) for key, cost in layer.items()}
        best = min(ends, key=ends.__getitem__, default=None)
        if best is not None and ends[best] < inf:
            plans[count] = Plan(_traced(best, back), ends[best])
        layer, came = _extended(layer, steps, gap, history)
        back.append(came)
    return plans


def _extended(
    layer: Mapping[Key, float], steps: int, gap: Gap, history: int
) -> tuple[dict[Key, float], dict[Key, Key]]:
    """The cheapest ways to each state with one more full step, and where they come from."""
    costs: dict[Key, float] = {}
    came: dict[Key, Key] = {}
    for (previous, last), cost in layer.items():
        for next in range(last + 1, steps):
            key, total = (last if history > 1 else NONE, next), cost + gap(previous, last, next)
            if total < costs.get(key, inf):
                costs[key], came[key] = total, (previous, last)
    return costs, came


def _traced(key: Key, back: Sequence[Mapping[Key, Key]]) -> tuple[int, ...]:
    full = []
    for came in reversed(back):
        full.append(key[1])
        key = came[key]
    return tuple(reversed(full))


def within_budget(plans: Mapping[int, Plan]) -> list[Plan]:
    """The cheapest plan of at most so many full steps, for every number at which a larger budget buys something. The
    cheapest plan of exactly one more may cost more: a forecast from later can be worse."""
    found: list[Plan] = []
    for count in sorted(plans):
        if not found or plans[count].cost < found[-1].cost:
            found.append(plans[count])
    return found


def neighbours(full_steps: Sequence[int], steps: int) -> Iterator[tuple[int, ...]]:
    """Plans of as many full steps, one of them moved; the first stays."""
    free = [step for step in range(steps) if step not in full_steps]
    for gone in full_steps[1:]:
        for new in free:
            yield tuple(sorted({*full_steps, new} - {gone}))


def larger(full_steps: Sequence[int], steps: int) -> Iterator[tuple[int, ...]]:
    """Plans of one full step more."""
    return (tuple(sorted({*full_steps, new})) for new in range(steps) if new not in full_steps)


def smaller(full_steps: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Plans of one full step fewer; the first stays."""
    return (tuple(step for step in full_steps if step != gone) for gone in full_steps[1:])
