"""HunyuanVideo 1.0: dual-stream blocks followed by single-stream blocks (arXiv 2412.03603)."""

from disca.adapters.adapter import Adapter

HUNYUAN_VIDEO = Adapter(
    transformer="HunyuanVideoTransformer3DModel",
    stacks=("transformer_blocks", "single_transformer_blocks"),
    time_embedder="time_text_embed.timestep_embedder",
)
