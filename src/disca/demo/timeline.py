"""Which steps of a run are computed in full, as the page's timeline shows them and as clicks change them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from disca.caching.methods import METHODS
from disca.cli.methods import MethodOptions
from disca.cli.schedule import ScheduleOptions, answer_for
from disca.lab.sample import default_full_steps
from disca.schedules import Schedule

COUNTED = ("every", "warmup", "phase", "force_last", "adaptive")
"""Options that say in words what a click says with a finger; ``threshold`` of a method with full steps too."""


@dataclass(frozen=True)
class Timeline:
    """The steps of a run. ``full`` is None where the method decides while it runs."""

    steps: int
    full: tuple[int, ...] | None
    clickable: bool = True
    """Whether the method takes a list of full steps."""
    note: str = ""


def timeline(method: str, options: Mapping[str, Any], steps: int) -> Timeline:
    """The timeline of a method with its options, ``full_steps`` among them.

    Raises:
        ValueError: an unknown method or option, options that are missing or cannot be, or steps that do not fit.
    """
    answer = answer_for(ScheduleOptions(method=method, steps=steps, **_fields(options)))
    full, clickable = answer["full_steps"], takes_full_steps(method)
    if full is None:
        low, high = answer["bounds"]
        return Timeline(steps, None, clickable, f"{method} decides while it runs: {low} to {high} steps are full.")
    return Timeline(steps, tuple(full), clickable, f"{len(full)} of {steps} steps in full.")


def takes_full_steps(method: str) -> bool:
    """Whether a method can be told its full steps."""
    return "full_steps" in METHODS[method].options


def is_counted(method: str, options: Mapping[str, Any]) -> bool:
    """Whether options say already when a method computes in full, so that the timeline only shows it."""
    return options.get("every") is not None or (takes_full_steps(method) and options.get("threshold") is not None)


def clicked(full: Any, steps: int) -> tuple[int, ...]:
    """Full steps from what is pressed on a timeline: in order, within the run, the first always among them."""
    pressed = full if isinstance(full, list | tuple) else ()
    return tuple(sorted({0, *(int(step) for step in pressed if isinstance(step, int) and 0 <= step < steps)}))


def beginning(steps: int, schedules: Sequence[Schedule] = ()) -> tuple[int, ...]:
    """Full steps to begin with: those that a bundle was made with, or about half of them."""
    known = {schedule.steps: schedule.full_steps for schedule in schedules}
    return known.get(steps) or default_full_steps(steps)


def _fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as fields of the command line's, where a switch can only be set."""
    given = dict(options)
    if given.get("force_last") is False:
        given["no_force_last"] = True
    if "constants" in given:
        given["constants"] = str(given["constants"])
    known = set(MethodOptions.__dataclass_fields__)
    return {name: value for name, value in given.items() if name in known}
