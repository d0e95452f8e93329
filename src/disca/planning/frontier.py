"""Plans from the cheapest to the closest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from disca.planning.costs import Costs
from disca.schedules import Schedule


@dataclass(frozen=True)
class Point:
    """A plan on the way between cheap and close."""

    full_steps: tuple[int, ...]
    cost: float
    """By the table."""
    error: float | None = None
    """How far its runs end from full runs: mean over clips of the relative L2 of the last latents."""
    flops: float | None = None
    """Operations of the transformer, as a share of those of full runs."""


@dataclass(frozen=True)
class Frontier:
    """The best full steps for every budget, for runs of so many steps of one forecast."""

    steps: int
    points: tuple[Point, ...]
    """By the number of full steps."""
    costs: Costs | None = None
    """The table that they were computed from, to compute what is left of a run anew."""

    def __post_init__(self) -> None:
        for point in self.points:
            Schedule(self.steps, point.full_steps)
        if not self.points:
            raise ValueError("A frontier needs at least one plan.")

    def point(self, full_steps: int) -> Point:
        """The best plan of at most so many full steps: the closest to full runs, or where that was not measured of all
        the cheapest by the table.

        Raises:
            ValueError: there is none of so few.
        """
        found = [point for point in self.points if len(point.full_steps) <= full_steps]
        if not found:
            counts = ", ".join(str(len(point.full_steps)) for point in self.points)
            raise ValueError(f"There is no plan of {full_steps} full steps; there are plans of {counts}.")
        known = [point for point in found if point.error is not None]
        if len(known) == len(found):
            return min(found, key=lambda point: (point.error or 0.0, len(point.full_steps)))
        exact = [point for point in known if len(point.full_steps) == full_steps]
        return exact[0] if exact else min(found, key=lambda point: (point.cost, len(point.full_steps)))

    def at(self, full_steps: int) -> Schedule:
        """The schedule of :meth:`point`."""
        return Schedule(self.steps, self.point(full_steps).full_steps)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        points = [{**vars(point), "full_steps": list(point.full_steps)} for point in self.points]
        return {"steps": self.steps, "points": points, "costs": None if self.costs is None else self.costs.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Frontier:
        """The inverse of :meth:`to_dict`."""
        points = (Point(**{**point, "full_steps": tuple(point["full_steps"])}) for point in values["points"])
        return cls(
            values["steps"], tuple(points), None if values["costs"] is None else Costs.from_dict(values["costs"])
        )
