"""Every family the library knows, small: random transformers of width 16 to 32, and what they are called with.

A new family joins by a row in ``FAMILIES``; laws, adapters, predictors and second times range over it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from disca.adapters import Adapter, adapter_for

TEXT = 6
"""Text tokens of a prompt; the last two are padding where a family has a mask."""


def redraw(module: nn.Module, *, seed: int = 0, scale: float = 0.1) -> nn.Module:
    """Every weight drawn anew and none of them zero, so that nothing passes through by luck."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return module.eval()


class Draw:
    """Random tensors, the same for each seed."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)


def text_mask(batch: int) -> Tensor:
    mask = torch.ones(batch, TEXT)
    mask[:, 4:] = 0
    return mask


@dataclass(frozen=True)
class Family:
    """A tiny transformer, and a call of it."""

    make: Callable[..., nn.Module]
    """``make(**changes)``: of this configuration, its weights not drawn yet."""
    arguments: Callable[[Any, Draw, int, int], dict[str, Any]]
    """``arguments(transformer, draw, batch, size)``: of its forward, but its times. ``size`` is that of the latents."""
    times: Callable[[Tensor, dict[str, Any]], Tensor] = lambda timestep, arguments: timestep
    """Times of the samples as the host is given them, where it wants one for each token or frame."""

    def transformer(self, seed: int = 0, **changes: Any) -> Any:
        return redraw(self.make(**changes), seed=seed)

    def inputs(self, transformer: Any, *, batch: int = 1, size: int = 8, seed: int = 0) -> dict[str, Any]:
        return self.arguments(transformer, Draw(seed), batch, size)

    def timestep(self, transformer: Any, inputs: dict[str, Any], time: float) -> Tensor:
        at = adapter_for(transformer).timestep_at(time)
        return self.times(torch.full((len(inputs["hidden_states"]),), at), inputs)

    def call(self, transformer: Any, inputs: dict[str, Any], t: float, r: float | None = None) -> Tensor:
        """The velocity; ``r`` is given to hosts that take it, and only to them."""
        adapter: Adapter = adapter_for(transformer)
        times = {adapter.timestep: self.timestep(transformer, inputs, t)}
        if r is not None and adapter.takes_second_time(transformer):
            times[adapter.second_timestep or ""] = self.timestep(transformer, inputs, r)
        return transformer(**inputs, **times, return_dict=False)[0]


def hunyuan(*, guidance_embeds: bool = False, **changes: Any) -> nn.Module:
    """Two dual-stream and three single-stream blocks, of width 32."""
    from diffusers import HunyuanVideoTransformer3DModel

    return HunyuanVideoTransformer3DModel(**_hunyuan_config(guidance_embeds=guidance_embeds, **changes))


def _hunyuan_config(**changes: Any) -> dict[str, Any]:
    return {
        "in_channels": 4,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "num_layers": 2,
        "num_single_layers": 3,
        "num_refiner_layers": 1,
        "mlp_ratio": 2.0,
        "patch_size": 2,
        "patch_size_t": 1,
        "text_embed_dim": 16,
        "pooled_projection_dim": 8,
        "rope_axes_dim": (4, 6, 6),
        **changes,
    }


def hunyuan_arguments(transformer: Any, draw: Draw, batch: int, size: int, frames: int = 3) -> dict[str, Any]:
    config = transformer.config
    return {
        "hidden_states": draw(batch, config.in_channels, frames, size, size),
        "encoder_hidden_states": draw(batch, TEXT, config.text_embed_dim),
        "encoder_attention_mask": text_mask(batch),
        "pooled_projections": draw(batch, config.pooled_projection_dim),
        "guidance": torch.full((batch,), 6000.0) if config.guidance_embeds else None,
    }


def framepack(**changes: Any) -> nn.Module:
    from diffusers import HunyuanVideoFramepackTransformer3DModel

    more = {"guidance_embeds": True, "has_image_proj": True, "image_proj_dim": 8, "has_clean_x_embedder": True}
    return HunyuanVideoFramepackTransformer3DModel(**_hunyuan_config(**more, **changes))


def framepack_arguments(transformer: Any, draw: Draw, batch: int, size: int) -> dict[str, Any]:
    def history(frames: int, first: int) -> tuple[Tensor, Tensor]:
        return draw(batch, 4, frames, size, size), torch.arange(first, first + frames)

    given = hunyuan_arguments(transformer, draw, batch, size)
    names = ("latents_clean", "latents_history_2x", "latents_history_4x")
    for name, frames, first in zip(names, (2, 2, 4), (0, 2, 4), strict=True):
        given[name], given[f"indices_{name}"] = history(frames, first)
    return {**given, "image_embeds": draw(batch, 4, 8), "indices_latents": torch.arange(8, 11)}


def hunyuan_15(**changes: Any) -> nn.Module:
    from diffusers import HunyuanVideo15Transformer3DModel

    config: dict[str, Any] = {
        "in_channels": 9,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "num_layers": 2,
        "num_refiner_layers": 1,
        "mlp_ratio": 2.0,
        "text_embed_dim": 16,
        "text_embed_2_dim": 16,
        "image_embed_dim": 8,
        "rope_axes_dim": (2, 2, 4),
        "target_size": 64,
    }
    return HunyuanVideo15Transformer3DModel(**{**config, **changes})


def hunyuan_15_arguments(transformer: Any, draw: Draw, batch: int, size: int) -> dict[str, Any]:
    return {
        "hidden_states": draw(batch, transformer.config.in_channels, 2, size // 2, size // 2),
        "encoder_hidden_states": draw(batch, TEXT, 16),
        "encoder_attention_mask": text_mask(batch),
        "encoder_hidden_states_2": draw(batch, TEXT, 16),
        "encoder_attention_mask_2": text_mask(batch),
        "image_embeds": draw(batch, 4, 8),
    }


def _wan_config(**changes: Any) -> dict[str, Any]:
    return {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "in_channels": 4,
        "out_channels": 4,
        "text_dim": 16,
        "freq_dim": 16,
        "ffn_dim": 32,
        "num_layers": 2,
        "rope_max_seq_len": 32,
        **changes,
    }


def wan(**changes: Any) -> nn.Module:
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(**_wan_config(**changes))


def wan_arguments(transformer: Any, draw: Draw, batch: int, size: int) -> dict[str, Any]:
    given = {
        "hidden_states": draw(batch, transformer.config.in_channels, 2, size, size),
        "encoder_hidden_states": draw(batch, TEXT, 16),
    }
    if transformer.config.image_dim is not None:  # takes everything but the last 512 tokens for the image's
        given |= {
            "encoder_hidden_states": draw(batch, 512, 16),
            "encoder_hidden_states_image": draw(batch, 4, transformer.config.image_dim),
        }
    return given


def first_frame_clean(timestep: Tensor, arguments: dict[str, Any]) -> Tensor:
    """One time for each token, 0 for those of the first frame."""
    _, _, frames, height, width = arguments["hidden_states"].shape
    times = timestep[:, None, None].repeat(1, frames, height * width // 4)
    times[:, 0] = 0
    return times.flatten(1)


def anyflow(**changes: Any) -> nn.Module:
    from diffusers import AnyFlowTransformer3DModel

    return AnyFlowTransformer3DModel(**_wan_config(**changes))


def anyflow_arguments(transformer: Any, draw: Draw, batch: int, size: int) -> dict[str, Any]:
    return {"hidden_states": draw(batch, 2, 4, size, size), "encoder_hidden_states": draw(batch, TEXT, 16)}


def cogvideox(**changes: Any) -> nn.Module:
    from diffusers import CogVideoXTransformer3DModel

    config: dict[str, Any] = {
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "in_channels": 4,
        "out_channels": 4,
        "time_embed_dim": 8,
        "text_embed_dim": 16,
        "num_layers": 2,
        "sample_width": 8,
        "sample_height": 8,
        "sample_frames": 9,
        "max_text_seq_length": TEXT,
        "norm_eps": 1e-4,
    }
    return CogVideoXTransformer3DModel(**{**config, **changes})


def cogvideox_arguments(transformer: Any, draw: Draw, batch: int, size: int) -> dict[str, Any]:
    return {"hidden_states": draw(batch, 3, 4, size, size), "encoder_hidden_states": draw(batch, TEXT, 16)}


def ltx(**changes: Any) -> nn.Module:
    from diffusers import LTXVideoTransformer3DModel

    config: dict[str, Any] = {
        "in_channels": 4,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "cross_attention_dim": 16,
        "num_layers": 2,
        "caption_channels": 16,
        "norm_eps": 1e-4,
        "norm_elementwise_affine": True,
    }
    return LTXVideoTransformer3DModel(**{**config, **changes})


def ltx_arguments(transformer: Any, draw: Draw, batch: int, size: int) -> dict[str, Any]:
    return {
        "hidden_states": draw(batch, 2 * size * size // 4, 4),
        "encoder_hidden_states": draw(batch, TEXT, 16),
        "encoder_attention_mask": text_mask(batch),
        "num_frames": 2,
        "height": size // 2,
        "width": size // 2,
    }


def first_half_clean(timestep: Tensor, arguments: dict[str, Any]) -> Tensor:
    """One time for each token, 0 for those of the first of two frames; the sequence is flat."""
    tokens = arguments["hidden_states"].shape[1]
    times = timestep[:, None].repeat(1, tokens)
    times[:, : tokens // 2] = 0
    return times


def mochi(**changes: Any) -> nn.Module:
    from diffusers import MochiTransformer3DModel

    config: dict[str, Any] = {
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "num_layers": 2,
        "pooled_projection_dim": 16,
        "in_channels": 4,
        "text_embed_dim": 16,
        "time_embed_dim": 16,
        "max_sequence_length": TEXT,
    }
    return MochiTransformer3DModel(**{**config, **changes})


def mochi_arguments(transformer: Any, draw: Draw, batch: int, size: int) -> dict[str, Any]:
    return {
        "hidden_states": draw(batch, 4, 2, size, size),
        "encoder_hidden_states": draw(batch, TEXT, 16),
        "encoder_attention_mask": text_mask(batch),
    }


def flux(**changes: Any) -> nn.Module:
    from diffusers import FluxTransformer2DModel

    config: dict[str, Any] = {
        "in_channels": 4,
        "num_layers": 2,
        "num_single_layers": 2,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "joint_attention_dim": 16,
        "pooled_projection_dim": 8,
        "axes_dims_rope": (2, 2, 4),
    }
    return FluxTransformer2DModel(**{**config, **changes})


def flux_arguments(transformer: Any, draw: Draw, batch: int, size: int) -> dict[str, Any]:
    side = size // 2
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return {
        "hidden_states": draw(batch, side * side, 4),
        "encoder_hidden_states": draw(batch, TEXT, 16),
        "pooled_projections": draw(batch, 8),
        "img_ids": torch.stack([0 * rows, rows, columns], dim=-1).view(-1, 3),
        "txt_ids": torch.zeros(TEXT, 3),
        "guidance": torch.full((batch,), 3.5) if transformer.config.guidance_embeds else None,
    }


def qwen_image(**changes: Any) -> nn.Module:
    from diffusers import QwenImageTransformer2DModel

    config: dict[str, Any] = {
        "in_channels": 4,
        "out_channels": 1,
        "num_layers": 2,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "joint_attention_dim": 16,
        "axes_dims_rope": (2, 2, 4),
    }
    return QwenImageTransformer2DModel(**{**config, **changes})


def qwen_image_arguments(transformer: Any, draw: Draw, batch: int, size: int) -> dict[str, Any]:
    side = size // 2
    return {
        "hidden_states": draw(batch, side * side, 4),
        "encoder_hidden_states": draw(batch, TEXT, 16),
        "encoder_hidden_states_mask": text_mask(batch),
        "img_shapes": [[(1, side, side)]] * batch,
    }


def with_changes(make: Callable[..., nn.Module], **changes: Any) -> Callable[..., nn.Module]:
    return lambda **more: make(**{**changes, **more})


FAMILIES: dict[str, Family] = {
    "hunyuan_video": Family(hunyuan, hunyuan_arguments),
    "hunyuan_video_latent_concat": Family(
        with_changes(hunyuan, in_channels=9, image_condition_type="latent_concat"), hunyuan_arguments
    ),
    "hunyuan_video_token_replace": Family(
        with_changes(hunyuan, image_condition_type="token_replace", guidance_embeds=True), hunyuan_arguments
    ),
    "hunyuan_video_framepack": Family(framepack, framepack_arguments),
    "hunyuan_video_15": Family(hunyuan_15, hunyuan_15_arguments),
    "hunyuan_video_15_mean_flow": Family(with_changes(hunyuan_15, use_meanflow=True), hunyuan_15_arguments),
    "wan": Family(wan, wan_arguments),
    "wan_image": Family(with_changes(wan, in_channels=12, image_dim=8, added_kv_proj_dim=24), wan_arguments),
    "wan_image_channels": Family(with_changes(wan, in_channels=12), wan_arguments),
    "wan_per_token": Family(wan, wan_arguments, first_frame_clean),
    "anyflow": Family(anyflow, anyflow_arguments, lambda timestep, _: timestep[:, None].repeat(1, 2)),
    "cogvideox": Family(cogvideox, cogvideox_arguments),
    "ltx": Family(ltx, ltx_arguments),
    "ltx_per_token": Family(ltx, ltx_arguments, first_half_clean),
    "mochi": Family(mochi, mochi_arguments),
    "flux": Family(flux, flux_arguments),
    "qwen_image": Family(qwen_image, qwen_image_arguments),
}
