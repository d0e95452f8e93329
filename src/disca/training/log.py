"""What a run tells: a line in a terminal, rows in log.jsonl, curves in a tracker."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from disca.files import write_text_atomic
from disca.objectives import Loss
from disca.training.recipe import Recipe

EDGES = (0.0, 1e-6, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0)
"""Of the bins of intervals and gaps that errors are told apart by; the first holds what has no length."""


class Log:
    """The rows of a run. Only the first process has one."""

    def __init__(self, recipe: Recipe, output: Path) -> None:
        self.path = output / "log.jsonl"
        self.trackers = [_tracker(name, recipe, output) for name in recipe.trackers]

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row; numbers in it, also inside of tables, go to the trackers."""
        with self.path.open("a") as log:
            log.write(json.dumps(row) + "\n")
        numbers = {name: value for name, value in _numbers(row) if name != "iteration"}
        for tracker in self.trackers:
            tracker.log(numbers, step=row["iteration"])

    def close(self) -> None:
        """Let the trackers write what they hold."""
        for tracker in self.trackers:
            tracker.finish()


def forget_rows(output: Path, after: int) -> None:
    """Drop the rows of a log behind an iteration, which a resumed run will write again."""
    path = output / "log.jsonl"
    rows = path.read_text().splitlines() if path.exists() else []
    write_text_atomic(path, "".join(f"{row}\n" for row in rows if _iteration(row) <= after))


class Bins:
    """Mean errors by the length of an interval or a gap, since the last row."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros(2, len(EDGES) - 1, dtype=torch.float64))

    def take(self, loss: Loss) -> None:
        """Count the samples of a micro-batch in."""
        for name, lengths in loss.by.items():
            lengths = lengths.detach().double().cpu()
            which = torch.bucketize(lengths, torch.tensor(EDGES[1:-1], dtype=torch.float64), right=True)
            sums, errors = self._sums[name], loss.per_sample.double().cpu()
            sums[0].index_add_(0, which, errors)
            sums[1].index_add_(0, which, torch.ones_like(errors))

    def row(self) -> dict[str, dict[str, float]]:
        """The means, by bin; counting begins anew."""
        found = {}
        for name, (total, count) in self._sums.items():
            bins = zip(pairwise(EDGES), total.tolist(), count.tolist(), strict=True)
            found[f"mse_by_{name}"] = {_label(*ends): error / many for ends, error, many in bins if many}
        self._sums.clear()
        return found


def progress(*, shown: bool) -> Progress:
    """A bar with the iteration, what is shown of it, and the time left."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[shown]}")
    return Progress(*columns, TimeRemainingColumn(), disable=not shown)


def _label(low: float, high: float) -> str:
    return "0" if low == 0 else f"{max(low, 0.0):g}-{high:g}"


def _iteration(row: str) -> float:
    try:
        return float(json.loads(row)["iteration"])
    except (ValueError, KeyError):
        return float("inf")  # a line that was cut short


def _numbers(row: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in row.items():
        if isinstance(value, Mapping):
            found += _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found.append((f"{prefix}{name}", value))
    return found


def _tracker(name: str, recipe: Recipe, output: Path) -> Any:
    from accelerate.tracking import TensorBoardTracker, WandBTracker

    if name == "tensorboard":
        import tensorboard  # noqa: F401  so that what is missing is named

        tracker: Any = TensorBoardTracker("tensorboard", output)
    else:
        import wandb  # noqa: F401

        tracker = WandBTracker("disca", name=recipe.name, config=recipe.as_dict(), dir=str(output))
    tracker.start()
    return tracker
