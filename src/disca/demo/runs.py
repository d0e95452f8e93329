"""A prompt sampled twice from the same noise, with every step in full and accelerated, and what sets the two apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from disca.bench.grid import write_method
from disca.bench.models import Model, Pairs
from disca.bench.plan import policy_of
from disca.bench.sampling import Call, Trial, sample
from disca.demo.difference import difference
from disca.demo.wishes import Wish
from disca.demo.work import Progress, Tell
from disca.metrics.fidelity import psnr, relative_l2
from disca.provenance import command_line, hardware, now, versions
from disca.records import Record
from disca.report.clips import Frames

WHOLE = "Every step in full"
WARM_UP = 2
"""Steps before anything is timed: what a process does once would be charged to the first run."""
LONG, BRIEF, FEWEST, MOST = 10.0, 2.0, 3, 9
"""Two runs that together take more seconds than the first are timed once. Shorter ones take at least three turns, and
up to nine while all of them took fewer seconds than the second. What is shown is the fastest of each: whatever else a
machine does makes a run slower, never faster."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two runs."""

    frames: Frames
    seconds: float
    """Of the sampling loop, wall-clock; of the fastest turn."""
    passes: int
    """Full evaluations of the transformer, over all branches."""
    full: tuple[int, ...]
    """Steps that were computed in full."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Both runs of a wish."""

    wish: Wish
    whole: Side
    """Every step in full."""
    fast: Side
    difference: Frames
    psnr: float
    """Of the accelerated clip to the full one, in dB; infinite where they are equal."""
    relative_l2: float
    turns: int
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def speedup(self) -> float:
        """Seconds of the full run over those of the accelerated one."""
        return self.whole.seconds / self.fast.seconds

    @property
    def policy(self) -> str:
        """The method as records write it, files by their names."""
        named = {name: one.name if isinstance(one, Path) else one for name, one in self.wish.options.items()}
        return write_method(self.wish.method, named)

    def record(self, name: str, reference: str) -> Record:
        """The accelerated run as a record, compared with a full run that is called ``reference``."""
        return Record(
            name=name,
            policy=self.policy,
            steps=self.wish.steps,
            full_steps=self.fast.full,
            transformer_evaluations=self.fast.passes,
            seconds=self.fast.seconds,
            speedup=self.speedup,
            speedup_over=reference,
            reference=reference,
            psnr=self.psnr,
            relative_l2=self.relative_l2,
            prompts=(self.wish.prompt,),
            seeds=(self.wish.seed,),
            extra={"label": self.policy, "short": "this run", "turns": self.turns},
            **self.about,
        )


def compare(model: Model, wish: Wish, tell: Tell) -> Outcome:
    """Sample both ways, by turns.

    Raises:
        ValueError: a method or options that do not fit the model or the steps, before anything is sampled; a prompt
            that the pipeline does not take.
        Cancelled: from ``tell``, which is asked at every step.
    """
    policy = policy_of(wish.method, wish.options, model, wish.steps)
    pairs = Pairs((wish.prompt,), (wish.seed,))
    whole = Trial(name="full", model=model, steps=wish.steps)
    fast = Trial(name="accelerated", model=model, steps=wish.steps, policy=policy)
    short = min(WARM_UP, wish.steps)
    say = _Counter(tell, short + 2 * wish.steps)
    sample(whole, pairs, steps=short, each=say.at("Warming up"))
    runs = [(sample(whole, pairs, each=say.at(WHOLE)), sample(fast, pairs, each=say.at("Accelerated")))]
    while _again(runs):
        tell(Progress(f"Timing again, turn {len(runs) + 1}", say.total, say.total))
        runs.append((sample(whole, pairs), sample(fast, pairs)))
    return _outcome(wish, runs)


def _again(runs: list[tuple[Call, Call]]) -> bool:
    """Whether both runs are timed once more."""
    seconds = [one.facts["seconds"] + other.facts["seconds"] for one, other in runs]
    return seconds[0] < LONG and (len(runs) < FEWEST or (len(runs) < MOST and sum(seconds) < BRIEF))


def _outcome(wish: Wish, runs: list[tuple[Call, Call]]) -> Outcome:
    first, second = runs[0]
    whole, fast = (_side([pair[place] for pair in runs]) for place in (0, 1))
    return Outcome(
        wish=wish,
        whole=whole,
        fast=fast,
        difference=difference(whole.frames, fast.frames),
        psnr=psnr(second.frames, first.frames).item(),
        relative_l2=relative_l2(second.frames, first.frames).item(),
        turns=len(runs),
        about={"versions": versions(), "hardware": hardware(), "command": command_line(), "date": now()},
    )


def _side(calls: list[Call]) -> Side:
    facts = calls[0].facts
    return Side(
        frames=calls[0].frames[0].movedim(1, -1).float().clamp(0, 1).mul(255).round().byte().cpu().numpy(),
        seconds=min(call.facts["seconds"] for call in calls),
        passes=facts["evaluations"],
        full=tuple(facts["full"]),
    )


class _Counter:
    """Counts the steps of several runs as one work."""

    def __init__(self, tell: Tell, total: int) -> None:
        self._tell, self.total, self._done = tell, total, 0

    def at(self, what: str) -> Callable[[int], None]:
        self._tell(Progress(what, self._done, self.total))

        def each(step: int) -> None:
            self._done += 1
            self._tell(Progress(what, self._done, self.total))

        return each
