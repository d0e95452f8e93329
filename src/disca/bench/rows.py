"""From what trials gave to rows of a table: means over clips, each with an interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor

from disca.bench.sampling import Trial
from disca.bench.store import Part
from disca.bench.turns import Turns, counted
from disca.metrics.intervals import bootstrap, bootstrap_ratio, bootstrap_statistic
from disca.metrics.memory import CPU, CUDA
from disca.records import Record, command_line, hardware, now, versions

AGAIN = "@again"
"""What follows the name of a trial in that of its twin, which only times it again, beside others."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row: which trial, and what it is compared with."""

    name: str
    label: str
    trial: Trial
    policy: str = "none"
    reference: str | None = None
    """Name of the trial to whose clips the distance is shown; one of the trial's references."""
    over: str | None = None
    """Name of the trial that speed compares with."""
    extra: Mapping[str, Any] = field(default_factory=dict)


class Table:
    """Makes records of what was measured."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        pairs = turns.plan.pairs
        self._about: dict[str, Any] = {"versions": versions(), "hardware": hardware(), "command": command_line()}
        self._about |= {"date": now(), "seeds": pairs.seeds, "prompts": pairs.prompts}

    def record(self, row: Row, calibration: Mapping[str, Any] | None = None) -> Record:
        """The record of a row; of a trial that failed, one that says why.

        Args:
            calibration: for a row that decides while it runs, what :func:`disca.bench.turns.counted` says of a run of
                the same model with every step full: its operations are interpolated between the two.
        """
        trial = row.trial
        if trial.name in self._turns.failed:
            return self.failure(row, self._turns.failed[trial.name])
        calls = self._calls(trial)
        steps = _steps(calls)
        cost, intervals = self._cost(row, calls)
        fidelity, more = self._fidelity(row)
        world = self._world(trial)
        intervals |= more | world.pop("intervals", {})
        extra = {**self._details(row, calls), **world.pop("extra", {}), **row.extra}
        return Record(
            name=row.name,
            policy=row.policy,
            steps=trial.steps,
            full_steps=steps,
            transformer_evaluations=round(mean_evaluations(calls)),
            flops=self._flops(row, calls, calibration),
            reference=row.reference,
            **cost,
            **fidelity,
            **world,
            intervals=intervals,
            extra=extra,
            **self._about,
        )

    def failure(self, row: Row, error: str) -> Record:
        """The record of a row that could not be measured."""
        return Record(
            name=row.name,
            policy=row.policy,
            steps=row.trial.steps,
            full_steps=(),
            transformer_evaluations=0,
            reference=row.reference,
            extra={"label": row.label, "batch": row.trial.batch, **row.extra, "error": error},
            **self._about,
        )

    def _parts(self, name: str) -> list[Part | None]:
        return [self._turns.store.get(name, turn) for turn, _, _, _ in self._turns.plan.turns()]

    def _calls(self, trial: Trial) -> list[Mapping[str, Any]]:
        return [call for part in self._parts(trial.name) if part is not None for call in part.calls]

    def _values(self, name: str) -> dict[str, Tensor]:
        parts = [part.values for part in self._parts(name) if part is not None and part.values]
        return {key: torch.cat([part[key] for part in parts]) for key in (parts[0] if parts else ())}

    def _cost(self, row: Row, calls: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
        found: dict[str, Any] = {
            "seconds": self._median(row.trial.name, "seconds"),
            "seconds_end_to_end": self._median(row.trial.name, "end_to_end"),
            "bytes_held": _most(call["bytes_held"] for call in calls),
            "peak_memory": self._peak(row.trial, calls),
        }
        if row.over is None:
            return found, {}
        slow, fast = self._side_by_side(row.over, row.trial.name)
        ratios = [one / other for one, other in zip(slow, fast, strict=True)]
        found |= {"speedup": median(ratios), "speedup_over": row.over.partition(AGAIN)[0]}
        if len(ratios) < 2:
            return found, {}
        return found, {"speedup": bootstrap_statistic(lambda rows: median(ratios[at] for at in rows), len(ratios))}

    def _median(self, name: str, what: str) -> float:
        """The middle one of its turns' seconds for one clip: a slow spell of the machine does not move it."""
        return median(_seconds(part, what) for part in self._parts(name) if part is not None)

    def _side_by_side(self, slow: str, fast: str) -> tuple[list[float], list[float]]:
        """Seconds for one clip of both, in the turns that both took part in."""
        pairs = zip(self._parts(slow), self._parts(fast), strict=True)
        both = [(_seconds(one), _seconds(other)) for one, other in pairs if one is not None and other is not None]
        return [one for one, _ in both], [other for _, other in both]

    def _peak(self, trial: Trial, calls: Sequence[Mapping[str, Any]]) -> int | None:
        on_cuda = [call["gauge"][-1] for call in calls if call["gauge"]]
        return max(on_cuda) if on_cuda else counted(trial, self._turns.plan.pairs, self._turns.store)["peak"]

    def _flops(self, row: Row, calls: Sequence[Mapping[str, Any]], whole: Mapping[str, Any] | None) -> float:
        found = counted(row.trial, self._turns.plan.pairs, self._turns.store)
        if whole is None or whole["evaluations"] == found["evaluations"]:
            return float(found["flops"])
        slope = (whole["flops"] - found["flops"]) / (whole["evaluations"] - found["evaluations"])
        return float(found["flops"] + slope * (mean_evaluations(calls) - found["evaluations"]))

    def _fidelity(self, row: Row) -> tuple[dict[str, Any], dict[str, Any]]:
        if row.reference is None:
            return {}, {}
        end = f"@{row.reference}"
        found = {
            key.removesuffix(end): value.double().cpu()
            for key, value in self._values(row.trial.name).items()
            if key.endswith(end) or key == "motion"
        }
        return fidelity(found)

    def _world(self, trial: Trial) -> dict[str, Any]:
        if trial.model.measure is None:
            return {}
        values = self._values(trial.name)
        seen = {key.removeprefix("seen."): value for key, value in values.items() if key.startswith("seen.")}
        return dict(trial.model.measure.summarise(seen))

    def _details(self, row: Row, calls: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        clips = sum(call["clips"] for call in calls)
        found: dict[str, Any] = {"label": row.label, "batch": row.trial.batch, "solver": row.trial.solver}
        found["peak_memory_of"] = CUDA if any(call["gauge"] for call in calls) else CPU
        for name in ("seconds_full", "seconds_forecast"):
            found[name] = sum(call[name] for call in calls) / clips
        if len({tuple(call["full"]) for call in calls}) > 1:
            found["mean_full_steps"] = _mean(calls, lambda call: len(call["full"]))
            found["mean_evaluations"] = mean_evaluations(calls)
        return found


def fidelity(values: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Means over clips and their intervals, from the values of each clip; a PSNR that is infinite somewhere is None."""
    found: dict[str, Any] = {}
    intervals: dict[str, Any] = {}
    for name in ("psnr", "ssim", "lpips", "relative_l2", "latent_l2"):
        if name in values and values[name].isfinite().all():
            found[name], intervals[name] = values[name].mean().item(), bootstrap(values[name].numpy())
    over = values["reference_motion"]
    if over.sum() > 0:
        for name in ("motion", "flicker"):
            found[name] = (values[name].sum() / over.sum()).item()
            intervals[name] = bootstrap_ratio(values[name].numpy(), over.numpy())
    return found, intervals


def _steps(calls: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    """The full steps; where clips differ, those of the call whose number of them is nearest to the mean."""
    mean = _mean(calls, lambda call: len(call["full"]))
    plans: list[list[int]] = [call["full"] for call in calls]
    nearest: list[int] = min(plans, key=lambda full: abs(len(full) - mean))
    return tuple(nearest)


def mean_evaluations(calls: Sequence[Mapping[str, Any]]) -> float:
    """Full evaluations of the transformer for a clip, on average."""
    return _mean(calls, lambda call: call["evaluations"])


def _mean(calls: Sequence[Mapping[str, Any]], number: Any) -> float:
    return float(sum(number(call) * call["clips"] for call in calls) / sum(call["clips"] for call in calls))


def _most(values: Any) -> int | None:
    known = [value for value in values if value is not None]
    return max(known) if known else None


def _seconds(part: Part, what: str = "seconds") -> float:
    return sum(call[what] for call in part.calls) / sum(call["clips"] for call in part.calls)
