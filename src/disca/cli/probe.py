"""`disca train probe`: which mean-flow target suits a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional

from disca.cli.printing import Printing, say, show


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Measure the teacher of a mean-flow recipe: how far exact derivatives and differences agree, how much they move
    the target, and which target follows.

    disca train probe recipes/lab_student.toml

    disca train probe recipes/lab_student.toml --set dtype=bfloat16 --json
    """

    recipe: Positional[Path]
    """The recipe, a TOML file of the stage mean_flow."""
    changes: Annotated[tuple[tuple[str, ...], ...], tyro.conf.arg(name="set"), tyro.conf.UseAppendAction] = ()
    """Changes to the recipe, key=value; keys of a table have dots."""
    batch: int = 4
    """Clips to measure on."""
    printing: Printing = Printing()


def probe(options: Probe) -> dict[str, Any]:
    """Measure and recommend."""
    from disca.training.probe import probe as measure

    if options.batch < 1:
        raise ValueError(f"--batch is how many clips to measure on, at least 1, not {options.batch}.")
    changes = [change for group in options.changes for change in group]
    report = measure(options.recipe, overrides=changes, batch=options.batch)
    _show(report)
    return dict(report.as_dict())


def _show(report: Any) -> None:
    from rich.table import Table

    ways = [name for name in report.rows[0].disagreement if name != "forward"]
    table = Table("t", "(t-r)|du/dt| / |v|", *(f"{name} off" for name in ways))
    for row in report.rows:
        table.add_row(f"{row.t:g}", f"{row.size:.3f}", *(f"{row.disagreement[name]:.1%}" for name in ways))
    show(table)
    say(f"{report.tokens} video tokens, {report.dtype}. Recommended: objective.target = {report.target!r}, since")
    say(f"{report.reason}.")
