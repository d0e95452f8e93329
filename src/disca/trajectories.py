"""Where features go along a run, seen in two dimensions: a small file beside the records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from disca.files import write_text_atomic

FILE = "trajectories.json"
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """One run."""

    name: str
    """Of its record."""
    points: tuple[tuple[float, float], ...]
    """After each step, along the first two principal components."""
    full: tuple[bool, ...]
    """Which of the steps were computed in full."""
    distance: tuple[float, ...]
    """Of the features to the reference run's at the same step, relative L2, all components together."""

    def __post_init__(self) -> None:
        if not len(self.points) == len(self.full) == len(self.distance) > 1:
            raise ValueError(f"The trajectory {self.name!r} needs a point, a kind and a distance for each step.")


@dataclass(frozen=True, kw_only=True)
class Trajectories:
    """Some runs of one model from the same noise, and what they are compared with."""

    prompt: str
    seed: int
    reference: str
    """Name of the run whose principal components are the axes: every step of it is full."""
    explained: tuple[float, float]
    """Shares of that run's variance along the axes."""
    tokens: int
    """How many of the trunk's tokens were looked at."""
    runs: tuple[Trajectory, ...]
    """The reference first."""

    def __post_init__(self) -> None:
        if not self.runs or self.runs[0].name != self.reference:
            raise ValueError(f"The first trajectory is that of the reference, {self.reference!r}.")
        if len({len(run.points) for run in self.runs}) > 1:
            raise ValueError("Trajectories that are compared have as many steps as each other.")


def write(folder: str | Path, found: Sequence[Trajectories]) -> Path:
    """Write ``trajectories.json`` into a folder."""
    path = Path(folder) / FILE
    values = {"schema": SCHEMA, "trajectories": [asdict(one) for one in found]}
    write_text_atomic(path, json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def read(folder: str | Path) -> list[Trajectories]:
    """The trajectories in a folder; none where there is no such file.

    Raises:
        ValueError: the file is damaged, or of another version.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return []
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["schema"] != SCHEMA:
            raise ValueError(f"its schema is {stored['schema']}, not {SCHEMA}")
        return [_parse(one) for one in stored["trajectories"]]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged: {error}. Record it again, or delete it.") from error


def _parse(values: dict[str, Any]) -> Trajectories:
    runs = tuple(
        Trajectory(
            name=one["name"],
            points=tuple((x, y) for x, y in one["points"]),
            full=tuple(one["full"]),
            distance=tuple(one["distance"]),
        )
        for one in values["runs"]
    )
    return Trajectories(**{**values, "runs": runs, "explained": tuple(values["explained"])})
