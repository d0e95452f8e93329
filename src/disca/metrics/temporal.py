"""How clips move. Each number is compared with the reference clip's, because a frozen clip never flickers."""

from __future__ import annotations

import torch
from torch import Tensor


def motion(clips: Tensor) -> Tensor:
    """How much a clip changes from frame to frame: the root mean square of the difference of neighbouring frames.

    Args:
        clips: ``[batch, frames, ...]``.

    Returns:
        ``[batch]`` in fp64; 0 for a frozen clip and for a single frame.
    """
    values = clips.double().flatten(2)
    if values.shape[1] < 2:
        return torch.zeros(len(clips), dtype=torch.float64, device=clips.device)
    return values.diff(dim=1).square().mean(dim=(1, 2)).sqrt()


def flicker(clips: Tensor, reference: Tensor) -> Tensor:
    """How much the deviation from the reference changes from frame to frame: :func:`motion` of ``clips - reference``.

    Divided by the reference's motion it is 0 for the reference itself, 1 for a frozen clip, and grows with changes that
    the reference does not have. A deviation that stands still, such as a tint, is no flicker.

    Args:
        clips: ``[batch, frames, ...]``.
        reference: the clips they should equal, of the same shape.

    Raises:
        ValueError: the shapes differ.
    """
    if clips.shape != reference.shape:
        raise ValueError(
            f"Clips of shape {tuple(clips.shape)} cannot be compared with a reference of shape "
            f"{tuple(reference.shape)}."
        )
    return motion(clips.double() - reference.double())
