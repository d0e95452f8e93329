"""What the families' transformers are given for a clip of a certain size: one row per family.

The rows hold what a host's own configuration does not say: how its codec compresses, how many text tokens its stock
pipeline hands over, and what that pipeline does by default.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from disca.adapters import Adapter
from disca.errors import unknown

Draw = Callable[..., Tensor]
"""``draw(*shape)``: a tensor of the model's dtype and device."""
Grid = tuple[int, int, int]
"""Frames, height and width of the latents."""


@dataclass(frozen=True)
class Size:
    """A clip in pixels; a picture has one frame."""

    width: int
    height: int
    frames: int = 1

    def __post_init__(self) -> None:
        if min(self.width, self.height, self.frames) < 1:
            raise ValueError(f"A size is of whole numbers from 1; given {self}.")

    @classmethod
    def parse(cls, text: str) -> Size:
        """``704x704x129`` (width, height, frames) or ``1024x1024``.

        Raises:
            ValueError: the text is no size.
        """
        found = re.fullmatch(r"(\d+)[x×](\d+)(?:[x×](\d+))?", text.strip())
        if not found:
            raise ValueError(
                f"{text!r} is no size. Give WIDTHxHEIGHTxFRAMES in pixels, such as 704x704x129, or 1024x1024 for a "
                "picture."
            )
        return cls(*(int(number or 1) for number in found.groups()))

    def __str__(self) -> str:
        return f"{self.width}x{self.height}" + (f"x{self.frames}" if self.frames > 1 else "")


@dataclass(frozen=True, kw_only=True)
class Feed:
    """How a family's transformer is fed."""

    arguments: Callable[[Mapping[str, Any], Draw, Grid, int], dict[str, Any]]
    """``arguments(config, draw, grid, text)``: of the transformer's forward for one sample, but its times."""
    spatial: int | Callable[[Mapping[str, Any]], int] = 8
    """Pixels per latent, each way; by the configuration where a family has several codecs."""
    packed: bool = False
    """Whether ``spatial`` counts the patches already, as where a pipeline packs the latents into tokens."""
    temporal: int = 4
    """Frames per latent frame, after the first frame."""
    text: int
    """Text tokens of a prompt in the stock pipeline."""
    steps: int
    """What the stock pipeline samples with by default."""
    passes: int
    """Calls of the transformer for each step there, or samples in its one call: 2 under classifier-free guidance."""
    times: Callable[[Tensor, Grid], Tensor] = lambda timestep, grid: timestep
    """``[1]`` to the shape the host takes its times in."""

    def grid(self, config: Mapping[str, Any], size: Size) -> Grid:
        """The latents of a clip.

        Raises:
            ValueError: the codec or the patches do not divide the size.
        """
        spatial = self.spatial(config) if callable(self.spatial) else self.spatial
        each = spatial if self.packed else spatial * _patches(config)[1]
        if size.height % each or size.width % each or (size.frames - 1) % self.temporal:
            raise ValueError(
                f"This model takes widths and heights that {each} divides, and {self.temporal} n + 1 frames; given "
                f"{size}."
            )
        return 1 + (size.frames - 1) // self.temporal, size.height // spatial, size.width // spatial


def feed_of(adapter: Adapter) -> Feed:
    """The row of an adapter's family.

    Raises:
        ValueError: a family without one; the message says how to add it.
    """
    if adapter.transformer not in FEEDS:
        raise ValueError(
            f"{unknown('host', adapter.transformer, FEEDS)} Add a row to disca.bench.sizes.FEEDS to say what it is fed."
        )
    return FEEDS[adapter.transformer]


def inputs_of(adapter: Adapter, config: Mapping[str, Any], size: Size, draw: Draw, text: int | None = None) -> Inputs:
    """What the host takes for one sample of a clip of ``size`` with ``text`` tokens of text.

    Raises:
        ValueError: a size that the model cannot have.
    """
    feed = feed_of(adapter)
    grid = feed.grid(config, size)
    return Inputs(adapter, feed, grid, feed.arguments(config, draw, grid, feed.text if text is None else text))


