"""`disca schedule`: which steps a method computes in full, before anything runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from inspect import signature
from typing import Annotated, Any

from tyro.conf import Positional, arg


@dataclass(frozen=True, kw_only=True)
class ScheduleOptions:
    """Print which of a number of steps a method computes in full.

    disca schedule taylor --every 4 --steps 20

    disca schedule disca --full-steps 0 2 4 7 --steps 8 --json
    """

    method: Positional[str]
    """A method: reuse, repeat_change, taylor or disca."""
    steps: int
    """Sampling steps."""
    full_steps: Annotated[tuple[int, ...] | None, arg(metavar="INT [INT ...]")] = None
    """The steps to compute in full, from 0; or give --every."""
    every: int | None = None
    """After the warm-up, compute every so many steps in full."""
    warmup: int | None = None
    """How many first steps are full."""
    phase: int | None = None
    """How many steps the count waits after the warm-up."""
    force_last: bool = False
    """Compute the last step in full in any case."""
    order: int | None = None
    """Degree of a polynomial forecast."""
    json: bool = False
    """Print one JSON object: method, options, steps, full_steps, and bounds on the number of full steps."""

    def given(self) -> dict[str, Any]:
        """The options of the method that were given."""
        names = ("full_steps", "every", "warmup", "phase", "order")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return given | ({"force_last": True} if self.force_last else {})


def schedule(options: ScheduleOptions) -> None:
    """Print a schedule."""
    answer = answer_for(options)
    if options.json:
        print(json.dumps(answer))
        return
    full = answer["full_steps"]
    low, high = answer["bounds"]
    if full is None:
        print(f"{options.method}, {options.steps} steps: decides while it runs; {low} to {high} of them are full")
        return
    print(f"{options.method}, {options.steps} steps, full: {' '.join(map(str, full))} ({len(full)} of {options.steps})")
    print("".join("#" if step in full else "." for step in range(options.steps)))


def answer_for(options: ScheduleOptions) -> dict[str, Any]:
    """What `--json` prints. ``full_steps`` is None where a method decides while it runs; ``bounds`` are the fewest
    and the most steps that can be full.

    Raises:
        ValueError: an unknown method or option, or a schedule that does not fit the steps.
    """
    from disca.caching.gates import Static
    from disca.caching.methods import METHODS, from_name

    if options.steps < 1:
        raise ValueError(f"--steps is the number of sampling steps, at least 1, not {options.steps}.")
    method = METHODS.get(options.method)
    defaults = _defaults(method.function) if method else {}
    missing = {"predictor": _absent} if method and "predictor" in method.options else {}
    gates = [rule.when for rule in from_name(options.method, **missing, **options.given())]
    plans = [set(gate.schedule(options.steps).full_steps) for gate in gates if isinstance(gate, Static)]
    known = len(plans) == len(gates)
    fewest, most = (set.intersection(*plans), set.union(*plans)) if plans else ({0}, set())
    return {
        "method": options.method,
        "options": {name: value for name, value in (defaults | options.given()).items() if value is not None},
        "steps": options.steps,
        "full_steps": sorted(fewest) if known else None,
        "bounds": [len(fewest), len(most) if known else options.steps],
    }


def _defaults(function: Any) -> dict[str, Any]:
    parameters = signature(function).parameters.values()
    return {item.name: item.default for item in parameters if item.default is not item.empty}


def _absent(**_: Any) -> Any:
    """Stands for the predictor, which a schedule does not depend on."""
    raise AssertionError("printing a schedule forecasts nothing")
