"""How alike two clips look: structural similarity, and a learned distance behind an extra."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW, SIGMA = 11, 1.5
"""Side and standard deviation of the Gaussian window, as in Wang et al. 2004."""


def ssim(clips: Tensor, reference: Tensor, *, data_range: float = 1.0) -> Tensor:
    """Structural similarity of each clip, the mean over frames, channels and pixels (Wang, Bovik, Sheikh and Simoncelli
    2004, equation 13, K1 = 0.01, K2 = 0.03); only windows that lie wholly inside of the frame count.

    Args:
        clips: ``[batch, ..., height, width]``, such as ``[batch, frames, channels, height, width]``.
        reference: the clips they should equal, of the same shape.
        data_range: highest minus lowest possible value.

    Returns:
        ``[batch]`` in fp64, at most 1.

    Raises:
        ValueError: the shapes differ, or a frame is smaller than the window of 11 pixels.
    """
    if clips.shape != reference.shape or clips.ndim < 3 or min(clips.shape[-2:]) < WINDOW:
        raise ValueError(
            f"Structural similarity compares two batches of equal shape with frames of at least {WINDOW} pixels; "
            f"given {tuple(clips.shape)} and {tuple(reference.shape)}."
        )
    x, y = (_planes(part) for part in (clips, reference))
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_x, mean_y = _blur(x), _blur(y)
    var_x, var_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    map_ = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    map_ = map_ / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    each: Tensor = map_.unflatten(0, (len(clips), -1)).mean(dim=(1, 2, 3, 4))
    return each


def _planes(clips: Tensor) -> Tensor:
    """Every frame and channel as an image of its own, ``[images, 1, height, width]``."""
    return clips.double().flatten(0, -3)[:, None]


def _blur(images: Tensor) -> Tensor:
    place = torch.arange(WINDOW, dtype=images.dtype, device=images.device) - (WINDOW - 1) / 2
    weights = torch.exp(-(place**2) / (2 * SIGMA**2))
    weights = weights / weights.sum()
    rows = F.conv2d(images, weights.view(1, 1, -1, 1))
    return F.conv2d(rows, weights.view(1, 1, 1, -1))


class Lpips:
    """Learned perceptual distance of each clip, the mean over its frames (Zhang et al. 2018), through the package
    ``lpips``, which downloads its network's weights.

    Untested: the weights could not be had where this was written.

    Raises:
        ModuleNotFoundError: the package is not installed; the extra ``metrics`` brings it.
    """

    def __init__(self, network: str = "alex", device: torch.device | str = "cpu") -> None:
        from lpips import LPIPS

        self._network: Any = LPIPS(net=network, verbose=False).to(device).eval()

    @torch.no_grad()
    def __call__(self, clips: Tensor, reference: Tensor) -> Tensor:
        """``[batch]`` of clips ``[batch, frames, 3, height, width]`` in [0, 1]; 0 where they are equal."""
        device = next(self._network.parameters()).device
        pairs = zip(clips.to(device, torch.float32), reference.to(device, torch.float32), strict=True)
        means = [self._network(first, second, normalize=True).mean() for first, second in pairs]
        return torch.stack(means).double().cpu()
