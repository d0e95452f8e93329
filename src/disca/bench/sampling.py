"""One call of a pipeline, watched: its latents, its clips, its seconds, and what the policy did."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

from torch import Tensor

from disca.bench.models import Model, Pairs
from disca.bench.solvers import solving
from disca.caching.policy import Policy
from disca.caching.run import attach
from disca.caching.summary import Summary
from disca.hooks import listen
from disca.metrics.memory import cuda_gauge
from disca.metrics.timers import synchronize


class Sampled(Protocol):
    """What a driver hands out: it tells what the last run did."""

    def summary(self) -> Summary: ...


class Driver(Protocol):
    """A way to accelerate a pipeline that is no policy of ours, such as a peer's hooks."""

    def attach(self, model: Model, steps: int) -> AbstractContextManager[Sampled]: ...


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One way to sample. It is sampled once, however many rows of a table show it."""

    name: str
    model: Model
    steps: int
    policy: Policy | Driver = ()
    solver: str = "euler"
    batch: int = 1
    references: tuple[str, ...] = ()
    """Names of the trials to whose clips the distance is measured."""
    every: int = 1
    """It takes part in every so many turns; more than 1 where only its seconds are wanted again."""


@dataclass(kw_only=True)
class Call:
    """What one call of the pipeline gave, for all of its clips."""

    latents: Tensor
    frames: Tensor
    """``[batch, frames, 3, height, width]`` in [0, 1]."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Plain data: ``clips``, ``seconds`` of the loop, ``end_to_end``, ``full`` steps, ``evaluations``, and so on."""


Gauge = Callable[[], int]
"""A number that can be read at any time, such as the operations so far."""


def sample(
    trial: Trial,
    pairs: Pairs,
    *,
    steps: int | None = None,
    gauge: Gauge | None = None,
    each: Callable[[int], None] | None = None,
) -> Call:
    """Sample one batch.

    Args:
        steps: for a short plain run, to warm up or to count by.
        gauge: is read where the loop begins and where it ends, into ``facts["gauge"]``; by default it tells the memory
            of the CUDA device.
        each: is told the number of each step when it is done. What it raises ends the run.
    """
    count, policy = (trial.steps, trial.policy) if steps is None else (steps, ())
    with ExitStack() as undo:
        undo.enter_context(trial.model.joined())
        undo.enter_context(solving(trial.model.pipe, trial.solver))
        driver = attached(trial.model, policy, count)
        run = undo.enter_context(driver)
        watch = undo.enter_context(_watch(trial.model, gauge or cuda_gauge()))
        watch.each = each
        frames = _call(trial.model, pairs, count, watch)
    assert watch.latents is not None, "the pipeline gave no latents at the end of a step"
    facts = {"clips": len(pairs), **watch.facts(), **_did(run.summary())}
    if not isinstance(policy, tuple):
        facts["bytes_held"] = None  # a driver of another library does not tell
    return Call(latents=watch.latents, frames=frames, facts=facts)


def attached(model: Model, policy: Policy | Driver, steps: int) -> AbstractContextManager[Sampled]:
    """The policy, or the driver, at work."""
    return attach(model.pipe, policy) if isinstance(policy, tuple) else policy.attach(model, steps)


@dataclass
class _Watch:
    """Marks when the transformer is first called, when the loop ends, and when the pixels are there."""

    gauge: Gauge | None
    each: Callable[[int], None] | None = None
    read: list[int] = field(default_factory=list)
    begun: float = 0.0
    first: float | None = None
    looped: float = 0.0
    done: float = 0.0
    latents: Tensor | None = None

    def hear(self, _: Mapping[str, Any]) -> None:
        if self.first is None:
            self._read()
            synchronize()
            self.first = perf_counter()

    def step_ended(self, pipe: Any, step: int, timestep: Any, tensors: dict[str, Any], *, last: int) -> dict[str, Any]:
        if step == last:
            synchronize()
            self.looped, self.latents = perf_counter(), tensors["latents"]
            self._read()
        if self.each is not None:
            self.each(step)
        return {}

    def _read(self) -> None:
        if self.gauge is not None:
            self.read.append(self.gauge())

    def facts(self) -> dict[str, Any]:
        assert self.first is not None, "the pipeline did not call its transformer"
        return {"seconds": self.looped - self.first, "end_to_end": self.done - self.begun, "gauge": self.read}


@contextmanager
def _watch(model: Model, gauge: Gauge | None) -> Iterator[_Watch]:
    watch = _Watch(gauge)
    with ExitStack() as undo:
        for transformer in model.transformers:
            undo.callback(listen(transformer, watch.hear))
        yield watch


def _call(model: Model, pairs: Pairs, steps: int, watch: _Watch) -> Tensor:
    """Call the pipeline; the clips."""

    def step_ended(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        return watch.step_ended(pipe, step, timestep, tensors, last=steps - 1)

    synchronize()
    watch.begun = perf_counter()
    given = inspect.signature(type(model.pipe).__call__).parameters
    if "callback_on_step_end" not in given:
        raise ValueError(f"{type(model.pipe).__name__} takes no callback_on_step_end, by which its loop is timed.")
    output = model.pipe(
        list(pairs.prompts),
        num_inference_steps=steps,
        generator=pairs.generators(),
        output_type="pt",
        callback_on_step_end=step_ended,
        **model.call,
    )
    synchronize()
    watch.done = perf_counter()
    frames = getattr(output, "frames", None)
    clips: Tensor = output.images[:, None] if frames is None else frames
    return clips


def _did(summary: Summary) -> dict[str, Any]:
    """A summary as plain data. A step is full where it was full in every branch."""
    branches = [set(steps.full) for steps in summary.branches.values()]
    return {
        "full": sorted(set.intersection(*branches)) if branches else [],
        "evaluations": summary.transformer_evaluations,
        "seconds_full": summary.seconds_full,
        "seconds_forecast": summary.seconds_forecast,
        "bytes_held": summary.bytes_held,
    }