@dataclass(frozen=True)
class Inputs:
    """The arguments of a host's forward."""

    adapter: Adapter
    feed: Feed
    grid: Grid
    arguments: Mapping[str, Any]

    def at(self, timestep: float) -> dict[str, Any]:
        """All of them at a timestep in the host's own units, cast to the model's dtype as pipelines do. A second one
        comes from the run that is attached."""
        hidden = self.arguments["hidden_states"]
        times = self.feed.times(torch.full((1,), timestep, device=hidden.device, dtype=hidden.dtype), self.grid)
        return {**self.arguments, self.adapter.timestep: times, "return_dict": False}


def _patches(config: Mapping[str, Any]) -> tuple[int, int]:
    """Latents per token: in time, and each way in space."""
    patch = config.get("patch_size", 1)
    return (patch[0], patch[1]) if isinstance(patch, (tuple, list)) else (config.get("patch_size_t") or 1, patch)


def _filled(draw: Draw, value: float, *shape: int) -> Tensor:
    """A tensor of the model's dtype with data, since hosts read masks, and HunyuanVideo-1.5 its picture."""
    return torch.full(shape, value, dtype=draw(1).dtype)


def _hunyuan_video(config: Mapping[str, Any], draw: Draw, grid: Grid, text: int) -> dict[str, Any]:
    return {
        "hidden_states": draw(1, config["in_channels"], *grid),
        "encoder_hidden_states": draw(1, text, config["text_embed_dim"]),
        "encoder_attention_mask": _filled(draw, 1.0, 1, text),
        "pooled_projections": draw(1, config["pooled_projection_dim"]),
        "guidance": torch.full((1,), 6000.0) if config["guidance_embeds"] else None,
    }


def _framepack(config: Mapping[str, Any], draw: Draw, grid: Grid, text: int) -> dict[str, Any]:
    given = _hunyuan_video(config, draw, grid, text)
    frames, *area = grid
    given["indices_latents"] = torch.arange(1, 1 + frames)
    for name, count in (("clean", 2), ("history_2x", 2), ("history_4x", 16)):  # as the stock pipeline
        given[f"latents_{name}"] = draw(1, config["in_channels"], count, *area)
        given[f"indices_latents_{name}"] = torch.arange(count)
    return given | ({"image_embeds": draw(1, 729, config["image_proj_dim"])} if config["has_image_proj"] else {})


def _hunyuan_video_15(config: Mapping[str, Any], draw: Draw, grid: Grid, text: int) -> dict[str, Any]:
    glyphs, pictures = 256, 729
    return {
        "hidden_states": draw(1, config["in_channels"], *grid),
        "encoder_hidden_states": draw(1, text, config["text_embed_dim"]),
        "encoder_attention_mask": _filled(draw, 1.0, 1, text),
        "encoder_hidden_states_2": draw(1, glyphs, config["text_embed_2_dim"]),
        "encoder_attention_mask_2": _filled(draw, 1.0, 1, glyphs),
        "image_embeds": _filled(draw, 0.0, 1, pictures, config["image_embed_dim"]),  # text to video
    }


def _wan(config: Mapping[str, Any], draw: Draw, grid: Grid, text: int) -> dict[str, Any]:
    given = {
        "hidden_states": draw(1, config["in_channels"], *grid),
        "encoder_hidden_states": draw(1, text, config["text_dim"]),
    }
    if config.get("image_dim") is not None:
        given["encoder_hidden_states_image"] = draw(1, 257, config["image_dim"])
    return given


def _anyflow(config: Mapping[str, Any], draw: Draw, grid: Grid, text: int) -> dict[str, Any]:
    frames, *area = grid
    return {
        "hidden_states": draw(1, frames, config["in_channels"], *area),
        "encoder_hidden_states": draw(1, text, config["text_dim"]),
    }


