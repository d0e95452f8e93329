"""Constants and thresholds of caching methods, measured on the model they are for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from disca.bench.schedule import ScheduleCalibration
from disca.caching.constants import SCHEMA, Signal
from disca.caching.forecasts import Forecast, Kept
from disca.caching.gates import MadeFor, Magnitudes
from disca.caching.methods import METHODS, from_name
from disca.caching.policy import Policy, Rule
from disca.caching.run import attach
from disca.caching.sites import Trunk
from disca.caching.watchful import Drift, Watched, relative_change
from disca.errors import unknown
from disca.features import Call, Features, Moment
from disca.files import write_text_atomic
from disca.provenance import command_line, hardware, now, versions

THRESHOLDS = ("teacache", "first_block_cache", "easycache", "speca", "rfc", "magcache")
"""Methods with a threshold, which can be set to reach a number of full steps."""

Sample = Callable[[int], Any]
"""``sample(i)`` runs the pipeline on the i-th prompt."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was measured."""

    method: str
    transformer: str
    """Class name of the host."""
    blocks: int
    """How many blocks it has."""
    times: tuple[float, ...]
    """Of the run, from 1 (noise) to 0."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the method, a threshold that was looked for among them."""
    constants: Mapping[str, Any] = field(default_factory=dict)
    """``polynomial``, ``signal`` and ``range`` of TeaCache; ``ratios`` of MagCache."""
    wanted: float | None = None
    """Full steps that the threshold was to give,"""
    reached: float | None = None
    """and those it gives, in the mean over the prompts."""
    prompts: tuple[str, ...] = ()

    def save(self, path: str | Path) -> None:
        """Write it, with what is needed to measure it again."""
        about = {"versions": versions(), "hardware": hardware(), "command": command_line(), "date": now()}
        values = {"schema": SCHEMA, **vars(self), **self.constants, **about}
        del values["constants"]
        write_text_atomic(Path(path), json.dumps(values, indent=1) + "\n")

    @property
    def made_for(self) -> MadeFor:
        """The host and the run."""
        return MadeFor(self.transformer, self.times, self.blocks)


def calibrate(
    target: Any,
    method: str,
    sample: Sample,
    prompts: Sequence[str],
    *,
    wanted: float | None = None,
    options: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] = lambda what: None,
) -> Calibration:
    """Measure what a method needs on a model: its constants, where it has some, and with ``wanted`` the threshold at
    which so many steps are full, in the mean over the prompts.

    Args:
        target: a pipeline.
        sample: runs it on the prompt of an index; equal indices give equal noise.
        options: of the method, which are kept as they are.
        progress: called after each run, with what it was for.

    Raises:
        ValueError: a method that has nothing to measure, or a number of full steps that it cannot reach.
    """
    options = dict(options or {})
    if method not in THRESHOLDS:
        known = unknown("method to calibrate", method, THRESHOLDS)
        raise ValueError(known if method not in METHODS else f"{method} has no constants and no threshold. {known}")
    if not prompts:
        raise ValueError("Calibration needs at least one prompt.")
    if wanted is None and method not in ("teacache", "magcache"):
        raise ValueError(f"{method} has a threshold only: say how many full steps it is to give.")
    _check_options(method, options, threshold=wanted is not None)
    seen = _watch(target, sample, len(prompts), options.get("signal") or "modulated", progress)
    found = Calibration(
        method=method,
        transformer=seen.transformer,
        blocks=seen.blocks,
        times=seen.times,
        options=options,
        constants=seen.constants(method) if "constants" not in options else {},
        prompts=tuple(prompts),
    )
    return found if wanted is None else _with_threshold(found, wanted, target, sample, progress)


def _check_options(method: str, options: Mapping[str, Any], *, threshold: bool) -> None:
    """Refuse options that the method would refuse later."""
    name = "error" if method == "magcache" else "threshold"
    constants: dict[str, Any] = {"constants": (1.0,)} if method == "magcache" else {}
    if method == "magcache" and not threshold:
        constants["skips"] = 1  # the table does not depend on it
    from_name(method, **{name: 1.0, **constants, **options})


