"""`disca describe`: a model in numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional


@dataclass(frozen=True, kw_only=True)
class Describe:
    """Print a model's blocks and parameters, and what a predictor for it would weigh.

    disca describe lab

    disca describe path/to/pipeline --json
    """

    model: Positional[str]
    """A folder with a pipeline of diffusers, a transformer or a bundle; or one of the lab's pipelines."""
    json: bool = False
    """Print one JSON object."""


def describe(options: Describe) -> None:
    """Describe a model; only configurations are read."""
    from dataclasses import asdict

    from disca.bench.describe import describe as describe_host
    from disca.cli.models import open_transformer

    found = describe_host(open_transformer(options.model))
    if options.json:
        shares = {depth: found.share(depth) for depth in found.predictors}
        print(json.dumps({**asdict(found), "shares": shares}))
        return
    from rich.console import Console
    from rich.table import Table

    stacks = Table(title=f"{found.transformer}, {_number(found.parameters)} parameters")
    for name in ("stack", "block", "blocks", "parameters"):
        stacks.add_column(name, justify="left" if name in ("stack", "block") else "right")
    for stack in found.stacks:
        stacks.add_row(stack.name, stack.block, str(stack.blocks), _number(stack.parameters))
    predictors = Table(title="predictors")
    for name in ("blocks", "parameters", "share of the host"):
        predictors.add_column(name, justify="right")
    for depth, parameters in found.predictors.items():
        predictors.add_row(str(depth), _number(parameters), f"{found.share(depth):.1%}")
    console = Console()
    console.print(stacks, predictors)
    console.print(f"Second time: {found.second_time}.")
    for line in _bundle(Path(options.model)):
        console.print(line)


def _bundle(folder: Path) -> list[str]:
    """What a bundle says of itself; nothing for other models."""
    if not (folder / "bundle.json").is_file():
        return []
    stored = json.loads((folder / "bundle.json").read_text())
    lists = [f"{one['steps']} steps, full {' '.join(map(str, one['full_steps']))}" for one in stored["schedules"]]
    made_for = ", ".join(f"{name} {value}" for name, value in stored["made_for"].items() if value is not None)
    measured = stored["measured"]
    return [
        f"A bundle for the component {stored['component']}, with {', '.join(stored['parts']) or 'no parts'}.",
        f"Schedules: {'; '.join(lists) or 'none'}.",
        f"Made for: {made_for or 'anything'}.",
        f"Recorded error: {measured['relative_l2']:.4f}." if measured else "Recorded error: none; see disca check.",
        f"Base: {stored['base']}. Licence: {stored['licence']}.",
    ]


def _number(count: int) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return str(count)
