"""Ways of training that are compared at equal cost, each with several seeds.

Cost is counted in operations, forward and backward: runs with dearer iterations get fewer of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

from disca.lab.reproduce.work import Work
from disca.lab.source import LabSource
from disca.metrics.flops import count_flops
from disca.training.clips import Draw
from disca.training.recipe import load
from disca.training.train import stage_of, train

DRAWS = 4
"""Micro-batches that an iteration's cost is counted on."""
COUNTED = 8
"""Clips of each."""


@dataclass(frozen=True)
class Variant:
    """One way to train: a recipe, and what is changed in it."""

    name: str
    label: str
    recipe: str
    changes: dict[str, Any] = field(default_factory=dict)
    after: Variant | None = None
    """A variant whose predictor it goes on from; that one's cost counts too."""
    share: float = 1.0
    """Of the cost, what is its own."""


@dataclass(frozen=True)
class Training:
    """A variant with a seed, and the operations that it may take."""

    work: Work
    variant: Variant
    seed: int
    budget: float
    """10^12 operations, of all that it goes on from too."""
    folder: Path

    def result(self) -> Path:
        """The folder of the result, trained as far as it is not yet."""
        final = self.folder / "final"
        if not (final / "training.json").exists():
            self.work.say(f"training {self.folder.name}")
            train(self._recipe, overrides=written(self._changes()), output=self.folder, resume=True)
        return final

    @property
    def about(self) -> dict[str, Any]:
        """What a record says of it."""
        recipe = json.loads((self.result() / "training.json").read_text())["recipe"]
        return {"variant": self.variant.label, "seed": self.seed, "iterations": recipe["iterations"]}

    @property
    def _recipe(self) -> Path:
        return self.work.recipes / f"{self.variant.recipe}.toml"

    def _changes(self) -> dict[str, Any]:
        own = self.variant.share * self.budget * self.work.compute
        changes = {**self.variant.changes, "seed": self.seed}
        changes["iterations"] = max(1, round(own / cost(self._recipe, json.dumps(self.variant.changes))))
        if not self.work.compile:
            changes["compile"] = False
        if self.variant.after is not None:
            before = self._before(self.variant.after)
            changes["objective.predictor"] = str(before.result())
        return changes

    def _before(self, variant: Variant) -> Training:
        budget = (1 - self.variant.share) * self.budget
        return Training(self.work, variant, self.seed, budget, self.folder.parent / f"{variant.name}_short_{self.seed}")


def trainings(work: Work, experiment: str, variants: Sequence[Variant], budget: float) -> Iterator[Training]:
    """Every variant with every seed, each of the same cost, seed by seed."""
    for seed in work.seeds:
        for variant in variants:
            yield Training(work, variant, seed, budget, work.runs / experiment / f"{variant.name}_{seed}")


def written(changes: dict[str, Any]) -> list[str]:
    """Changes as a recipe takes them."""
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]


@cache
def cost(recipe: Path, changes: str) -> float:
    """Operations of an iteration, in units of 10^12, counted with every draw's own schedule."""
    batch, stage = load(recipe).batch, load(recipe).stage
    given = {**json.loads(changes), "compile": False, "batch": COUNTED}
    if stage == "predictor":
        given["objective.alone"] = 0  # the discriminator's lead is no rule
    settings = load(recipe, written(given))
    task = stage_of(settings, str(recipe)).task(settings, LabSource())

    def iterate(number: int) -> None:
        task.loss(Draw.seeded(0, number, iteration=number)).value.backward()

    return mean(count_flops(iterate, number) for number in range(DRAWS)) * batch / COUNTED / 1e12
