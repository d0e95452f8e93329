"""What flows through the library: features between blocks, the moment of a step, and a call about to happen.

Time runs from 1 (noise) to 0 (data); a step goes from ``t`` down to ``r``. Hosts that count differently are
converted by their adapter, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Features = tuple[Tensor, ...]
"""``(hidden,)`` or ``(hidden, context)``, each ``[batch, tokens, width]``; always in this order."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One denoising step as one branch of the sampler sees it."""

    step: int
    """Index of the step in sampling order, from 0."""
    steps: int
    """Number of steps of the run."""
    t: float
    """Time the step starts from, in [0, 1]."""
    r: float
    """Time the step goes down to, in [0, t]."""
    branch: str = ""
    """Name of the guidance branch, such as ``cond`` or ``uncond``; empty where nobody has asked."""


@dataclass(frozen=True)
class Call:
    """A site about to be evaluated."""

    inputs: Features
    compute: Callable[..., Features]
    """``compute(*inputs)`` runs the site as the host would have."""
    conditioning: Mapping[str, Any] = field(default_factory=dict)
    """What the host's blocks receive beside the features (modulation, mask, rotary embedding), by parameter name."""
