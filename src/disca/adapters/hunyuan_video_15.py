"""HunyuanVideo-1.5: dual-stream blocks only, and an input for r of its own (arXiv 2511.18870)."""

from disca.adapters.adapter import Adapter
from disca.adapters.sublayers import DUAL

HUNYUAN_VIDEO_15 = Adapter(
    transformer="HunyuanVideo15Transformer3DModel",
    stacks=("transformer_blocks",),
    sublayers={"transformer_blocks": DUAL},
    fuse_jointly=False,
    time_embedder="time_embed.timestep_embedder",
    second_timestep="timestep_r",
    second_timestep_option="use_meanflow",
)
