"""One command for all experiments."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from disca.errors import unknown
from disca.files import check_writable
from disca.lab.reproduce.alternation import alternation
from disca.lab.reproduce.designs import designs
from disca.lab.reproduce.frontier import frontier
from disca.lab.reproduce.objectives import objectives
from disca.lab.reproduce.rivals import rivals
from disca.lab.reproduce.schedules import schedules
from disca.lab.reproduce.students import students
from disca.lab.reproduce.work import Experiment, Work

EXPERIMENTS = {
    "students": Experiment(students, "MeanFlow against Restricted MeanFlow", 150),
    "objectives": Experiment(objectives, "the ablation of the predictor's training", 115),
    "designs": Experiment(designs, "predictors of other designs", 90),
    "schedules": Experiment(schedules, "computed full steps against the authors', and against plain steps", 20),
    "alternation": Experiment(alternation, "schedule and predictor fitted to each other", 60),
    "frontier": Experiment(frontier, "speed against quality, of every forecast and of fewer plain steps", 75),
    "rivals": Experiment(rivals, "students distilled for as many steps as we compute in full", 120),
}
"""In the order in which they run: a later one takes what an earlier one has trained."""


def reproduce(work: Work, only: Sequence[str] = (), *, again: bool = False) -> list[str]:
    """Run experiments that are not done yet; gives the names of those that ran.

    Args:
        again: Measure also those that are done; what is trained stays.

    Raises:
        ValueError: an unknown experiment, or nothing to work on.
        FileNotFoundError: the recipes are not there.
    """
    for name in only:
        if name not in EXPERIMENTS:
            raise ValueError(unknown("experiment", name, EXPERIMENTS))
    if not (work.recipes / "lab_fit.toml").is_file():
        raise FileNotFoundError(
            f"There are no recipes of the lab in {work.recipes}. Run this in a checkout of the project, or name the "
            "folder with --recipes."
        )
    runs = work.runs / f"compute_{work.compute:g}"  # what is trained more or less is something else
    work = replace(work, output=check_writable(work.output), runs=check_writable(runs))
    ran = []
    for name in only or EXPERIMENTS:
        if not again and _done(work, name):
            work.say(f"{name}: done; --again measures it anew")
            continue
        one = EXPERIMENTS[name]
        work.say(f"{name}: {one.about}; about {one.minutes} minutes of one core where nothing is done yet")
        one.run(work)
        ran.append(name)
    return ran


def _done(work: Work, name: str) -> bool:
    """Whether an experiment was finished with the same settings."""
    file = work.output / f"{name}.json"
    return file.is_file() and json.loads(file.read_text()).get("settings") == json.loads(json.dumps(work.settings))
