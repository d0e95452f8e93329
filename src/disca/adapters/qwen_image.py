"""Qwen-Image (arXiv 2508.02324): dual-stream blocks, which return the text first. It receives times from 1 to 0, and
multiplies them by 1000 itself."""

from disca.adapters.adapter import Adapter
from disca.adapters.sublayers import DUAL, Sublayer

QWEN_IMAGE = Adapter(
    transformer="QwenImageTransformer2DModel",
    stacks=("transformer_blocks",),
    context_first=True,
    sublayers={
        "transformer_blocks": (
            DUAL[0],
            Sublayer("feed_forward", "img_mlp"),
            Sublayer("feed_forward", "txt_mlp", text=True),
        )
    },
    attends_context_first=True,
    fuse_jointly=False,
    between_blocks=("controlnet_block_samples",),
    block_arguments={"dim": "width"},
    time_scale=1.0,
    time_embedder="time_text_embed.timestep_embedder",
)
