"""How each family's pipeline encodes clips and prompts, and how its transformer takes them.

A pipeline joins by a row in :data:`FORMS`; the tests compare what a row says with what the pipeline itself hands its
transformer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from disca.data import conditions, latents
from disca.data.conditions import Canvas, Condition
from disca.errors import nearest


@dataclass(frozen=True, kw_only=True)
class Form:
    """One pipeline class of diffusers."""

    prompt: tuple[str | None, ...]
    """What ``encode_prompt`` returns, in its order, as arguments of the transformer; None for what it returns of the
    negative prompt, which it is not asked for."""
    statistics: Callable[[Any], latents.Statistics]
    """Of the VAE, for :func:`disca.data.latents.normalise`."""
    condition: Callable[[Any, Any, Canvas], Condition] = conditions.none
    """``condition(pipe, image, canvas)`` of one clip; ``image`` is its first frame as a picture of PIL."""
    takes_image: bool = False
    """Whether the condition is of an image, and so another one for each clip."""
    ratios: tuple[str, str] = ("vae_scale_factor_temporal", "vae_scale_factor_spatial")
    """Attributes of the pipeline: frames and pixels for one latent frame and pixel."""
    order: latents.Order = latents.CLIP
    static: Callable[[Any, Tensor], Mapping[str, Any]] = lambda pipe, x: {}
    """Arguments of the transformer that follow from the shape of the latents."""
    modules: tuple[str, ...] = ()
    """Packages that its prompts are cleaned with: diffusers loads the pipeline without, which then fails."""

    def shape(self, pipe: Any, width: int, height: int, frames: int) -> tuple[int, int, int, int]:
        """Of the latents, ``(channels, frames, height, width)``.

        Raises:
            ValueError: the size does not divide; names the nearest that does.
        """
        temporal, spatial = (int(getattr(pipe, name)) for name in self.ratios)
        step = spatial * _patch(pipe.transformer)
        fits = [max(step, side // step * step) for side in (width, height)]
        whole = max(0, frames - 1) // temporal * temporal + 1
        if (*fits, whole) != (width, height, frames):
            raise ValueError(
                f"{type(pipe).__name__} takes widths and heights in multiples of {step} and a multiple of {temporal} "
                f"frames plus one, not {width}x{height}x{frames}. The nearest below is {fits[0]}x{fits[1]}x{whole}."
            )
        return _channels(pipe.vae), (frames - 1) // temporal + 1, height // spatial, width // spatial

    def encode_clip(self, pipe: Any, pixels: Tensor) -> Tensor:
        """Latents ``[1, channels, frames, height, width]`` of pixels ``[1, 3, frames, height, width]`` in [-1, 1]: the
        mode of what the VAE gives, scaled as the denoiser expects it."""
        encoded = pipe.vae.encode(pixels.to(pipe.vae.device, pipe.vae.dtype))
        return latents.normalise(encoded.latent_dist.mode(), self.statistics(pipe.vae))

    def encode_prompt(
        self, pipe: Any, texts: Sequence[str], image: Any = None, *, negative: bool = False
    ) -> dict[str, Tensor]:
        """Arguments of the transformer that texts become, as the pipeline's own call makes them of its prompt or of its
        negative prompt."""
        takes, called = signature(pipe.encode_prompt).parameters, signature(type(pipe).__call__).parameters
        given: dict[str, Any] = {"prompt": list(texts), "device": pipe.vae.device}
        given |= {"do_classifier_free_guidance": False, "batch_size": len(texts), "image": image}
        if "max_sequence_length" in called:
            given["max_sequence_length"] = called["max_sequence_length"].default
        if "image_embed_interleave" in takes and not negative:  # it chooses for the prompt alone
            joined = pipe.transformer.config.image_condition_type == "latent_concat"
            given["image_embed_interleave"] = 2 if joined else 4
        encoded = pipe.encode_prompt(**{name: value for name, value in given.items() if name in takes})
        return {name: value for name, value in zip(self.prompt, encoded, strict=True) if name is not None}

    def inputs(self, pipe: Any, x: Tensor, prompt: Mapping[str, Tensor], condition: Condition) -> dict[str, Any]:
        """Arguments of the transformer but its times and guidance, for latents ``x`` ``[batch, channels, frames,
        height, width]``."""
        more = {name: value for name, value in condition.items() if name not in ("channels", "first_frame")}
        static = self.static(pipe, x)
        if "first_frame" in condition:
            x = torch.cat([condition["first_frame"].to(x), x[:, :, 1:]], dim=2)
        if "channels" in condition:
            x = torch.cat([x, condition["channels"].to(x)], dim=1)
        return {"hidden_states": self.order[0](x), **prompt, **more, **static}

    def timestep(self, pipe: Any, x: Tensor, timestep: Tensor, condition: Condition) -> Tensor:
        """Times ``[batch]`` in the host's units as the transformer takes them: one for each token, and 0 for those of a
        clean first frame, where the pipeline says so (Wan TI2V)."""
        if "first_frame" not in condition or not pipe.config.get("expand_timesteps"):
            return timestep
        _, height, width = pipe.transformer.config.patch_size
        tokens = torch.ones(x.shape[2], x.shape[3] // height, x.shape[4] // width, device=timestep.device)
        tokens[0] = 0
        return timestep[:, None] * tokens.flatten()

    def velocity(self, output: Tensor, x: Tensor, condition: Condition) -> Tensor:
        """The transformer's output in the order of ``x``; zero at a clean first frame, which does not move."""
        moved = self.order[1](output, x.shape)
        if "first_frame" in condition:
            moved = torch.cat([torch.zeros_like(moved[:, :, :1]), moved[:, :, 1:]], dim=2)
        return moved


