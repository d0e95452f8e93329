"""An experiment's page: its table, and one picture for each run that distances are measured to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from disca.files import write_text_atomic
from disca.records import Record
from disca.report.frontier import frontier
from disca.report.markdown import table, write_picture

FAR = 2.5
"""Times the median distance from which on a row is not drawn: one that has failed would squash the others."""


def write_page(path: Path, records: Sequence[Record], *, title: str) -> None:
    """Write the Markdown file, and its pictures beside it: closeness against operations, of one seed of each variant.
    The table has all rows."""
    parts = [f"# {title}", table(records)]
    for run in dict.fromkeys(one.reference for one in records if one.reference):
        picture = frontier(drawn(records, run), across="flops")
        if picture:
            file = path.with_name(f"{path.stem}_{run}.svg")
            write_picture(file, picture)
            parts += [f"Beside {run}, whose operations are what is saved:", f"![{title}, beside {run}]({file.name})"]
    parts.append(f"Of a variant's seeds the first is drawn, and nothing farther than {FAR} times the median distance.")
    write_text_atomic(path, "\n\n".join(parts) + "\n")


def drawn(records: Sequence[Record], run: str) -> list[Record]:
    """The run, and rows that are compared with it, one of each variant and number of steps, called as their trials."""
    chosen: dict[object, Record] = {}
    for one in records:
        if one.reference == run:
            chosen.setdefault((one.extra.get("variant", one.name), one.steps), one)
    middle = median(one.relative_l2 or 0.0 for one in chosen.values())
    near = [one for one in chosen.values() if (one.relative_l2 or 0.0) <= FAR * middle]
    # The run has no place in the picture, but all compare with its cost.
    full = [replace(one, relative_l2=None, reference=None, intervals={}) for one in records if one.name == run]
    return full + [replace(one, extra={**one.extra, "short": _short(one, run)}) for one in near]


def _short(record: Record, run: str) -> str:
    name, seed = record.name.removesuffix(f"_to_{run}"), record.extra.get("seed")
    return (name if seed is None else name.replace(f"_{seed}", "", 1)).replace("_", " ")
