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
class Reproduce:
    """Run the paper's experiments in miniature, from their recipes, and write tables, figures and records.

    Everything that is trained, calibrated and sampled is kept in --runs, so that the command may be interrupted and
    repeated until it ends; on two cores all of it takes most of a day. Run it in a checkout of the project.

    disca lab reproduce

    disca lab reproduce --only designs frontier

    disca lab reproduce --quick --output glance
    """

    output: Path = Path("benchmarks/paper")
    """Folder of the tables, figures and records."""
    runs: Path = Path("runs/reproduce")
    """Folder of what takes long, with a folder inside for each --compute."""
    recipes: Path = Path("recipes")
    """Folder of the recipes lab_*.toml."""
    only: tuple[str, ...] = ()
    """Experiments: students, objectives, designs, schedules, alternation, frontier, rivals; all when left out."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the trainings."""
    pairs: int = 120
    """Held-out pairs of prompt and noise to measure on."""
    compute: float = 1.0
    """Share of the operations of each training."""
    quick: bool = False
    """One seed, next to no training, few prompts: shows that everything runs, and nothing else."""
    again: bool = False
    """Measure also what is done; what is trained stays."""
    printing: Printing = Printing()


@dataclass(frozen=True, kw_only=True)
class Lab:
    """A small text-to-video world on real model classes: try everything on a laptop.

    disca lab show

    disca lab bundle --output lab-bundle

    disca lab tiny --output model

    disca lab reproduce --quick --output glance
    """

    action: (
        Annotated[Show, tyro.conf.subcommand(name="show")]
        | Annotated[Pack, tyro.conf.subcommand(name="bundle")]
        | Annotated[Tiny, tyro.conf.subcommand(name="tiny")]
        | Annotated[Reproduce, tyro.conf.subcommand(name="reproduce")]
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
    if isinstance(options.action, Reproduce):
        return reproduce(options.action)
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


def reproduce(options: Reproduce) -> dict[str, Any]:
    """Run the experiments."""
    if options.pairs < 2 or not options.seeds or not 0 < options.compute <= 1:
        raise ValueError(
            f"--pairs is at least 2, --seeds at least one, and --compute a share above 0 and at most 1; given "
            f"{options.pairs}, {options.seeds} and {options.compute}."
        )
    from disca.lab.reproduce.run import reproduce as run
    from disca.lab.reproduce.work import Work, quick

    work = Work(
        output=options.output,
        runs=options.runs,
        recipes=options.recipes,
        seeds=options.seeds,
        compute=options.compute,
        pairs=options.pairs,
        say=say,
    )
    ran = run(quick(work) if options.quick else work, options.only, again=options.again)
    return {"output": str(options.output), "ran": ran}
