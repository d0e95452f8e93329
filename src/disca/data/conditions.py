"""What a denoiser is given beside latents, times and prompt: an image-to-video model's first frame.

A condition is a dictionary of tensors with a batch dimension. ``channels`` ``[batch, more, frames, height, width]`` are
joined to the latents' channels, ``first_frame`` ``[batch, channels, 1, height, width]`` stands in the place of their
first frame and stays clean, and every other entry is an argument of the transformer. Each is made by the pipeline's own
methods, so that training sees what sampling gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Condition = dict[str, Tensor]


@dataclass(frozen=True)
class Canvas:
    """The pixels that are encoded: their numbers, and where the encoders are."""

    width: int
    height: int
    frames: int
    latent_shape: tuple[int, int, int, int]
    """``(channels, frames, height, width)``."""
    device: torch.device

    @property
    def empty(self) -> Tensor:
        """Latents of one clip, all zero: pipelines draw noise unless they are given some."""
        return torch.zeros(1, *self.latent_shape, device=self.device)


def none(pipe: Any, image: Any, canvas: Canvas) -> Condition:
    """A text-to-video model."""
    return {}


def wan_image(pipe: Any, image: Any, canvas: Canvas) -> Condition:
    """Wan: the first frame's latents and a mask as channels, and for 2.1 the image's embedding; TI2V: a clean frame."""
    pixels = _pixels(pipe, image, canvas, torch.float32)
    shape = (1, canvas.latent_shape[0], canvas.height, canvas.width, canvas.frames)
    given = pipe.prepare_latents(pixels, *shape, torch.float32, canvas.device, None, canvas.empty)
    if pipe.config.expand_timesteps:
        return {"first_frame": given[1]}
    condition = {"channels": given[1]}
    if pipe.transformer.config.image_dim is not None:
        condition["encoder_hidden_states_image"] = pipe.encode_image(image, canvas.device)
    return condition


def hunyuan_video_image(pipe: Any, image: Any, canvas: Canvas) -> Condition:
    """HunyuanVideo: ``latent_concat`` (channels and a mask) or ``token_replace`` (a clean frame)."""
    kind = pipe.transformer.config.image_condition_type
    pixels = _pixels(pipe, image, canvas, pipe.vae.dtype)
    shape = (1, canvas.latent_shape[0], canvas.height, canvas.width, canvas.frames)
    given = pipe.prepare_latents(pixels, *shape, torch.float32, canvas.device, None, canvas.empty, kind)[1]
    return {"first_frame": given} if kind == "token_replace" else {"channels": _first_only(given)}


def hunyuan_video_15(pipe: Any, image: Any, canvas: Canvas) -> Condition:
    """HunyuanVideo-1.5 from text: the inputs that its image-to-video model fills, all zero."""
    channels = torch.cat(pipe.prepare_cond_latents_and_mask(canvas.empty, torch.float32, canvas.device), dim=1)
    seen = torch.zeros(1, pipe.vision_num_semantic_tokens, pipe.vision_states_dim, device=canvas.device)
    return {"channels": channels, "image_embeds": seen}


def hunyuan_video_15_image(pipe: Any, image: Any, canvas: Canvas) -> Condition:
    """HunyuanVideo-1.5 from an image: its latents and a mask as channels, and its embedding."""
    where = (canvas.height, canvas.width, torch.float32, canvas.device)
    channels = torch.cat(pipe.prepare_cond_latents_and_mask(canvas.empty, image, 1, *where), dim=1)
    return {"channels": channels, "image_embeds": pipe.encode_image(image, 1, canvas.device, torch.float32)}


def _pixels(pipe: Any, image: Any, canvas: Canvas, dtype: torch.dtype) -> Tensor:
    return pipe.video_processor.preprocess(image, height=canvas.height, width=canvas.width).to(canvas.device, dtype)


def _first_only(latents: Tensor) -> Tensor:
    """Latents but for their first frame zero, and a channel that marks it."""
    mask = torch.zeros_like(latents[:, :1])
    mask[:, :, 0] = 1
    return torch.cat([latents * mask, mask], dim=1)
