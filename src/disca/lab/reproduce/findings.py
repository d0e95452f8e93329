"""What a table says: ratios of errors over training seeds and prompts, and which rows keep the joint tolerances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from disca.bench.turns import Turns
from disca.lab.tolerances import TOLERANCES
from disca.metrics.intervals import bootstrap_seeds
from disca.records import Record


def errors(turns: Turns, trial: str, reference: str) -> list[float]:
    """Relative L2 of the last latents, clip by clip."""
    names = [name for name, _, repeat, _ in turns.plan.turns() if not repeat]
    parts = [turns.store.get(trial, name) for name in names]
    found = [part.values[f"latent_l2@{reference}"] for part in parts if part is not None]
    return list(torch.cat(found).double().tolist())


def ratio(turns: Turns, ours: Sequence[str], theirs: Sequence[str], reference: str) -> dict[str, Any]:
    """Errors of some trials over those of others, seed by seed: mean, and an interval over seeds and prompts. One
    trial without seeds stands beside each of the others."""
    count = max(len(ours), len(theirs))
    first, second = ([errors(turns, name, reference) for name in names] for names in (ours, theirs))
    found, interval = bootstrap_seeds(first * (count // len(first)), second * (count // len(second)))
    mean = [sum(map(sum, rows)) / sum(map(len, rows)) for rows in (first, second)]
    return {"ratio": found, "interval": list(interval), "errors": mean, "seeds": count, "to": reference}


def verdict(row: Record, reference: Record) -> dict[str, Any]:
    """The numbers of the tolerances, and which of those a row fails."""
    assert row.semantic_accuracy is not None and row.frechet is not None and reference.frechet is not None
    numbers = {
        "semantic_accuracy": row.semantic_accuracy,
        "frechet_ratio": row.frechet / reference.frechet,
        "amplitude": abs(row.extra["amplitude"] / reference.extra["amplitude"] - 1),
        "relative_l2": row.relative_l2 or 0.0,
    }
    return {**numbers, "fails": TOLERANCES.failures(**numbers)}
