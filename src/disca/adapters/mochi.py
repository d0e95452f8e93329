"""Mochi 1: counts from 0 (noise) up to 1000 (data), has narrower text tokens, and drops them in its last block."""

from disca.adapters.adapter import Adapter
from disca.adapters.sublayers import DUAL, Sublayer

MOCHI = Adapter(
    transformer="MochiTransformer3DModel",
    stacks=("transformer_blocks",),
    sublayers={"transformer_blocks": (Sublayer("attention", "attn1", streams=2), *DUAL[1:])},
    fuse_jointly=False,
    context_width=("pooled_projection_dim",),
    block_arguments={"dim": "width"},
    last_block={"context_pre_only": True},
    time_ascends=True,
    time_embedder="time_embed.timestep_embedder",
)
