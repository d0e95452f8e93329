"""Sample many wishes into one folder: shared by processes, resumable, and a clip that fails stops no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from disca.sampling.sampler import Sampled, Sampler
from disca.sampling.share import Share
from disca.sampling.shelf import Shelf
from disca.sampling.wishes import Wish

Write = Callable[[Path, Tensor], None]
"""``write(path, frames)`` writes frames ``[frames, 3, height, width]`` in [0, 1]."""


@dataclass(frozen=True)
class Outcome:
    """What one process did of its share."""

    sampled: int
    there: int
    """Clips that were there already."""
    failed: dict[str, str] = field(default_factory=dict)
    """Why clips of any process failed, by name; empty while other processes have wishes left, since a launcher ends
    them all when one fails."""
    own_failures: int = 0
    left: int = 0
    """Wishes that nobody has tried yet."""


def sample_all(
    sampler: Sampler,
    wishes: Sequence[Wish],
    shelf: Shelf,
    write: Write,
    *,
    share: Share | None = None,
    progress: Callable[[Wish], None] = lambda wish: None,
) -> Outcome:
    """Sample this process's share of the wishes that are not there yet.

    Args:
        shelf: the folder, opened for all wishes.
        progress: hears of each wish that is settled: sampled, failed, or there already.
    """
    mine = (share or Share()).part(wishes)
    sampled = failures = 0
    try:
        for wish in mine:
            if not shelf.has(wish):
                failed = not _settle(sampler, wish, shelf, write)
                failures, sampled = failures + failed, sampled + (not failed)
            progress(wish)
    finally:
        left, failed_at_all = shelf.write_manifest(wishes)
    there = len(mine) - sampled - failures
    return Outcome(sampled, there, {} if left else failed_at_all, own_failures=failures, left=left)


def _settle(sampler: Sampler, wish: Wish, shelf: Shelf, write: Write) -> bool:
    """Sample one wish; whether there is a clip now."""
    try:
        clip = sampler(wish)
    except Exception as error:  # one clip that fails is one clip that says so
        shelf.fail(wish, error)
        return False
    shelf.put(wish, lambda path: write(path, clip.frames), facts(clip))
    return True


def facts(clip: Sampled) -> dict[str, Any]:
    """What a clip took, as plain data."""
    summary = clip.summary
    return {
        "seconds": clip.seconds,
        "seconds_full": summary.seconds_full,
        "seconds_forecast": summary.seconds_forecast,
        "transformer_evaluations": summary.transformer_evaluations,
        "forecasts": summary.forecasts,
        "full_steps": {branch: list(steps.full) for branch, steps in summary.branches.items()},
        "bytes_held": summary.bytes_held,
        "shape": list(clip.frames.shape),
    }
