"""One command of training: a recipe in, a folder with checkpoints, log, validation and result out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch

from disca.errors import unknown
from disca.files import check_writable, write_text_atomic
from disca.provenance import command_line, hardware, now, versions
from disca.toml import parse
from disca.training import clips, recipe
from disca.training.loop import Loop, checkpoints
from disca.training.recipe import Recipe
from disca.training.shard import processes, share
from disca.training.stages import STAGES, Stage


def train(
    path: str | Path, *, overrides: Sequence[str] = (), output: str | Path | None = None, resume: bool = False
) -> Path:
    """Train what a recipe says; returns the folder of the result.

    Args:
        path: The recipe, a TOML file.
        overrides: Changes such as ``optimiser.lr=1e-4``.
        output: Folder of the run; ``runs/NAME`` by default.
        resume: Continue from the newest checkpoint there; without one, start.

    Raises:
        ValueError: a bad recipe, or an output folder that already holds a run and ``resume`` is off.
    """
    settings = recipe.load(path, overrides)
    stage = stage_of(settings, str(path))
    settings = replace(settings, objective=asdict(stage))  # with its defaults, for the record
    folder = Path(output) if output is not None else Path("runs") / settings.name
    if checkpoints(folder) and not resume:
        raise ValueError(f"{folder} already holds a run. Continue it with --resume, or give another --output.")
    check_writable(folder)
    with _no_denormals():
        together = processes()
        size, _ = share(settings.batch, settings.microbatch)
        source = clips.find(settings.source, settings.model, where=str(path))
        loop = Loop(settings, stage.task(replace(settings, batch=size), source), folder)
        if not (resume and loop.resume()) and together.is_main_process:
            (folder / "log.jsonl").unlink(missing_ok=True)
        together.wait_for_everyone()
        measures = loop.run()
        if together.is_main_process:
            _describe(folder / "final", settings, measures)
        return folder / "final"


@contextmanager
def _no_denormals() -> Iterator[None]:
    """Numbers too small to matter are 0 inside: on a CPU they make steps many times slower."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _describe(folder: Path, settings: Recipe, measures: dict[str, float]) -> None:
    """How the result was made, beside it."""
    about: dict[str, Any] = {
        "recipe": settings.as_dict(),
        "validation": measures,
        "versions": versions(),
        "hardware": hardware(),
    }
    about |= {"processes": processes().num_processes, "command": command_line(), "date": now()}
    write_text_atomic(folder / "training.json", json.dumps(about, indent=1) + "\n")


def stage_of(settings: Recipe, where: str) -> Stage:
    """The options of a recipe's stage, checked."""
    if ":" in settings.stage:
        options = clips.resolve(settings.stage)
        return cast(Stage, parse(options, settings.objective, where=f"{where}: objective"))
    if settings.stage not in STAGES:
        raise ValueError(f"{where}: {unknown('stage', settings.stage, STAGES)}")
    return cast(Stage, parse(STAGES[settings.stage], settings.objective, where=f"{where}: objective"))
