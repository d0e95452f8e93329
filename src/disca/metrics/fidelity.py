"""How far one set of clips is from another, clip by clip. Fidelity to the same model's many-step run comes first in
every comparison, because accuracy alone rewards collapse to a class mean."""

from __future__ import annotations

import torch
from torch import Tensor


def psnr(clips: Tensor, reference: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Peak signal-to-noise ratio of each clip in dB, infinite where a clip equals its reference.

    Args:
        clips: ``[batch, ...]``, such as ``[batch, frames, height, width, channels]``.
        reference: the clips they should equal, of the same shape.
        data_range: highest minus lowest possible value: 1 for floats in [0, 1], 255 for bytes.

    Returns:
        ``[batch]`` in fp64.

    Raises:
        ValueError: the shapes differ, or the data range is not positive.
    """
    if data_range <= 0:
        raise ValueError(f"data_range is the span of possible values and positive, not {data_range}.")
    first, second = _pair(clips, reference)
    mean_square = (first - second).square().mean(dim=1)
    return 10 * torch.log10(data_range**2 / mean_square)


def relative_l2(clips: Tensor, reference: Tensor) -> Tensor:
    """Norm of the difference divided by the norm of the reference, for each clip.

    Args:
        clips: ``[batch, ...]``.
        reference: the clips they should equal, of the same shape.

    Returns:
        ``[batch]`` in fp64; 0 where a clip equals its reference, also when both are black.

    Raises:
        ValueError: the shapes differ.
    """
    first, second = _pair(clips, reference)
    distance = (first - second).norm(dim=1)
    return torch.where(distance == 0, distance, distance / second.norm(dim=1))


def _pair(clips: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Both as ``[batch, values]`` in fp64."""
    if clips.shape != reference.shape or clips.ndim < 2:
        raise ValueError(
            f"Clips of shape {tuple(clips.shape)} cannot be compared with a reference of shape "
            f"{tuple(reference.shape)}. Give two batches of equal shape, [batch, ...]."
        )
    return clips.double().flatten(1), reference.double().flatten(1)