@dataclass
class _Seen:
    """Signals and changes of full runs."""

    transformer: str = ""
    blocks: int = 0
    signal: Signal = "modulated"
    moments: list[Moment] = field(default_factory=list)
    drifts: list[float] = field(default_factory=list)
    changes: list[float] = field(default_factory=list)
    ratios: dict[int, list[float]] = field(default_factory=dict)

    @property
    def times(self) -> tuple[float, ...]:
        steps = {moment.step: moment for moment in self.moments}
        return (*(steps[step].t for step in sorted(steps)), steps[max(steps)].r)

    def constants(self, method: str) -> dict[str, Any]:
        """What a method needs."""
        if method == "magcache":
            steps = range(len(self.times) - 1)  # none where another transformer has just taken over
            return {"ratios": [float(np.mean(self.ratios.get(step, [1.0]))) for step in steps]}
        if method == "teacache":
            degree = min(4, len(set(self.drifts)) - 1)
            polynomial = np.polyfit(self.drifts, self.changes, degree)
            return {
                "polynomial": [float(value) for value in polynomial],
                "signal": self.signal,
                "range": [0.9 * min(self.drifts), 1.1 * max(self.drifts)],
                "correlation": float(np.corrcoef(np.polyval(polynomial, self.drifts), self.changes)[0, 1]),
            }
        return {}


@dataclass(frozen=True, eq=False)
class _Listen(Drift):
    """Always open; notes how far the signal drifts from step to step."""

    threshold: float = 0.0
    seen: _Seen = field(default_factory=_Seen)

    def opens(self, memory: Watched, moment: Moment, call: Call) -> bool:
        drift = self.measure(memory, moment, call)
        self.seen.moments.append(moment)
        if drift is not None:
            self.seen.drifts.append(drift)
        return True


@dataclass(frozen=True, eq=False)
class _Changes(Forecast[Kept]):
    """Notes how the change that the trunk makes differs from the one it made a step before."""

    seen: _Seen

    def start(self) -> Kept:
        return Kept()

    def observe(self, memory: Kept, moment: Moment, call: Call, outputs: Features) -> None:
        change = (outputs[0] - call.inputs[0]).detach()
        if memory.features and moment.branch == self.seen.moments[-1].branch:
            (before,) = memory.features
            self.seen.changes.append(relative_change(change, before, call.ranks))
            ratio = _norms(change) / _norms(before).clamp_min(1e-12)
            self.seen.ratios.setdefault(moment.step, []).append(float(ratio.mean()))
        memory.features = (change,)

    def predict(self, memory: Kept, moment: Moment, call: Call) -> Features:
        raise AssertionError("every step is full")

    def held(self, memory: Kept) -> tuple[Tensor, ...]:
        return memory.features


def _norms(tokens: Tensor) -> Tensor:
    return tokens.float().norm(dim=-1)


def _watch(target: Any, sample: Sample, count: int, signal: Signal, progress: Callable[[str], None]) -> _Seen:
    """Full runs on the prompts, watched."""
    seen = _Seen(signal=signal)
    policy = (Rule(Trunk(), _Listen(signal=signal, seen=seen), _Changes(seen)),)
    with attach(target, policy) as run:
        expert = run.experts[0]
        seen.transformer, seen.blocks = (
            type(expert.transformer).__name__,
            len(expert.adapter.blocks(expert.transformer)),
        )
        for index in range(count):
            with torch.no_grad():
                sample(index)
            progress("full runs")
    return seen


def _with_threshold(
    found: Calibration, wanted: float, target: Any, sample: Sample, progress: Callable[[str], None], rounds: int = 10
) -> Calibration:
    """The threshold whose number of full steps is nearest to the wanted one, by bisection on a logarithmic scale."""
    steps, name = len(found.times) - 1, "error" if found.method == "magcache" else "threshold"
    fewest, most = policy_of(replace(found, options={**found.options, name: 1.0}))[0].when.bounds(steps)
    if found.method == "magcache":
        fewest, most = 1, steps
    if not fewest <= wanted <= most:
        raise ValueError(f"Of {steps} steps, {wanted:g} cannot be full: {fewest} to {most} can, with these options.")
    low, high, best = 1e-5, 10.0, (float("inf"), 0.0, 0.0)
    for _ in range(rounds):
        middle = (low * high) ** 0.5
        policy = policy_of(replace(found, options={**found.options, name: middle}))
        reached = _full_steps(policy, steps, target, sample, len(found.prompts), progress)
        best = min(best, (abs(reached - wanted), middle, reached))
        if best[0] == 0:
            break
        low, high = (middle, high) if reached > wanted else (low, middle)
    distance, threshold, reached = best
    if distance > 0.5 + 0.02 * steps:
        raise ValueError(
            f"No {name} makes {wanted:g} of {steps} steps full; the nearest is {reached:g}, at {threshold:.3g}. Other "
            "options of the method limit it, such as warmup, retention, skips, fewest or most."
        )
    return replace(found, options={**found.options, name: threshold}, wanted=wanted, reached=reached)


