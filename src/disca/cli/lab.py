"""`disca lab`: the whole story on this machine, its weights as a bundle, and a model to rehearse with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from disca.cli.printing import Printing, say


@dataclass(frozen=True, kw_only=True)
class Show:
    """Sample the same prompts and noise with the base, its distilled children and every policy, and compare them.

    disca lab show

    disca lab show --prompts 20 --output glance
    """

    output: Path = Path("quickstart")
    """Folder of the records, the clips and the page index.html."""
    prompts: int = 100
    """Pairs of prompt and seed to measure; fewer are faster and less sure."""
    seed: int = 0
    """Seed of the choice of prompts and of the noise."""
    printing: Printing = Printing()


@dataclass(frozen=True, kw_only=True)
class Pack:
    """Write the lab's student, second time and predictor as a bundle, for its guidance-distilled pipeline.

    disca lab bundle --output lab-bundle
    """

    output: Path
    """A new folder."""
    printing: Printing = Printing()


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """Write a tiny Wan pipeline of random weights, to rehearse encoding, training and benchmarks on.

    disca lab tiny --output model
    """

    output: Path
    """A new folder."""
    seed: int = 0
    """Of the weights."""
    printing: Printing = Printing()


@dataclass(frozen=True, kw_only=True)
class Lab:
    """A small text-to-video world on real model classes: try everything on a laptop.

    disca lab show

    disca lab bundle --output lab-bundle

    disca lab tiny --output model
    """

    action: (
        Annotated[Show, tyro.conf.subcommand(name="show")]
        | Annotated[Pack, tyro.conf.subcommand(name="bundle")]
        | Annotated[Tiny, tyro.conf.subcommand(name="tiny")]
        | Annotated[None, tyro.conf.Suppress]
    )

    @property
    def printing(self) -> Printing:
        """What its action prints."""
        return Printing() if self.action is None else self.action.printing


def lab(options: Lab) -> dict[str, Any] | None:
    """Run one action of the lab."""
    if isinstance(options.action, Show):
        return show(options.action)
    if isinstance(options.action, Tiny):
        return tiny(options.action)
    return pack(options.action) if isinstance(options.action, Pack) else None


def pack(options: Pack) -> dict[str, Any]:
    """Write the bundle."""
    from disca.lab.bundle import bundle

    say(f"Wrote {bundle().save_pretrained(options.output)}")
    return {"output": str(options.output)}


def tiny(options: Tiny) -> dict[str, Any]:
    """Write the pipeline."""
    from disca.lab.tiny import SIZE, save

    say(f"Wrote {save(options.output, seed=options.seed)}, whose clips are of --size {SIZE} or a little more.")
    return {"output": str(options.output), "size": str(SIZE)}


def show(options: Show) -> dict[str, Any]:
    """Sample, measure and report."""
    if options.prompts < 1:
        raise ValueError(f"--prompts is how many pairs to measure, at least 1, not {options.prompts}.")
    from disca.files import check_writable

    check_writable(options.output)
    from disca.lab.show import show as show_lab

    rows = show_lab(options.output, prompts=options.prompts, seed=options.seed)
    return {"output": str(options.output), "records": [row.to_dict() for row in rows]}
