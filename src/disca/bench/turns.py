"""Trials take turns, so that a machine that slows down slows all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

import torch
from torch import Tensor

from disca.bench.counting import count
from disca.bench.models import Pairs
from disca.bench.sampling import Call, Trial, sample
from disca.bench.store import Part, Store
from disca.metrics.fidelity import psnr, relative_l2
from disca.metrics.similarity import WINDOW, ssim
from disca.metrics.temporal import flicker, motion

Distance = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How trials are sampled."""

    pairs: Pairs
    turn: int = 10
    """Clips of a turn: trials change places after so many."""
    repeats: int = 1
    """How often everything is timed; quality is measured the first time."""
    keep: int = 0
    """How many of the first clips of every trial are kept as pixels."""
    lpips: Distance | None = None

    def turns(self) -> Iterator[tuple[str, int, int, Pairs]]:
        """Name, number and repeat of each turn, and its pairs."""
        for repeat in range(self.repeats):
            for index, part in enumerate(self.pairs.batches(self.turn)):
                yield f"{repeat}-{index:05d}", index, repeat, part

    def takes_part(self, trial: Trial, index: int) -> bool:
        """Whether a trial samples in a turn."""
        return index % trial.every == 0


@dataclass
class Turns:
    """Samples trials by a plan into a store. A trial that fails is left out from then on; ``failed`` says why."""

    plan: Plan
    store: Store
    progress: Callable[[Trial], None] = lambda trial: None
    failed: dict[str, str] = field(default_factory=dict)
    references: frozenset[str] = frozenset()
    """Trials whose clips are kept, because others will be compared with them later."""

    def run(self, trials: Sequence[Trial]) -> None:
        """All turns that the store does not have yet; references come before the trials that name them."""
        trials = _ordered(trials)
        for trial in trials:
            self._attempt(trial, self._warm_up)
        wanted = {*self.references, *(name for trial in trials for name in trial.references)}
        for turn, index, repeat, part in self.plan.turns():
            clips: dict[str, Tensor] = {}
            for trial in trials:
                if not self.plan.takes_part(trial, index):
                    continue
                if trial.name not in self.failed and not self.store.has(trial.name, turn):
                    self._attempt(trial, lambda one: self._turn(one, turn, index, repeat, part, clips, wanted))  # noqa: B023
                self.progress(trial)

    def _attempt(self, trial: Trial, work: Callable[[Trial], None]) -> None:
        try:
            work(trial)
        except Exception as error:  # a row that fails is a row that says so
            self.failed[trial.name] = f"{type(error).__name__}: {error}"
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _warm_up(self, trial: Trial) -> None:
        """One short plain run, and the counted one, which is whole."""
        if all(
            self.store.has(trial.name, turn)
            for turn, index, _, _ in self.plan.turns()
            if self.plan.takes_part(trial, index)
        ):
            return
        part = self.plan.pairs[: min(trial.batch, self.plan.turn)]
        sample(trial, part, steps=min(2, trial.steps))
        if trial.every == 1:
            counted(trial, self.plan.pairs, self.store)

    def _turn(
        self, trial: Trial, turn: str, index: int, repeat: int, part: Pairs, clips: dict[str, Tensor], wanted: set[str]
    ) -> None:
        calls = [sample(trial, batch) for batch in part.batches(trial.batch)]
        facts = tuple(call.facts for call in calls)
        if repeat or trial.every > 1:
            self.store.put(trial.name, turn, Part(facts))
            return
        frames = torch.cat([call.frames for call in calls])
        values = self._values(trial, turn, part, frames, _latents(calls), clips)
        if trial.name in wanted:
            clips[trial.name] = frames
            self.store.put_frames(trial.name, turn, frames)
        elif index * self.plan.turn < self.plan.keep:
            self.store.put_frames(trial.name, turn, frames[: self.plan.keep - index * self.plan.turn])
        self.store.put(trial.name, turn, Part(facts, values))

    def _values(
        self, trial: Trial, turn: str, part: Pairs, frames: Tensor, latents: Tensor, clips: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """What is kept of each clip: latents, motion, distances to each reference, what its world's measure sees."""
        values = {"latents": latents, "motion": motion(frames)}
        for name in trial.references:
            other = clips.get(name)
            reference = self.store.frames(name, turn) if other is None else other
            kept = self.store.get(name, turn)
            if reference is None or kept is None:
                raise RuntimeError(f"The reference {name} has no clips to compare with.")
            found = self.distances(frames, reference.to(frames.device))
            found["latent_l2"] = relative_l2(latents.float(), kept.values["latents"].to(latents).float())
            found["reference_motion"] = kept.values["motion"]
            values |= {f"{key}@{name}": value for key, value in found.items()}
        if trial.model.measure is not None:
            seen = trial.model.measure.look(frames, part.prompts)
            values |= {f"seen.{key}": value for key, value in seen.items()}
        return values

    def distances(self, frames: Tensor, reference: Tensor) -> dict[str, Tensor]:
        """How far each clip is from its reference."""
        frames, reference = frames.float(), reference.float()
        found = {
            "psnr": psnr(frames, reference),
            "relative_l2": relative_l2(frames, reference),
            "flicker": flicker(frames, reference),
        }
        if min(frames.shape[-2:]) >= WINDOW:
            found["ssim"] = ssim(frames, reference)
        if self.plan.lpips is not None:
            found["lpips"] = self.plan.lpips(frames, reference)
        return found


def counted(trial: Trial, pairs: Pairs, store: Store) -> dict[str, Any]:
    """What :func:`disca.bench.counting.count` says of a trial, kept in the store."""
    noted: dict[str, Any] | None = store.noted(f"{trial.name}/counted")
    if noted is None:
        noted = count(trial, pairs[:1])
        store.note(f"{trial.name}/counted", noted)
    return noted


def _ordered(trials: Sequence[Trial]) -> list[Trial]:
    named = {trial.name: trial for trial in trials}
    before = {trial.name: [name for name in trial.references if name in named] for trial in trials}
    return [named[name] for name in TopologicalSorter(before).static_order()]


def _latents(calls: Sequence[Call]) -> Tensor:
    return torch.cat([call.latents for call in calls])
