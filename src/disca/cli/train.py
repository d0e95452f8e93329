"""`disca train`: one stage of training from its recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional

from disca.cli.printing import Printing, say


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train what a recipe says; an interrupted run continues where it stopped.

    disca train recipes/lab_base.toml

    disca train recipes/lab_base.toml --set optimiser.lr=1e-4 iterations=500 --output runs/try

    disca train recipes/lab_base.toml --resume

    torchrun --nproc-per-node 8 --no-python disca train my_recipe.toml --set engine=fsdp dtype=bfloat16

    disca train probe recipes/lab_student.toml
    """

    recipe: Positional[Path]
    """The recipe, a TOML file."""
    changes: Annotated[tuple[tuple[str, ...], ...], tyro.conf.arg(name="set"), tyro.conf.UseAppendAction] = ()
    """Changes to the recipe, key=value; keys of a table have dots."""
    output: Path | None = None
    """Folder of checkpoints, log and result; runs/NAME when left out."""
    resume: bool = False
    """Continue from the newest checkpoint in the folder."""
    printing: Printing = Printing()


def train(options: Train) -> dict[str, Any]:
    """Train and say where the result is."""
    from disca.training.train import train as start

    changes = [change for group in options.changes for change in group]
    result = start(options.recipe, overrides=changes, output=options.output, resume=options.resume)
    say(f"Trained: {result}")
    return {"output": str(result)}
