"""Peers' rows, each measured in a process of its own, since some of them change classes for good."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from disca.bench.plan import Cells
from disca.bench.rows import Row
from disca.bench.turns import Turns
from disca.errors import unknown

LAST_LINES = 4
"""How much of what a process said last is told when it died."""


def peer_rows(cells: Cells) -> list[Row]:
    """The rows of peers."""
    return [row for row in cells.rows if row.extra["kind"] == "peer"]


def run_peer(row: Row, turns: Turns, output: Path) -> None:
    """Measure a peer's row through `disca bench --output OUTPUT --cell NAME`, unless it is measured already. Why it
    failed goes into ``turns.failed``."""
    trial = row.trial
    if row.reference in turns.failed:
        turns.failed[trial.name] = f"The reference {row.reference} failed."
        return
    if _complete(row, turns):
        return
    command = [sys.executable, "-m", "disca.cli", "bench", "--output", str(output), "--cell", row.name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not _complete(row, turns):
        said = " ".join(done.stderr.strip().splitlines()[-LAST_LINES:])
        noted = turns.store.noted(f"{trial.name}/failed")
        turns.failed[trial.name] = noted or f"Its process ended with code {done.returncode}: {said}"


def run_cell(cells: Cells, name: str, turns: Turns) -> None:
    """What that process does: the peer's row, and its full run beside it.

    Raises:
        ValueError: the grid has no such row.
    """
    rows = {row.name: row for row in peer_rows(cells)}
    if name not in rows:
        raise ValueError(unknown("row of a peer", name, rows))
    row = rows[name]
    assert row.over is not None and row.reference is not None
    turns.store.note(f"{row.trial.name}/failed", None)
    turns.run([cells.twin(row.over), replace(row.trial, references=(row.reference,))])
    if turns.failed:
        turns.store.note(f"{row.trial.name}/failed", "; ".join(turns.failed.values()))


def _complete(row: Row, turns: Turns) -> bool:
    plan = turns.plan
    return all(turns.store.has(row.trial.name, turn) for turn, _, _, _ in plan.turns())
