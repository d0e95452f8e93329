"""Sinusoids of times and guidance that are the same on every processor.

A frequency is the exponential of a float32 number, and math libraries differ in its last bit between makers of
processors. At a guidance of 6000 that bit moves the model's output by 1e-5, as much as the authors' numbers are checked
to. Rounded once, from float64, the frequencies are what every library means.
"""

from __future__ import annotations

import math

import torch
from diffusers.hooks import ModelHook
from diffusers.models.embeddings import Timesteps
from torch import Tensor, nn

from disca import hooks

HOOK = "disca_sinusoid"
PERIOD = 10000.0


class RoundedOnce(ModelHook):
    """Stands in for the forward of a :class:`diffusers.models.embeddings.Timesteps`."""

    def new_forward(self, module: Timesteps, timesteps: Tensor) -> Tensor:
        return sinusoid(timesteps, module.num_channels, cosine_first=module.flip_sin_to_cos)


def sinusoid(values: Tensor, channels: int, *, cosine_first: bool) -> Tensor:
    """Cosines and sines ``[batch, channels]`` of ``values`` ``[batch]`` times frequencies from 1 down to 1 / 10000, in
    float32."""
    half = channels // 2
    exponents = -math.log(PERIOD) * torch.arange(half, dtype=torch.float32, device=values.device) / half
    phases = (values.float()[:, None] * exponents.double().exp().float()).double()
    waves = (phases.cos(), phases.sin()) if cosine_first else (phases.sin(), phases.cos())
    return torch.cat(waves, dim=-1).float()


def install(network: nn.Module) -> None:
    """For every sinusoid in ``network``, once and for good."""
    for module in network.modules():
        plain = isinstance(module, Timesteps) and module.downscale_freq_shift == 0 and module.scale == 1
        if plain and not hooks.is_installed(module, HOOK):
            hooks.install(module, RoundedOnce(), HOOK)
