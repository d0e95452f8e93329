"""HunyuanVideo 1.0: dual-stream blocks followed by single-stream blocks (arXiv 2412.03603)."""

from disca.adapters.adapter import Adapter
from disca.adapters.sublayers import DUAL, SINGLE

HUNYUAN_VIDEO = Adapter(
    transformer="HunyuanVideoTransformer3DModel",
    stacks=("transformer_blocks", "single_transformer_blocks"),
    sublayers={"transformer_blocks": DUAL, "single_transformer_blocks": SINGLE},
    time_embedder="time_text_embed.timestep_embedder",
)
