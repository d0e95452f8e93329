"""An endless source of short clips in which one handwritten digit moves.

The scans are the 1797 digits that ship with scikit-learn, split by scan: the model learns from ``model``, the judge
from ``judge``, and ``test`` belongs to nobody's training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from disca.lab.words import COLOURS, MOTIONS, Prompt

Split = Literal["model", "judge", "test"]
_SPLITS: dict[Split, tuple[int, ...]] = {"model": (0, 1), "judge": (2, 3), "test": (4,)}


@cache
def scans(split: Split) -> tuple[Tensor, Tensor]:
    """Scans ``[n, 8, 8]`` in [0, 1] and their digits ``[n]``; a scan's place in the list modulo 5 decides its split."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    chosen = torch.isin(torch.arange(len(digits.target)) % 5, torch.tensor(_SPLITS[split]))
    images = torch.from_numpy(digits.images).float() / 16
    return images[chosen], torch.from_numpy(digits.target)[chosen].long()


@cache
def _by_digit(split: Split) -> tuple[Tensor, Tensor]:
    """The scans, one digit after the other, and how many there are of each."""
    images, labels = scans(split)
    return images[labels.argsort(stable=True)], labels.bincount(minlength=10)


def _draw_scans(digits: Tensor, split: Split, generator: torch.Generator) -> Tensor:
    """A random scan ``[n, 8, 8]`` of each digit ``[n]``."""
    images, counts = _by_digit(split)
    rank = (torch.rand(len(digits), generator=generator) * counts[digits]).long()
    return images[(counts.cumsum(0) - counts)[digits] + rank]


@dataclass(frozen=True, kw_only=True)
class World:
    """What a clip looks like. Lengths in pixels."""

    frames: int = 8
    size: int = 32
    glyph: float = 21.0
    """Side of the square that a scan is drawn into."""
    travel: float = 10.0
    """Way of a digit that drifts, over the whole clip; height of one that bounces."""
    jitter: float = 2.0
    """Largest displacement of the start, drawn uniformly in both directions."""

    def clips(self, prompts: Sequence[Prompt], generator: torch.Generator, *, split: Split = "model") -> Tensor:
        """Clips ``[batch, 3, frames, size, size]`` in [0, 1], with a random scan and start each."""
        glyphs = _draw_scans(torch.tensor([prompt.digit for prompt in prompts]), split, generator)
        start = (torch.rand(len(prompts), 1, 2, generator=generator) * 2 - 1) * self.jitter
        ink = self._draw(glyphs, start + self._paths[[prompt.motion for prompt in prompts]])
        paint = torch.tensor(list(COLOURS.values()))[[prompt.colour for prompt in prompts]]
        return paint[:, :, None, None, None] * ink[:, None]

    @cached_property
    def _paths(self) -> Tensor:
        """Displacement ``[motions, frames, (x, y)]`` of the glyph's centre from its start; y points down."""
        time = torch.linspace(0, 1, self.frames)
        drift, arc, still = time - 0.5, 0.5 - 4 * time * (1 - time), torch.zeros_like(time)
        forms = {
            "drifting left": (-drift, still),
            "drifting right": (drift, still),
            "drifting up": (still, -drift),
            "drifting down": (still, drift),
            "bouncing up": (still, arc),
            "bouncing right": (-arc, still),
            "standing still": (still, still),
        }
        return self.travel * torch.stack([torch.stack(forms[motion], dim=-1) for motion in MOTIONS])

    def _draw(self, glyphs: Tensor, centres: Tensor) -> Tensor:
        """Ink ``[batch, frames, size, size]`` of glyphs ``[batch, 8, 8]`` around centres ``[batch, frames, 2]``."""
        zoom = self.size / self.glyph
        affine = torch.zeros(*centres.shape[:2], 2, 3)
        affine[..., 0, 0] = affine[..., 1, 1] = zoom
        affine[..., :, 2] = -centres * 2 / self.glyph
        grid = F.affine_grid(
            affine.flatten(0, 1), [affine[..., 0, 0].numel(), 1, self.size, self.size], align_corners=False
        )
        glyphs = glyphs[:, None].expand(-1, self.frames, -1, -1).flatten(0, 1)[:, None]
        ink = F.grid_sample(glyphs, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return ink.view(*centres.shape[:2], self.size, self.size)
