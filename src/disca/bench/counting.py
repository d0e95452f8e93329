"""Operations and memory of one clip, counted in runs of their own, since counting takes time."""

from __future__ import annotations

from typing import Any

from disca.bench.models import Pairs
from disca.bench.sampling import Trial, sample
from disca.metrics.flops import counting
from disca.metrics.memory import PeakTensors


def count(trial: Trial, pair: Pairs) -> dict[str, Any]:
    """Of the sampling loop of one clip: ``flops``, ``peak`` (the most bytes of its tensors alive at once), ``full``
    steps and ``evaluations``.

    Where every step is full all steps cost the same, so one is counted; an accelerated run is counted whole.
    """
    plain = trial.policy == ()
    with counting() as so_far:
        facts = sample(trial, pair, steps=1 if plain else None, gauge=so_far).facts
    begun, ended = facts["gauge"]
    times = trial.steps if plain else 1
    return {
        "flops": (ended - begun) * times,
        "peak": _peak(trial, pair),
        "full": list(range(trial.steps)) if plain else facts["full"],
        "evaluations": facts["evaluations"] * times,
    }


def _peak(trial: Trial, pair: Pairs) -> int:
    with PeakTensors() as memory:
        steps = min(2, trial.steps) if trial.policy == () else None
        peak: int = sample(trial, pair, steps=steps, gauge=lambda: memory.peak).facts["gauge"][-1]
    return peak
