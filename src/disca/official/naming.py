"""Where each module of diffusers' HunyuanVideo transformers lies in the files of the authors.

One line for each module: where its weight and bias are. After a bar, another name that the authors' code accepts too; a
number in brackets is a module's place in a fused tensor, counted along the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_MLP = {"linear_1": "mlp.0", "linear_2": "mlp.2"}
_FEED_FORWARD = {"net.0.proj": "fc1", "net.2": "fc2"}
_DOUBLE = {
    "norm1.linear": "img_mod.linear",
    "norm1_context.linear": "txt_mod.linear",
    "attn.to_q": "img_attn_qkv[0]|img_attn_q",
    "attn.to_k": "img_attn_qkv[1]|img_attn_k",
    "attn.to_v": "img_attn_qkv[2]|img_attn_v",
    "attn.norm_q": "img_attn_q_norm",
    "attn.norm_k": "img_attn_k_norm",
    "attn.to_out.0": "img_attn_proj",
    "attn.add_q_proj": "txt_attn_qkv[0]|txt_attn_q",
    "attn.add_k_proj": "txt_attn_qkv[1]|txt_attn_k",
    "attn.add_v_proj": "txt_attn_qkv[2]|txt_attn_v",
    "attn.norm_added_q": "txt_attn_q_norm",
    "attn.norm_added_k": "txt_attn_k_norm",
    "attn.to_add_out": "txt_attn_proj",
    **{f"ff.{ours}": f"img_mlp.{theirs}" for ours, theirs in _FEED_FORWARD.items()},
    **{f"ff_context.{ours}": f"txt_mlp.{theirs}" for ours, theirs in _FEED_FORWARD.items()},
}
_SINGLE = {
    "norm.linear": "modulation.linear",
    "attn.to_q": "linear1[0]|linear1_q",
    "attn.to_k": "linear1[1]|linear1_k",
    "attn.to_v": "linear1[2]|linear1_v",
    "proj_mlp": "linear1[3]|linear1_mlp",
    "attn.norm_q": "q_norm",
    "attn.norm_k": "k_norm",
    "proj_out": "linear2|linear2.fc",
}
_REFINER = {
    "norm1": "norm1",
    "norm2": "norm2",
    "attn.to_q": "self_attn_qkv[0]",
    "attn.to_k": "self_attn_qkv[1]",
    "attn.to_v": "self_attn_qkv[2]",
    "attn.to_out.0": "self_attn_proj",
    "norm_out.linear": "adaLN_modulation.1",
    **{f"ff.{ours}": f"mlp.{theirs}" for ours, theirs in _FEED_FORWARD.items()},
}
_TEXT = "context_embedder.time_text_embed"
_SHARED = {
    "x_embedder.proj": "img_in.proj",
    "context_embedder.proj_in": "txt_in.input_embedder",
    **{f"{_TEXT}.timestep_embedder.{ours}": f"txt_in.t_embedder.{theirs}" for ours, theirs in _MLP.items()},
    **{f"{_TEXT}.text_embedder.{name}": f"txt_in.c_embedder.{name}" for name in _MLP},
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}
_REFINER_BLOCKS = ("context_embedder.token_refiner.refiner_blocks", "txt_in.individual_token_refiner.blocks", _REFINER)
SWAPPED = "norm_out.linear"
"""The final modulation: (shift, scale) to the authors, (scale, shift) to diffusers."""


@dataclass(frozen=True)
class Naming:
    """Where the modules of one kind of network lie in an official file."""

    modules: Mapping[str, str]
    stacks: tuple[tuple[str, str, Mapping[str, str]], ...]
    """Stacks of blocks: their name here, their name there, and the modules of a block."""

    def official(self, module: str) -> str | None:
        """The entry of a module of diffusers, with the block's number filled in; None where there is none."""
        for ours, theirs, block in self.stacks:
            if module.startswith(f"{ours}."):
                number, _, inner = module.removeprefix(f"{ours}.").partition(".")
                entry = block.get(inner)
                return entry and "|".join(f"{theirs}.{number}.{name}" for name in entry.split("|"))
        return self.modules.get(module)


TRANSFORMERS = {
    "HunyuanVideoTransformer3DModel": Naming(
        {
            **_SHARED,
            **{
                f"time_text_embed.{ours}.{layer}": f"{theirs}.{place}"
                for ours, theirs in (
                    ("timestep_embedder", "time_in"),
                    ("timestep_embedder_r", "time_r_in"),
                    ("guidance_embedder", "guidance_in"),
                )
                for layer, place in _MLP.items()
            },
            "time_text_embed.text_embedder.linear_1": "vector_in.in_layer",
            "time_text_embed.text_embedder.linear_2": "vector_in.out_layer",
        },
        (
            ("transformer_blocks", "double_blocks", _DOUBLE),
            ("single_transformer_blocks", "single_blocks", _SINGLE),
            _REFINER_BLOCKS,
        ),
    ),
    "HunyuanVideo15Transformer3DModel": Naming(
        {
            **_SHARED,
            **{
                f"time_embed.{ours}.{layer}": f"{theirs}.{place}"
                for ours, theirs in (("timestep_embedder", "time_in"), ("timestep_embedder_r", "time_r_in"))
                for layer, place in _MLP.items()
            },
            "cond_type_embed": "cond_type_embedding",
            "context_embedder_2.norm": "byt5_in.layernorm",
            **{f"context_embedder_2.linear_{n}": f"byt5_in.fc{n}" for n in (1, 2, 3)},
            "image_embedder.norm_in": "vision_in.proj.0",
            "image_embedder.linear_1": "vision_in.proj.1",
            "image_embedder.linear_2": "vision_in.proj.3",
            "image_embedder.norm_out": "vision_in.proj.4",
        },
        (("transformer_blocks", "double_blocks", _DOUBLE), _REFINER_BLOCKS),
    ),
}
PREDICTORS = {
    "HunyuanVideoTransformer3DModel": Naming(
        {name: name for name in ("fusion_mlp.0", "fusion_mlp.2")},
        (("blocks", "mm_single_blocks", _SINGLE),),
    ),
    "HunyuanVideo15Transformer3DModel": Naming(
        {
            f"fusion_mlp_{stream}.{place}": f"fusion_mlp_{stream}.{place}"
            for stream in ("img", "txt")
            for place in (0, 2)
        },
        (("blocks", "double_blocks", _DOUBLE),),
    ),
}
