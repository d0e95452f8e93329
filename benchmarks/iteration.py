"""What an iteration of fitting a predictor spends its time on: `python benchmarks/iteration.py`. A minute; leave the
machine alone meanwhile.

Writes benchmarks/records/iteration.json: the share of an iteration on the lab (recipes/lab_fit.toml) that is spent
neither in a forward of the base, in which the predictor stands for the blocks where it forecasts, nor in the backward
through both: drawing and encoding data, moving states, loss, clipping, optimiser, averaging, log. Median of many.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.progress import track

from disca.files import write_text_atomic
from disca.lab.source import LabSource
from disca.provenance import command_line, hardware, now, versions
from disca.training.loop import Loop
from disca.training.recipe import load
from disca.training.train import stage_of

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "benchmarks" / "records" / "iteration.json"
RECIPE = ROOT / "recipes" / "lab_fit.toml"
WARM, COUNTED = 20, 40


class Watch:
    """Adds up the seconds between marks."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.began = self.ended = 0.0

    def start(self, *_: Any) -> None:
        self.began = time.perf_counter()

    def stop(self, *_: Any) -> None:
        self.seconds += time.perf_counter() - self.began

    def last(self, *_: Any) -> None:
        """The end may yet come later."""
        self.ended = time.perf_counter()


@contextmanager
def watched(task: Any) -> Iterator[tuple[Watch, Watch]]:
    """Watches over forwards of the base, and over the backward: from the base's output to the last gradient."""
    forward, backward = Watch(), Watch()
    with ExitStack() as undo:
        for handle in (
            task.base.register_forward_pre_hook(forward.start),
            task.base.register_forward_hook(forward.stop),
            task.base.register_full_backward_pre_hook(backward.start),
            *(value.register_post_accumulate_grad_hook(backward.last) for value in task.predictor.parameters()),
        ):
            undo.callback(handle.remove)
        yield forward, backward


def shares(loop: Loop, task: Any) -> list[dict[str, float]]:
    """Shares of iterations spent in forwards, in the backward, and elsewhere."""
    found = []
    with watched(task) as (forward, backward):
        for number in track(range(WARM + COUNTED), description="iterations"):
            forward.seconds = 0.0
            began = time.perf_counter()
            loop._step()
            whole = time.perf_counter() - began
            parts = {"forward": forward.seconds / whole, "backward": (backward.ended - backward.began) / whole}
            if number >= WARM:
                found.append({**parts, "outside": 1 - sum(parts.values()), "seconds": whole})
    return found


def main() -> None:
    """Measure the recipe's own options."""
    recipe = load(RECIPE)
    task = stage_of(recipe, str(RECIPE)).task(recipe, LabSource())
    with TemporaryDirectory() as folder:
        found = shares(Loop(recipe, task, Path(folder)), task)
    medians = {name: statistics.median(one[name] for one in found) for name in found[0]}
    about = {"versions": versions(), "hardware": hardware(), "command": command_line(), "date": now(), "seed": 0}
    write_text_atomic(
        FILE, json.dumps({"recipe": recipe.as_dict(), **medians, "iterations": found, **about}, indent=1) + "\n"
    )
    Console().print({name: round(value, 4) for name, value in medians.items()})


if __name__ == "__main__":
    main()