def _full_steps(
    policy: Policy, steps: int, target: Any, sample: Sample, count: int, progress: Callable[[str], None]
) -> float:
    """Mean number of full steps over the prompts."""
    (rule,) = policy
    if isinstance(rule.when, Magnitudes):
        return float(len(rule.when.schedule(steps).full_steps))
    counts = []
    with attach(target, policy) as run:
        for index in range(count):
            with torch.no_grad():
                sample(index)
            counts.append(len(next(iter(run.summary().branches.values())).full))
            progress("looking for the threshold")
    return float(np.mean(counts))


def from_calibration(
    path: str | Path, *, full_steps: int | None = None, refresh: bool = False, **options: Any
) -> Policy:
    """The policy in a file that ``disca calibrate`` wrote.

    It is for the host it was measured on; a run of other steps or another shift is warned of.

    Args:
        full_steps: of a file of `disca calibrate schedule`, the best plan of at most so many full steps; by default the
            one for the budget that was asked for.
        refresh: of a file that was measured with ``--doubt``, compute steps ahead of their time where a forecast is in
            doubt, and drop later ones for them.
        options: of the method that no file holds, such as ``predictor``.

    Raises:
        ValueError: there is no such file, it is none, or it holds constants without a threshold.
    """
    from disca.caching.constants import load as load_constants

    values = load_constants(path)
    if "frontier" in values:
        return ScheduleCalibration.from_dict(values).policy(full_steps, refresh=refresh, **options)
    if full_steps is not None or refresh or options:
        raise ValueError(f"{path} holds no schedules, so full_steps, refresh and {options=} cannot be given with it.")
    found = load(path)
    missing = {"teacache": "threshold", "magcache": "error"}.get(found.method)
    if missing is not None and missing not in found.options:
        raise ValueError(
            f"{path} holds constants of {found.method} but no {missing}. Measure one with --wanted, or give the file "
            f"as constants: disca.{found.method}({missing}=..., constants={str(path)!r})."
        )
    return policy_of(found)


def policy_of(calibration: Calibration) -> Policy:
    """The policy that a calibration describes; it refuses other hosts, and warns in other runs."""
    constants = calibration.constants
    given = {name: tuple(constants[name]) for name in ("polynomial", "ratios") if name in constants}
    options = dict(calibration.options)
    if given:
        options["constants"] = next(iter(given.values()))
    if "signal" in constants:
        options["signal"] = constants["signal"]
    rules = from_name(calibration.method, **options)
    whens: list[Any] = [rule.when for rule in rules]
    if "range" in constants:
        whens = [replace(when, range=tuple(constants["range"])) for when in whens]
    return tuple(
        replace(rule, when=replace(when, made_for=calibration.made_for))
        for rule, when in zip(rules, whens, strict=True)
    )


def load(path: str | Path) -> Calibration:
    """A calibration from its file.

    Raises:
        ValueError: there is no such file, or it is none.
    """
    from disca.caching.constants import load as load_constants

    values = dict(load_constants(path))
    constants: dict[str, Any] = {}
    for name in ("polynomial", "signal", "range", "ratios"):
        constants |= {name: values[name]} if name in values else {}
    return Calibration(
        method=values["method"],
        transformer=values["transformer"],
        blocks=values["blocks"],
        times=tuple(values["times"]),
        options=values["options"],
        constants=constants,
        wanted=values["wanted"],
        reached=values["reached"],
        prompts=tuple(values["prompts"]),
    )