def _patch(transformer: Any) -> int:
    patch = transformer.config.get("patch_size", 1)
    return int(patch if isinstance(patch, int) else patch[-1])


def _channels(vae: Any) -> int:
    return int(vae.config.get("latent_channels") or vae.config.z_dim)


def _ltx(pipe: Any, x: Tensor) -> Mapping[str, Any]:
    rate = signature(type(pipe).__call__).parameters["frame_rate"].default
    side = pipe.vae_spatial_compression_ratio
    scale = (pipe.vae_temporal_compression_ratio / rate, side, side)
    return {**dict(zip(("num_frames", "height", "width"), x.shape[2:], strict=True)), "rope_interpolation_scale": scale}


def _cogvideox(pipe: Any, x: Tensor) -> Mapping[str, Any]:
    if not pipe.transformer.config.use_rotary_positional_embeddings:
        return {}
    height, width = (pipe.vae_scale_factor_spatial * side for side in x.shape[3:])
    return {"image_rotary_emb": pipe._prepare_rotary_positional_embeddings(height, width, x.shape[2], x.device)}


_TEXT = "encoder_hidden_states"
_MASKED = (_TEXT, "encoder_attention_mask")
_HUNYUAN = Form(prompt=(_TEXT, "pooled_projections", "encoder_attention_mask"), statistics=latents.factor)
_HUNYUAN_15 = Form(
    prompt=(*_MASKED, "encoder_hidden_states_2", "encoder_attention_mask_2"),
    statistics=latents.factor,
    condition=conditions.hunyuan_video_15,
)
_WAN = Form(prompt=(_TEXT, None), statistics=latents.moments, modules=("ftfy",))

FORMS: dict[str, Form] = {
    "HunyuanVideoPipeline": _HUNYUAN,
    "HunyuanVideoImageToVideoPipeline": replace(_HUNYUAN, condition=conditions.hunyuan_video_image, takes_image=True),
    "HunyuanVideo15Pipeline": _HUNYUAN_15,
    "HunyuanVideo15ImageToVideoPipeline": replace(
        _HUNYUAN_15, condition=conditions.hunyuan_video_15_image, takes_image=True
    ),
    "WanPipeline": _WAN,
    "WanImageToVideoPipeline": replace(_WAN, condition=conditions.wan_image, takes_image=True),
    "LTXPipeline": Form(
        prompt=(*_MASKED, None, None),
        statistics=latents.buffered_moments,
        ratios=("vae_temporal_compression_ratio", "vae_spatial_compression_ratio"),
        order=latents.TOKENS,
        static=_ltx,
    ),
    "CogVideoXPipeline": Form(prompt=(_TEXT, None), statistics=latents.factor, order=latents.FRAMES, static=_cogvideox),
    "MochiPipeline": Form(
        prompt=(*_MASKED, None, None),
        statistics=latents.scaled_moments,
        ratios=("vae_temporal_scale_factor", "vae_spatial_scale_factor"),
    ),
}


def form_for(pipe: Any) -> Form:
    """The form of a pipeline, by its class.

    Raises:
        ValueError: a class that is not described.
    """
    return form_named(type(pipe).__name__)


def form_named(name: str) -> Form:
    """The form of a pipeline class of that name; see :func:`form_for`."""
    if name not in FORMS:
        near = nearest(name, FORMS)
        raise ValueError(
            f"How {name} encodes clips is not described{f', the nearest is {near}' if near else ''}. Described: "
            f"{', '.join(sorted(FORMS))}. A further one joins by a row in disca/data/forms.py."
        )
    return FORMS[name]
