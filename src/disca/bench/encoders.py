"""What stock pipelines have beside a transformer: text encoders, and the VAE that decodes its latents, by family.

Sizes are those of the published configurations, which can be told from what they have to fit: a transformer takes text
as wide as its encoder gives it, and a VAE's latents. Where a class of diffusers or transformers has the published value
for its default, the row leaves it out. Weights are random: they do not matter for seconds and bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import Any

import torch
from torch import Tensor

from disca.bench.sizes import Size
from disca.errors import unknown


@dataclass(frozen=True, kw_only=True)
class TextEncoder:
    """A text encoder, and what its pipeline asks of it."""

    model: str
    """Its class in transformers."""
    config: Mapping[str, Any]
    """What its published configuration has otherwise than its class."""
    small: Mapping[str, Any]
    """What one that a test can afford has otherwise."""
    text: int
    """Tokens of a prompt, padded as the pipeline pads."""
    template: int = 0
    """Tokens that the pipeline puts before the prompt, and cuts off again."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of its call."""
    embeds: Callable[[Any], Tensor] = itemgetter(0)
    """What the pipeline takes of its outputs."""

    def make(self, small: bool = False) -> Any:
        """The encoder with random weights."""
        import transformers

        encoder = getattr(transformers, self.model)
        return encoder(encoder.config_class(**{**self.config, **(self.small if small else {})}))

    def encode(self, encoder: Any, device: torch.device) -> Tensor:
        """What the pipeline makes of a prompt, drawn for it, that fills half of its places."""
        tokens = self.template + self.text
        ids = torch.randint(0, encoder.config.vocab_size, (1, tokens), device=device)
        mask = (torch.arange(tokens, device=device) < self.template + self.text // 2).long()[None]
        return self.embeds(encoder(input_ids=ids, attention_mask=mask, **self.options))


@dataclass(frozen=True, kw_only=True)
class Vae:
    """A VAE, decoding as people let it."""

    model: str
    """Its class in diffusers."""
    small: Mapping[str, Any]
    """What one that a test can afford has otherwise."""
    tiled: bool = False
    """Whether the pipeline's own example turns on tiling."""
    small_tiles: Mapping[str, Any] = field(default_factory=dict)
    """Tiles that a small clip has several of."""
    dtype: torch.dtype | None = None
    """What the pipeline's own example loads it in, where that is not the transformer's."""

    def make(self, small: bool = False) -> Any:
        """The VAE with random weights."""
        import diffusers

        vae = getattr(diffusers, self.model)(**(self.small if small else {}))
        if self.tiled:
            vae.enable_tiling(**(self.small_tiles if small else {}))
        return vae

    def latents(self, vae: Any, size: Size) -> tuple[int, ...]:
        """The shape of a clip's latents: one, channels, frames, height, width."""
        config = vae.config
        channels = config.get("latent_channels") or config["z_dim"]
        temporal, spatial = (
            config.get(f"scale_factor_{way}") or config[f"{way}_compression_ratio"] for way in ("temporal", "spatial")
        )
        return 1, channels, 1 + (size.frames - 1) // temporal, size.height // spatial, size.width // spatial


@dataclass(frozen=True, kw_only=True)
class Encoders:
    """All of a pipeline's."""

    text: tuple[TextEncoder, ...]
    vae: Vae


def encoders_of(host: str) -> Encoders:
    """The row of a transformer's family.

    Raises:
        ValueError: a family without one.
    """
    if host not in ENCODERS:
        raise ValueError(f"{unknown('host', host, ENCODERS)} Add a row to disca.bench.encoders.ENCODERS.")
    return ENCODERS[host]


def _hidden_before_last_two(outputs: Any) -> Tensor:
    found: Tensor = outputs.hidden_states[-3]
    return found


_HIDDEN: dict[str, Any] = {"options": {"output_hidden_states": True}, "embeds": _hidden_before_last_two}
_GROUPED = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 3}
_NARROW = {"hidden_size": 64, "intermediate_size": 128, "vocab_size": 512, "bos_token_id": 510, "eos_token_id": 511}
_SMALL_LLM = {**_NARROW, **_GROUPED}
_SMALL_T5 = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 384}

_LLAMA = TextEncoder(  # LLaVA's Llama 3, 8 B
    model="LlamaModel",
    config={"vocab_size": 128320, "intermediate_size": 14336, "num_key_value_heads": 8},
    small=_SMALL_LLM,
    text=256,
    template=95,
    **_HIDDEN,
)
_CLIP = TextEncoder(  # of ViT-L/14
    model="CLIPTextModel",
    config={"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "projection_dim": 768},
    small={**_NARROW, "num_attention_heads": 4, "num_hidden_layers": 2},
    text=77,
    embeds=attrgetter("pooler_output"),
)
_QWEN = TextEncoder(  # Qwen2.5-VL, 7 B, without its vision
    model="Qwen2_5_VLTextModel",
    config={
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    },
    small={
        **_SMALL_LLM,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
    },
    text=1000,
    template=108,
    **_HIDDEN,
)
_BYT5 = TextEncoder(  # small; runs where a prompt has words in quotation marks
    model="T5EncoderModel",
    config={
        "vocab_size": 1510,
        "d_model": 1472,
        "d_ff": 3584,
        "num_layers": 12,
        "num_heads": 6,
        "feed_forward_proj": "gated-gelu",
    },
    small=_SMALL_T5,
    text=256,
)
_UMT5 = TextEncoder(  # XXL, 5.7 B without its decoder
    model="UMT5EncoderModel",
    config={"vocab_size": 256384, "d_model": 4096, "d_ff": 10240, "num_layers": 24, "num_heads": 64},
    small=_SMALL_T5,
    text=512,
)
_SIDES = ("height", "width")

ENCODERS: dict[str, Encoders] = {
    "HunyuanVideoTransformer3DModel": Encoders(
        text=(_LLAMA, _CLIP),
        vae=Vae(
            model="AutoencoderKLHunyuanVideo",
            small={"block_out_channels": (8, 16, 16, 16), "norm_num_groups": 4, "layers_per_block": 1},
            tiled=True,
            small_tiles={
                **{f"tile_sample_min_{side}": 48 for side in _SIDES},
                **{f"tile_sample_stride_{side}": 32 for side in _SIDES},
            },
        ),
    ),
    "HunyuanVideo15Transformer3DModel": Encoders(
        text=(_QWEN, _BYT5),
        vae=Vae(
            model="AutoencoderKLHunyuanVideo15",
            small={"latent_channels": 8, "block_out_channels": (16, 16, 16, 16, 16), "layers_per_block": 1},
            tiled=True,
            small_tiles={
                **{f"tile_sample_min_{side}": 48 for side in _SIDES},
                **{f"tile_latent_min_{side}": 3 for side in _SIDES},
                "tile_overlap_factor": 1 / 3,
            },
        ),
    ),
    "WanTransformer3DModel": Encoders(
        text=(_UMT5,),
        vae=Vae(model="AutoencoderKLWan", small={"base_dim": 8, "num_res_blocks": 1}, dtype=torch.float32),
    ),
}
"""By the class of the transformer."""
