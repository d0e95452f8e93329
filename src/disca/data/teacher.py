"""Clips that the teacher samples itself, for training without videos."""

from __future__ import annotations

from hashlib import sha256
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from disca.data.captions import Item
from disca.data.conditions import Canvas
from disca.data.forms import Form
from disca.data.index import Plan
from disca.data.latents import CLIP


def sample(pipe: Any, form: Form, item: Item, image: Any, canvas: Canvas, plan: Plan) -> Tensor:
    """Latents ``[1, channels, frames, height, width]`` of one run of the pipeline, as its denoiser leaves them.

    The noise depends on the plan's seed and on the item's name alone, not on what was sampled before.

    Raises:
        ValueError: the pipeline samples at another size than the plan's, as those that choose it by the image do.
    """
    assert plan.teacher is not None
    takes = signature(type(pipe).__call__).parameters
    size = {"height": canvas.height, "width": canvas.width, "num_frames": canvas.frames}
    given = {
        "prompt": [item.text],
        "image": image,
        **size,
        **_guided(pipe, plan.teacher.guidance, plan.negative_prompt),
    }
    given |= {"num_inference_steps": plan.teacher.steps, "generator": generator(plan.teacher.seed, item.name)}
    given |= {"output_type": "latent", "return_dict": False}
    last: dict[str, Tensor] = {}
    if "callback_on_step_end" in takes:
        given["callback_on_step_end"] = lambda pipe, step, timestep, tensors: last.update(tensors) or {}
    returned = pipe(**{name: value for name, value in given.items() if name in takes})[0]
    shape = torch.Size((1, *canvas.latent_shape))
    # HunyuanVideo's latent_concat returns latents without their first frame; its loop ends with all of them.
    if form.order is CLIP and returned.shape[2] == shape[2] - 1:
        returned = last.get("latents", returned)
    latents = form.order[1](returned, shape)
    if tuple(latents.shape[1:]) != canvas.latent_shape:
        raise ValueError(
            f"{type(pipe).__name__} sampled latents of {tuple(latents.shape[1:])} for {item.name}, but --size is that "
            f"of {canvas.latent_shape}. Some pipelines choose their size by the image; give that size."
        )
    return latents


def generator(seed: int, name: str) -> torch.Generator:
    """Of one clip."""
    digest = sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _guided(pipe: Any, scale: float, negative: str) -> dict[str, Any]:
    """How a pipeline is told its guidance: embedded, by two passes, or by its guider."""
    if getattr(pipe, "guider", None) is not None:
        pipe.register_modules(guider=pipe.guider.new(guidance_scale=scale))
        return {"negative_prompt": [negative]}
    takes = signature(type(pipe).__call__).parameters
    if "true_cfg_scale" not in takes:
        return {"guidance_scale": scale, "negative_prompt": [negative]}
    if pipe.transformer.config.guidance_embeds:
        return {"guidance_scale": scale}
    return {"true_cfg_scale": scale, "negative_prompt": [negative]}