def _cogvideox(config: Mapping[str, Any], draw: Draw, grid: Grid, text: int) -> dict[str, Any]:
    frames, height, width = grid
    per_time, patch = _patches(config)
    frames += -frames % per_time
    given: dict[str, Any] = {
        "hidden_states": draw(1, frames, config["in_channels"], height, width),
        "encoder_hidden_states": draw(1, text, config["text_embed_dim"]),
    }
    if config["use_rotary_positional_embeddings"]:
        tokens = frames // per_time * (height // patch) * (width // patch)
        angles = torch.zeros(tokens, config["attention_head_dim"])
        given["image_rotary_emb"] = (angles, angles)
    if config.get("ofs_embed_dim") is not None:
        given["ofs"] = torch.full((1,), 2.0)
    return given


def _ltx(config: Mapping[str, Any], draw: Draw, grid: Grid, text: int) -> dict[str, Any]:
    frames, height, width = grid
    return {
        "hidden_states": draw(1, frames * height * width, config["in_channels"]),
        "encoder_hidden_states": draw(1, text, config["caption_channels"]),
        "encoder_attention_mask": _filled(draw, 1.0, 1, text),
        "num_frames": frames,
        "height": height,
        "width": width,
    }


def _mochi(config: Mapping[str, Any], draw: Draw, grid: Grid, text: int) -> dict[str, Any]:
    return {
        "hidden_states": draw(1, config["in_channels"], *grid),
        "encoder_hidden_states": draw(1, text, config["text_embed_dim"]),
        "encoder_attention_mask": torch.ones(1, text, dtype=torch.bool),
    }


def _flux(config: Mapping[str, Any], draw: Draw, grid: Grid, text: int) -> dict[str, Any]:
    _, height, width = grid
    return {
        "hidden_states": draw(1, height * width, config["in_channels"]),
        "encoder_hidden_states": draw(1, text, config["joint_attention_dim"]),
        "pooled_projections": draw(1, config["pooled_projection_dim"]),
        "img_ids": torch.zeros(height * width, 3),
        "txt_ids": torch.zeros(text, 3),
        "guidance": torch.full((1,), 3.5) if config["guidance_embeds"] else None,
    }


def _qwen_image(config: Mapping[str, Any], draw: Draw, grid: Grid, text: int) -> dict[str, Any]:
    _, height, width = grid
    return {
        "hidden_states": draw(1, height * width, config["in_channels"]),
        "encoder_hidden_states": draw(1, text, config["joint_attention_dim"]),
        "encoder_hidden_states_mask": _filled(draw, 1.0, 1, text),
        "img_shapes": [[(1, height, width)]],
    }


def _wan_codec(config: Mapping[str, Any]) -> int:
    """The codec of TI2V-5B, of 48 channels, compresses twice as much as the others."""
    return 16 if config["out_channels"] == 48 else 8


_HUNYUAN: dict[str, Any] = {"text": 256, "steps": 50, "passes": 1}

FEEDS: dict[str, Feed] = {
    "HunyuanVideoTransformer3DModel": Feed(arguments=_hunyuan_video, **_HUNYUAN),
    "HunyuanVideoFramepackTransformer3DModel": Feed(arguments=_framepack, **_HUNYUAN),
    "HunyuanVideo15Transformer3DModel": Feed(arguments=_hunyuan_video_15, spatial=16, text=1000, steps=50, passes=2),
    "WanTransformer3DModel": Feed(arguments=_wan, spatial=_wan_codec, text=512, steps=50, passes=2),
    "AnyFlowTransformer3DModel": Feed(
        arguments=_anyflow, text=512, steps=50, passes=1, times=lambda t, grid: t[:, None].repeat(1, grid[0])
    ),
    "CogVideoXTransformer3DModel": Feed(arguments=_cogvideox, text=226, steps=50, passes=2),
    "LTXVideoTransformer3DModel": Feed(arguments=_ltx, spatial=32, temporal=8, text=128, steps=50, passes=2),
    "MochiTransformer3DModel": Feed(arguments=_mochi, temporal=6, text=256, steps=64, passes=2),
    "FluxTransformer2DModel": Feed(arguments=_flux, spatial=16, packed=True, text=512, steps=28, passes=1),
    "QwenImageTransformer2DModel": Feed(arguments=_qwen_image, spatial=16, packed=True, text=512, steps=50, passes=2),
}
