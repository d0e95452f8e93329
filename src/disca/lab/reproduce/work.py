"""Where an experiment works, and how much of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.progress import Progress

from disca import records as files
from disca.bench.rows import Row, Table
from disca.bench.store import Store
from disca.bench.turns import Plan, Turns, counted
from disca.files import write_text_atomic
from disca.lab.measure import held_out
from disca.lab.reproduce.page import write_page
from disca.provenance import command_line, git_revision, hardware, now, versions
from disca.records import Record

SEED = 11
"""Of the held-out pairs of prompt and noise."""
TURN = 20


@dataclass(frozen=True, kw_only=True)
class Work:
    """Folders, and how much is trained and measured."""

    output: Path
    """Of what is written: records, tables and figures."""
    runs: Path
    """Of what takes long: trainings, calibrations, samples. What is there is not made again."""
    recipes: Path = Path("recipes")
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the trainings."""
    compute: float = 1.0
    """Share of the operations that each training takes."""
    pairs: int = 120
    """Held-out pairs of prompt and noise."""
    prompts: int = 8
    """Training prompts of a calibration."""
    candidates: int = 24
    """Plans that a calibration samples."""
    compile: bool = True
    """Whether trainings that their recipe compiles are compiled."""
    say: Callable[[str], None] = field(default=print, compare=False)

    @property
    def settings(self) -> dict[str, Any]:
        """What the results depend on."""
        return {name: getattr(self, name) for name in ("seeds", "compute", "pairs", "prompts", "candidates")}

    def about(self) -> dict[str, Any]:
        """What a record has to say besides its numbers."""
        about = {"versions": versions(), "hardware": hardware(), "command": command_line(), "date": now()}
        return {"settings": self.settings, "seed": SEED, **about}

    def write(self, name: str, values: Mapping[str, Any]) -> None:
        """Write ``NAME.json``, with what is needed to make it again."""
        self.output.mkdir(parents=True, exist_ok=True)
        write_text_atomic(self.output / f"{name}.json", json.dumps({**values, **self.about()}, indent=1) + "\n")

    def measure(self, name: str, rows: Sequence[Row], *, title: str) -> tuple[list[Record], Turns]:
        """Sample rows side by side, go on from what was sampled, and write their records, a table and figures.

        Raises:
            RuntimeError: a row failed.
        """
        pairs = held_out(self.pairs, SEED)
        store = self._store(name, {"rows": [_described(row) for row in rows], "pairs": self.pairs})
        turns = Turns(Plan(pairs=pairs, turn=TURN), store)
        trials = list({row.trial.name: row.trial for row in rows}.values())
        with Progress() as bar:
            line = bar.add_task(name, total=len(trials) * len(list(turns.plan.turns())))
            turns.progress = lambda trial: bar.advance(line)
            turns.run(trials)
            if turns.failed:
                raise RuntimeError(f"Some rows of {name} failed: {turns.failed}")
            bar.update(line, description=f"{name}: intervals")
            table = Table(turns)
            whole = {row.trial.name: counted(row.trial, pairs, store) for row in rows if row.policy == "none"}
            found = [table.record(row, whole.get(row.reference or "")) for row in rows]
        self.output.mkdir(parents=True, exist_ok=True)
        files.write(self.output / f"{name}.jsonl", found)
        write_page(self.output / f"{name}.md", found, title=title)
        return found, turns

    def _store(self, name: str, asked: Mapping[str, Any]) -> Store:
        """What was sampled of these very rows, by this very code."""
        folder = self.runs / name / "samples"
        said = json.loads(json.dumps({**asked, "git": git_revision()}))
        store = Store(folder)
        if store.noted("asked") != said:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            store.note("asked", said)
        return store


def quick(work: Work) -> Work:
    """As little as shows that everything runs."""
    return replace(work, seeds=(0,), compute=1e-3, pairs=4, prompts=1, candidates=1, compile=False)


def _described(row: Row) -> list[Any]:
    trial = row.trial
    return [row.name, row.policy, trial.steps, trial.solver, trial.batch, list(trial.references)]


@dataclass(frozen=True)
class Experiment:
    """One of those that ``disca lab reproduce`` knows."""

    run: Callable[[Work], None]
    about: str
    """What it shows, in a line."""
    minutes: int
    """About how long it takes, on one core."""
