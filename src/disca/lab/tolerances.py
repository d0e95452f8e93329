"""When an accelerated sampler of the lab counts as good: joint tolerances, fixed before the first claim.

All four are measured on held-out prompts against the guided base: semantics and Frechet distance as whole sets,
amplitude of motion and relative L2 against its 200-step run from the same noise. The base sampled with 4 plain steps
must fail them, or the world would be too easy to prove anything.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """Limits that must hold together."""

    semantic_accuracy: float
    """Least share of clips with digit, colour and motion right."""
    frechet_ratio: float
    """Largest Frechet distance to real clips, over that of the 200-step run."""
    amplitude: float
    """Largest mean relative change of the amplitude of motion."""
    relative_l2: float
    """Largest mean relative L2 of the clips."""

    def failures(
        self, *, semantic_accuracy: float, frechet_ratio: float, amplitude: float, relative_l2: float
    ) -> list[str]:
        """Names of the limits that measured values exceed; empty when all hold."""
        holds = {
            "semantic_accuracy": semantic_accuracy >= self.semantic_accuracy,
            "frechet_ratio": frechet_ratio <= self.frechet_ratio,
            "amplitude": amplitude <= self.amplitude,
            "relative_l2": relative_l2 <= self.relative_l2,
        }
        return [name for name, held in holds.items() if not held]


TOLERANCES = Tolerances(semantic_accuracy=0.95, frechet_ratio=1.3, amplitude=0.10, relative_l2=0.15)
