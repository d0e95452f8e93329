"""What forecasts err at every step, whichever full steps they were made from, and what gaps between full steps cost."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, inf
from typing import Any, Literal, get_args

from disca.errors import check_choice

Form = Literal["squared", "linear", "drift"]
Key = tuple[int, int]
"""The full step before the last one, and the last one; -1 before the first, and where the forecast does not look."""
NONE = -1
Rows = Mapping[Key, tuple[float, ...]]
Gap = Callable[[int, int, int], float]
"""``gap(previous, last, next)``: what the steps between two full steps cost; infinite where that is not to be."""


@dataclass(frozen=True)
class Costs:
    """How a forecast errs at every step, whichever full steps it was made from."""

    times: tuple[float, ...]
    """Of the run, from 1 (noise), and its end: one more than there are steps."""
    errors: Rows = field(hash=False)
    """Root mean square of the velocity's error at the steps after the last full one, as far as is known. Where it
    ends, the forecast cannot reach: too long a gap, or another transformer takes over."""
    drifts: Rows = field(hash=False)
    """Root mean square of what all forecasts since the last full step have moved the latents by."""
    history: int = 1
    """1 where the forecast looks at the last full step only, 2 where the one before counts."""
    switches: tuple[int, ...] = ()
    """Steps at which another transformer takes over, which are full in any case."""
    growth: tuple[float, ...] = ()
    """What a move of the latents by each step's error has become by the end of the run, over that of the last step's;
    1 for every step where it is not known."""

    @property
    def steps(self) -> int:
        return len(self.times) - 1

    def key(self, previous: int, last: int) -> Key:
        """Where a pair of full steps is in the table. What another transformer computed is not looked at."""
        begin = max((step for step in self.switches if step <= last), default=0)
        return (previous if previous >= begin and self.history > 1 else NONE, last)

    def gap(
        self,
        form: Form = "drift",
        *,
        inclusive: bool = False,
        longest: int | None = None,
        forced: Collection[int] = (),
    ) -> Gap:
        """What gaps cost.

        Args:
            form: ``squared`` adds up squared distances that the latents are moved by, |t - r|^2 times the mean square
                error of the velocity; ``linear`` adds up the distances themselves, |t - r| times its root; ``drift`` is
                the square of the distance that all steps of a gap move them together, since errors of neighbouring
                steps point the same way. Each step's distance counts by its ``growth``.
            inclusive: count the error that the forecast would have at the next full step, too; it is never made, but
                speaks against long gaps.
            longest: no full step is farther from the one before than this.
            forced: steps that are full in any case.
        """
        check_choice("form", form, get_args(Form))
        rows = {key: self._running(key, form) for key in self.errors}
        last_step = self.steps - 1

        def gap(previous: int, last: int, next: int) -> float:
            row, count = rows.get(self.key(previous, last), (0.0,)), next - last - 1
            too_long = count >= len(row) or (longest is not None and next - last > longest)
            if too_long or any(last < step < next for step in (*forced, *self.switches)):
                return inf
            reach = count + 1 if inclusive and next <= last_step else count
            return row[min(reach, len(row) - 1)]

        return gap

    def _running(self, key: Key, form: Form) -> tuple[float, ...]:
        """Cost of a gap by the number of its forecasts, from none."""
        drifted, before, total, found = 0.0, 0.0, 0.0, [0.0]
        growth = self.growth or (1.0,) * self.steps
        rows = zip(self.errors[key], self.drifts[key], strict=True)
        for step, (error, drift) in enumerate(rows, start=key[1] + 1):
            move = growth[step] * abs(self.times[step] - self.times[step + 1]) * error
            drifted, before = drifted + growth[step] * (drift - before), drift
            total = drifted**2 if form == "drift" else total + (move if form == "linear" else move**2)
            found.append(total)
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """For JSON, to four digits."""
        return {
            "times": list(self.times),
            "history": self.history,
            "switches": list(self.switches),
            "growth": [float(f"{value:.4g}") for value in self.growth],
            **{name: _written(getattr(self, name)) for name in _TABLES},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Costs:
        """The inverse of :meth:`to_dict`."""
        tables = {name: rows_of(values[name]) for name in _TABLES}
        return cls(
            times=tuple(values["times"]),
            history=values["history"],
            switches=tuple(values["switches"]),
            growth=tuple(values.get("growth", ())),
            **tables,
        )


_TABLES = ("errors", "drifts")


def aggregate(clips: Sequence[Costs], quantile: float) -> Costs:
    """One table of several clips': of each entry the smallest value that a ``quantile`` of the clips do not exceed.

    Raises:
        ValueError: no clips, a share that is none, or tables of different runs.
    """
    if not clips or not 0 < quantile <= 1:
        raise ValueError(f"Aggregating takes at least one clip and a share in (0, 1]; given {len(clips)}, {quantile}.")
    first = clips[0]
    if any((one.times, one.history, one.errors.keys()) != (first.times, first.history, first.errors.keys())
           for one in clips):  # fmt: skip
        raise ValueError("The clips were sampled in different runs: other times, or other full steps tried.")

    def rows(name: str) -> Rows:
        tables = [getattr(one, name) for one in clips]
        return {
            key: tuple(quantile_of(values, quantile) for values in zip(*(table[key] for table in tables), strict=True))
            for key in tables[0]
        }

    return replace(first, errors=rows("errors"), drifts=rows("drifts"))


def quantile_of(values: Sequence[float], share: float) -> float:
    """The smallest of the values that a ``share`` of them do not exceed."""
    return sorted(values)[ceil(share * len(values)) - 1]


def rows_of(written: Mapping[str, Sequence[float]]) -> Rows:
    """Rows as JSON has them."""
    return {_key(key): tuple(row) for key, row in written.items()}


def _written(rows: Rows) -> dict[str, list[float]]:
    return {f"{i},{j}": [float(f"{value:.4g}") for value in row] for (i, j), row in rows.items()}


def _key(text: str) -> Key:
    previous, last = text.split(",")
    return (int(previous), int(last))
