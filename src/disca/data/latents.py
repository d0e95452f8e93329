"""Latents as a denoiser expects them: how each family scales what its VAE gives, and in which order it wants it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Statistics = dict[str, Any]
"""``scaling_factor``, ``latents_mean`` and ``latents_std`` of a VAE, as far as its family uses them; plain numbers."""


def factor(vae: Any) -> Statistics:
    """HunyuanVideo, HunyuanVideo-1.5, CogVideoX: one factor."""
    return {"scaling_factor": float(vae.config.scaling_factor)}


def moments(vae: Any) -> Statistics:
    """Wan: a mean and a standard deviation of each channel."""
    return {"latents_mean": list(vae.config.latents_mean), "latents_std": list(vae.config.latents_std)}


def scaled_moments(vae: Any) -> Statistics:
    """Mochi: both, in the VAE's configuration; older ones have the factor alone."""
    given = vae.config.get("latents_mean") is not None and vae.config.get("latents_std") is not None
    return {**factor(vae), **(moments(vae) if given else {})}


def buffered_moments(vae: Any) -> Statistics:
    """LTX: both, the moments among the VAE's weights."""
    return {**factor(vae), "latents_mean": vae.latents_mean.tolist(), "latents_std": vae.latents_std.tolist()}


def normalise(z: Tensor, statistics: Statistics) -> Tensor:
    """``(z - mean) / std * scaling_factor`` for ``z`` ``[batch, channels, frames, height, width]``, in float32."""
    z = z.float()
    if "latents_mean" in statistics:
        mean, std = (torch.tensor(statistics[name], device=z.device) for name in ("latents_mean", "latents_std"))
        z = (z - mean.view(1, -1, 1, 1, 1)) / std.view(1, -1, 1, 1, 1)
    return z * statistics.get("scaling_factor", 1.0)


Order = tuple[Callable[[Tensor], Tensor], Callable[[Tensor, torch.Size], Tensor]]
"""``to(x)``: from ``[batch, channels, frames, height, width]`` to the denoiser's order, and ``back(y, shape)`` to that
shape."""


def _frames_first(x: Tensor) -> Tensor:
    return x.transpose(1, 2)


def _channels_first(y: Tensor, shape: torch.Size) -> Tensor:
    return y.transpose(1, 2)


def _flat(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def _unflat(y: Tensor, shape: torch.Size) -> Tensor:
    return y.transpose(1, 2).reshape(len(y), -1, *shape[2:])


CLIP: Order = (lambda x: x, lambda y, shape: y)
"""``[batch, channels, frames, height, width]`` as it is."""
FRAMES: Order = (_frames_first, _channels_first)
"""``[batch, frames, channels, height, width]``: CogVideoX."""
TOKENS: Order = (_flat, _unflat)
"""``[batch, frames * height * width, channels]``: LTX, whose patches are single latent pixels."""
