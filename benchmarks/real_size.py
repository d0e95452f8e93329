"""What a step and a run take at true size: `python benchmarks/real_size.py`, on one GPU with room for the model.

Writes benchmarks/records/real_size.jsonl, one record for each measurement as it comes; run it again to go on. The first
ten minutes are those of HunyuanVideo at 704x704x129, plain and with DisCa, and of its text encoders and VAE. `--small`
is the same on any machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.progress import Progress

from disca.bench.real_size import Bench, fitted, run
from disca.bench.subjects import SUBJECTS, jobs
from disca.errors import unknown

FILE = Path(__file__).parent / "records" / "real_size.jsonl"
FACTS = ("outcome", "seconds_full", "seconds_forecast", "share_of_bound", "end_to_end")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure models of true size with random weights."""

    output: Path = FILE
    """Where the records go, and which ones are there already."""
    models: tuple[str, ...] = tuple(subject.name for subject in SUBJECTS)
    """Which models."""
    methods: tuple[str, ...] = ()
    """Which methods, and which of text_encoders and vae; by default all."""
    minutes: float | None = None
    """Begin no measurement after so many."""
    small: bool = False
    """Small models and clips, for a machine without a large GPU."""
    compiled: bool = True
    """Also with compiled blocks."""


def main(options: Options) -> None:
    """Measure, and say how well two constants explain it."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not options.small:
        raise SystemExit("There is no GPU here. Use --small, or read docs/real_size.md for what is derived.")
    console = Console()
    chosen = [subject for subject in SUBJECTS if subject.name in options.models]
    planned = jobs(chosen, small=options.small, compiled=options.compiled)
    for name in set(options.methods) - {job.method for job in planned}:
        raise SystemExit(unknown("method", name, sorted({job.method for job in planned})))
    planned = [job for job in planned if job.method in (options.methods or (job.method,))]
    bench = Bench(device, torch.bfloat16 if device.type == "cuda" else torch.float32, small=options.small)
    with Progress(console=console) as progress:
        bar = progress.add_task("measuring", total=None)

        def report(record, done, all) -> None:
            facts = {name: record.extra.get(name) for name in FACTS}
            console.print(record.name, {n: round(v, 4) if isinstance(v, float) else v for n, v in facts.items() if v})
            progress.update(bar, completed=done, total=all)

        found = run(options.output, planned, bench, minutes=options.minutes, report=report)
    machine, errors = fitted(found)
    worst = max(errors, key=lambda name: abs(errors[name]))
    console.print(machine, f"worst prediction: {worst} {errors[worst]:+.1%}")


if __name__ == "__main__":
    main(tyro.cli(Options))
