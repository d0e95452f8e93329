"""A fixed linear patch codec in the place of a VAE.

Principal components of small space-time patches, each scaled so that the latent's variance falls off with the square
root of the component's: a model learns identity many times faster in it than on pixels.
"""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class PatchCodec(ModelMixin, ConfigMixin):
    """Clips ``[batch, 3, frames, height, width]`` in [0, 1] to latents ``[batch, components, frames/pt, height/p,
    width/p]`` of unit mean variance, and back."""

    @register_to_config
    def __init__(
        self,
        components: int = 32,
        patch_time: int = 2,
        patch: int = 8,
        channels: int = 3,
        frames: int = 8,
        size: int = 32,
    ) -> None:
        super().__init__()
        length = channels * patch_time * patch * patch
        self.analysis = nn.Parameter(torch.zeros(components, length), requires_grad=False)
        self.synthesis = nn.Parameter(torch.zeros(length, components), requires_grad=False)
        self.mean = nn.Parameter(torch.zeros(length), requires_grad=False)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Frames, height and width of a clip's latent."""
        config = self.config
        side = config.size // config.patch
        return config.frames // config.patch_time, side, side

    @classmethod
    def fit(cls, clips: Tensor, **config: int) -> PatchCodec:
        """The codec of a set of clips ``[n, 3, frames, height, width]``."""
        codec = cls(frames=clips.shape[2], size=clips.shape[3], **config)
        patches = codec._patches(clips).flatten(0, -2).double()
        mean = patches.mean(0)
        variance, directions = torch.linalg.eigh(torch.cov((patches - mean).T))
        count = codec.config.components
        variance, directions = variance.flip(0)[:count], directions.flip(1)[:, :count]
        directions = directions * directions.sum(0).sign()  # an eigenvector's sign is arbitrary
        scale = variance.pow(-0.25) / variance.sqrt().mean().sqrt()
        for parameter, value in (
            (codec.mean, mean),
            (codec.analysis, (directions * scale).T),
            (codec.synthesis, directions / scale),
        ):
            parameter.data.copy_(value)
        return codec

    def encode(self, clips: Tensor) -> Tensor:
        """Latents of clips."""
        return ((self._patches(clips) - self.mean) @ self.analysis.T).movedim(-1, 1)

    def decode(self, latents: Tensor) -> Tensor:
        """Clips of latents, clamped to [0, 1]."""
        patches = latents.movedim(1, -1) @ self.synthesis.T + self.mean
        p, pt, c = self.config.patch, self.config.patch_time, self.config.channels
        clips = patches.unflatten(-1, (c, pt, p, p)).permute(0, 4, 1, 5, 2, 6, 3, 7)
        return clips.flatten(6, 7).flatten(4, 5).flatten(2, 3).clamp(0, 1)

    def _patches(self, clips: Tensor) -> Tensor:
        p, pt = self.config.patch, self.config.patch_time
        patches = clips.unfold(2, pt, pt).unfold(3, p, p).unfold(4, p, p)
        return patches.movedim(1, 4).flatten(4)
