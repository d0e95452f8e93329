"""Speed against closeness from records, with the present choice marked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from disca import records as files
from disca.bench.grid import parse_method
from disca.caching.methods import METHODS
from disca.demo.options import options_of
from disca.demo.timeline import COUNTED
from disca.records import Record
from disca.report.frontier import frontier

PACKAGED = Path(__file__).parent / "records.jsonl"
"""Some of the lab's records, which come with the package."""
THIS = "this_run"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is chosen on the page, as records are looked through for it."""

    rows: str
    """What records call the model."""
    steps: int
    method: str
    options: Mapping[str, Any]
    full: tuple[int, ...] | None = None
    """The full steps, where they are known."""


@dataclass(frozen=True)
class Curve:
    """A picture and what it shows."""

    svg: str
    words: str
    chosen: str = ""
    """Name of the record of the present choice, where there is one."""


def read(paths: Sequence[Path]) -> list[Record]:
    """The records of some files, or those that come with the package.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is no record.
    """
    return [record for path in paths or (PACKAGED,) for record in files.read(path)]


def curve(records: Sequence[Record], choice: Choice, run: Record | None = None) -> Curve:
    """The records of a model at a number of steps, or at the nearest number that there are records of.

    Args:
        run: what was measured of the choice just now, which joins the picture where that is of its steps.
    """
    groups = {full.steps: full for full in reversed(full_runs(records, choice.rows))}
    if not groups:
        return Curve("", f"There are no records of {choice.rows}. disca bench makes some; name them with --records.")
    nearest = min(groups, key=lambda count: abs(count - choice.steps))
    shown = compared(records, groups[nearest])
    same = nearest == choice.steps
    marked = next((row.name for row in shown if same and is_choice(row, choice)), "")
    clips = len(groups[nearest].seeds)
    words = f"Recorded at {nearest} steps: means over {clips} clips, compared with every step in full."
    words += "" if same else f" There are no records at {choice.steps} steps."
    words += " The ringed dot is your choice." if marked else ""
    if run is not None and same:
        shown.append(replace(run, name=THIS, reference=shown[0].name, speedup_over=shown[0].name))
        words += " The large dot is the run above: one clip, on this machine, now."
    return Curve(frontier(shown, aside=(THIS,)), words, marked)


def full_runs(records: Sequence[Record], rows: str) -> list[Record]:
    """Runs of a model with every step in full that others are compared with, in both closeness and speed."""
    names = {_run(row.reference) for row in records if _is_compared(row)}
    return [row for row in records if row.name in names and _model(row) == rows and len(row.full_steps) == row.steps]


def compared(records: Sequence[Record], full: Record) -> list[Record]:
    """A full run, and what is compared with it; of each name the last."""
    rows = {row.name: row for row in records if _is_compared(row) and _run(row.reference) == full.name}
    others = [row for row in rows.values() if _run(row.name) != full.name and "error" not in row.extra]
    found = [replace(full, speedup=1.0, speedup_over=full.name, relative_l2=0.0), *others]
    return [replace(row, extra={**row.extra, "short": _short(row)}) for row in found]


def _short(row: Record) -> str:
    """A row's name in a picture."""
    return str(row.extra.get("short") or row.name).replace("_", " ")


def is_choice(row: Record, choice: Choice) -> bool:
    """Whether a record is of a choice: the same method, the same full steps, and else the same options, of which one
    left out is the method's default."""
    try:
        name, given = parse_method(row.policy)
    except ValueError:
        return False
    if name != choice.method or name not in METHODS or row.steps != choice.steps:
        return False
    if choice.full is not None and row.full_steps != choice.full:
        return False
    apart = ("full_steps", *COUNTED) if choice.full is not None else ()
    return _rest(name, given, apart) == _rest(name, choice.options, apart)


def _rest(method: str, options: Mapping[str, Any], apart: Sequence[str]) -> dict[str, Any]:
    """Options with the method's defaults, without some."""
    defaults = {option.name: option.default for option in options_of(method)}
    return {name: value for name, value in {**defaults, **options}.items() if name not in apart}


def _is_compared(row: Record) -> bool:
    """Whether a row measures closeness and speed against one and the same run."""
    return row.reference is not None and _run(row.reference) == _run((row.speedup_over or "").partition("@")[0])


def _run(name: str | None) -> str:
    """A run's name without its batch, which is about time only."""
    return re.sub(r"_batch\d+$", "", name or "")


def _model(row: Record) -> str:
    """What a full run says of its model: ``student_8`` is the student."""
    return str(row.extra.get("model") or row.name.rpartition("_")[0])
