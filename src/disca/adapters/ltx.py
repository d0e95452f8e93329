"""LTX-Video (arXiv 2501.00103): text stays outside of the trunk, in cross attention."""

from disca.adapters.adapter import Adapter

LTX = Adapter(
    transformer="LTXVideoTransformer3DModel",
    stacks=("transformer_blocks",),
    context=None,
    block_arguments={"dim": "width", "eps": "norm_eps", "elementwise_affine": "norm_elementwise_affine"},
    time_embedder="time_embed.emb.timestep_embedder",
)
