"""Flux.1: dual-stream blocks followed by single-stream blocks, which return the text first. It receives times from 1 to
0, and multiplies them by 1000 itself."""

from disca.adapters.adapter import Adapter
from disca.adapters.sublayers import DUAL, SINGLE, Sublayer

FLUX = Adapter(
    transformer="FluxTransformer2DModel",
    stacks=("transformer_blocks", "single_transformer_blocks"),
    context_first=True,
    sublayers={
        "transformer_blocks": DUAL,
        "single_transformer_blocks": (Sublayer("single_attention", "attn"), SINGLE[1]),
    },
    attends_context_first=True,
    between_blocks=("controlnet_block_samples", "controlnet_single_block_samples"),
    block_arguments={"dim": "width"},
    time_scale=1.0,
    time_embedder="time_text_embed.timestep_embedder",
)
