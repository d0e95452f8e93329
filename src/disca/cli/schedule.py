"""`disca schedule`: which steps a method computes in full, before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from typing import Any

from tyro.conf import Positional

from disca.cli.methods import MethodOptions
from disca.cli.printing import Printing, say


@dataclass(frozen=True, kw_only=True)
class ScheduleOptions(MethodOptions):
    """Print which of a number of steps a method computes in full.

    disca schedule taylor --every 4 --steps 20

    disca schedule disca --full-steps 0 2 4 7 --steps 8 --json

    disca schedule magcache --constants hunyuan_video_720p --error 0.24 --skips 6 --steps 50
    """

    method: Positional[str]
    """A method: disca, taylorseer, fora, teacache and so on. A wrong name lists them all."""
    steps: int
    """Sampling steps."""
    printing: Printing = Printing()


def schedule(options: ScheduleOptions) -> dict[str, Any]:
    """Say which steps are full."""
    answer = answer_for(options)
    full = answer["full_steps"]
    low, high = answer["bounds"]
    if full is None:
        say(f"{options.method}, {options.steps} steps: decides while it runs; {low} to {high} of them are full")
        return answer
    say(f"{options.method}, {options.steps} steps, full: {' '.join(map(str, full))} ({len(full)} of {options.steps})")
    say("".join("#" if step in full else "." for step in range(options.steps)))
    return answer


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
    full = sorted(set.intersection(*plans)) if known else None
    bounds = [gate.bounds(options.steps) for gate in gates]
    low = (
        bounds[0][0] if len(set(gates)) == 1 else 1
    )  # rules that are full at different steps may share the first alone
    return {
        "method": options.method,
        "options": {name: value for name, value in (defaults | options.given()).items() if value is not None},
        "steps": options.steps,
        "full_steps": full,
        "bounds": [len(full)] * 2 if full is not None else [low, min(high for _, high in bounds)],
    }


def _defaults(function: Any) -> dict[str, Any]:
    parameters = signature(function).parameters.values()
    return {item.name: item.default for item in parameters if item.default is not item.empty}


def _absent(**_: Any) -> Any:
    """Stands for the predictor, which a schedule does not depend on."""
    raise AssertionError("printing a schedule forecasts nothing")
