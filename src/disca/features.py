"""What flows through the library: features between blocks, the moment of a step, and a call about to happen.

Time runs from 1 (noise) to 0 (data); a step goes from ``t`` down to ``r``. Hosts that count differently are
converted by their adapter, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

Features = tuple[Tensor, ...]
"""``(hidden,)`` or ``(hidden, context)``, each ``[batch, tokens, width]``; always in this order."""


class Moment(NamedTuple):
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
    grid: tuple[int, int, int] | None = None
    """Frames, rows and columns of the video tokens; None where the host does not say."""


class Call(NamedTuple):
    """A site about to be evaluated."""

    inputs: Features
    compute: Callable[..., Features]
    """``compute(*inputs)`` runs the site as the host would have."""
    conditioning: Mapping[str, Any] = {}
    """What the host's blocks receive beside the features (modulation, mask, rotary embedding), by parameter name."""
    signals: Mapping[str, Callable[[], Any]] = {}
    """What else can be read here, by name; computed when it is read."""
    depth: float = 0.0
    """Where in the trunk the site is, from 0 (first block) to 1 (last)."""
    ranks: Any = None
    """Process group over which the tokens are split (context parallelism), for decisions that all ranks must share."""

    def read(self, signal: str) -> Any:
        """The signal of that name.

        Raises:
            ValueError: it is not to be had at this site.
        """
        if signal not in self.signals:
            raise ValueError(f"There is no {signal} to read at this site; to be had: {sorted(self.signals)}.")
        return self.signals[signal]()


@dataclass(frozen=True, kw_only=True)
class Wants:
    """What the network of a learned forecast is given beside the trunk's inputs of now and its last full outputs."""

    tail: int = 0
    """In the place of the outputs, what entered the last so many blocks; 0 for the outputs."""
    history: int = 1
    """Full steps that it hears of; with 2, of how fast things had changed between them."""
    times: bool = False
    """Whether it is given a :class:`History`."""


class History(NamedTuple):
    """The full steps behind a forecast. Times are numbers, or ``[batch]`` where samples differ."""

    t: float | Tensor
    """Time of now."""
    gap: float | Tensor
    """From the last full step until now."""
    slope: Features = ()
    """Change of what is kept over the spacing, towards data; nothing where there was only one full step."""
    spacing: float | Tensor = 0.0
    """Between the last two full steps."""
