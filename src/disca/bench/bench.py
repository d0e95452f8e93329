"""`disca bench`: measures a grid, whole or from where it was interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from disca import records as files
from disca import toml
from disca.bench.grid import Grid, ModelEntry
from disca.bench.models import Model, with_bundle
from disca.bench.plan import Cells, cells_of, pairs_of
from disca.bench.rows import Row, Table, mean_evaluations
from disca.bench.sampling import Trial
from disca.bench.store import Store
from disca.bench.turns import Plan, Turns, counted
from disca.bench.worker import peer_rows, run_cell, run_peer
from disca.files import check_writable
from disca.provenance import hardware, versions
from disca.records import Record

STATE = "state"
RECORDS = "records.jsonl"
ACCELERATED = ("cached", "peer")
"""Kinds of rows that have rivals."""

Load = Callable[[ModelEntry], Model]
"""Loads the source of a model, without its bundle."""


@dataclass(frozen=True)
class Kept:
    """A clip to be written as a file."""

    row: str
    prompt: str
    seed: int
    frames: Tensor
    """``[frames, 3, height, width]`` in [0, 1]."""


@dataclass(frozen=True)
class Result:
    """What a grid gave."""

    records: list[Record]
    clips: list[Kept]


def bench(grid: Grid, output: str | Path, load: Load) -> Result:
    """Measure a grid into a folder: ``records.jsonl``, and ``state``, from which a rerun goes on.

    Raises:
        ValueError: bad options, before anything is sampled; a folder in which another grid was begun.
        OSError: the folder cannot be written.
    """
    output = check_writable(output)
    models = load_models(grid, load)
    cells = cells_of(grid, models)
    plan, store = plan_of(grid, models), Store(output / STATE)
    begin(store, grid)
    whole = frozenset(row.trial.name for row in cells.rows if row.extra["kind"] == "full")
    turns = Turns(plan, store, references=whole)
    with _progress() as bar:
        line = bar.add_task(grid.name, total=0)
        turns.progress = lambda trial: bar.advance(line)
        _run(turns, cells.trials, bar, line)
        peers = peer_rows(cells)
        bar.update(line, total=(bar.tasks[line].total or 0) + len(peers))
        for row in peers:
            run_peer(row, turns, output)
            bar.advance(line)
        _run(turns, _later(cells, turns), bar, line)
    table = _records(cells, turns)
    files.write(output / RECORDS, table)
    return Result(table, list(_kept(cells, turns, grid.clips)))


def bench_cell(output: str | Path, name: str, load: Load) -> None:
    """Measure one peer's row of the grid that was begun in a folder; what a peer's own process does.

    Raises:
        ValueError: no grid was begun there, or it has no such row.
    """
    store = Store(Path(output) / STATE)
    begun = store.noted("grid")
    if begun is None:
        raise ValueError(f"No grid was begun in {output}: `disca bench --grid FILE --output {output}` begins one.")
    grid = toml.parse(Grid, begun["grid"], where=str(output))
    begin(store, grid)
    models = load_models(grid, load)
    run_cell(cells_of(grid, models), name, Turns(plan_of(grid, models), store))


def load_models(grid: Grid, load: Load) -> dict[str, Model]:
    """The models of a grid by name."""
    found = {}
    for entry in grid.models:
        model = load(entry)
        model = with_bundle(model, entry.bundle) if entry.bundle else model
        found[entry.name] = replace(model, call={**model.call, **entry.call})
    return found


def begin(store: Store, grid: Grid) -> None:
    """Note what is measured, or make sure that it is what was begun.

    Raises:
        ValueError: another grid, other versions or other hardware.
    """
    wanted = json.loads(json.dumps({"grid": grid.as_dict(), "versions": versions(), "hardware": hardware()}))
    begun = store.noted("grid")
    if begun is None:
        store.note("grid", wanted)
        return
    for what, value in wanted.items():
        changed = [key for key in {**value, **begun[what]} if value.get(key) != begun[what].get(key)]
        if changed:
            raise ValueError(
                f"The folder holds a grid that was begun with other {what} ({', '.join(sorted(changed))}). Numbers of "
                "both would not compare: choose another output folder, or delete this one's state."
            )


def plan_of(grid: Grid, models: Mapping[str, Model]) -> Plan:
    """How the grid is sampled.

    Raises:
        ValueError: there is nothing to sample.
    """
    lpips = None
    if grid.lpips:
        from disca.metrics.similarity import Lpips

        lpips = Lpips()
    pairs = pairs_of(grid, models.values())
    return Plan(pairs=pairs, turn=grid.turn or grid.batch, repeats=grid.repeats, keep=grid.clips, lpips=lpips)


def _progress() -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


def _run(turns: Turns, trials: Iterable[Trial], bar: Progress, line: Any) -> None:
    trials = list(trials)
    count = sum(turns.plan.takes_part(trial, index) for trial in trials for _, index, _, _ in turns.plan.turns())
    bar.update(line, total=(bar.tasks[line].total or 0) + count)
    turns.run(trials)


def _later(cells: Cells, turns: Turns) -> list[Trial]:
    """Adds the rivals of rows that decided while they ran; the trials that are new, full runs to time them by first."""
    cells.sampled = {trial.name: trial for trial in cells.trials}
    for row in [row for row in cells.rows if row.extra["kind"] in ACCELERATED]:
        if row.trial.name not in turns.failed:
            cells.rivals(row, _count(row, turns))
    return [*cells.again(), *(trial for trial in cells.trials if trial.name not in cells.sampled)]


def _count(row: Row, turns: Turns) -> int:
    """Plain steps with as many evaluations as the row; its full steps, where branches are never full apart."""
    parts = [turns.store.get(row.trial.name, turn) for turn, _, _, _ in turns.plan.turns()]
    evaluations = mean_evaluations([call for part in parts if part is not None for call in part.calls])
    whole = turns.store.noted(f"{row.reference}/counted")
    return round(evaluations * row.trial.steps / whole["evaluations"])


def _records(cells: Cells, turns: Turns) -> list[Record]:
    table = Table(turns)
    found = []
    for row in list(cells.rows):
        if row.extra["kind"] in ACCELERATED and row.trial.name not in turns.failed:
            rivals = cells.rivals(row, _count(row, turns))
            row = replace(row, extra={**row.extra, "rivals": rivals})
        whole = next((one.trial for one in cells.rows if one.trial.name == row.reference), None)
        usable = whole is not None and whole.name not in turns.failed
        calibration = counted(whole, turns.plan.pairs, turns.store) if usable and whole else None
        found.append(table.record(row, calibration))
    return found


def _kept(cells: Cells, turns: Turns, count: int) -> Iterable[Kept]:
    """The first clips of every row."""
    pairs = turns.plan.pairs
    for turn, index, repeat, part in turns.plan.turns():
        if repeat or index * turns.plan.turn >= count:
            return
        for row in cells.rows:
            frames = turns.store.frames(row.trial.name, turn)
            if frames is None:
                continue
            for place in range(min(len(part), count - index * turns.plan.turn)):
                at = index * turns.plan.turn + place
                yield Kept(row.name, pairs.prompts[at], pairs.seeds[at], frames[place])
