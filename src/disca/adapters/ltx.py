"""LTX-Video (arXiv 2501.00103): text stays outside of the trunk, in cross attention."""

from disca.adapters.adapter import Adapter
from disca.adapters.sublayers import CROSS, Sublayer

LTX = Adapter(
    transformer="LTXVideoTransformer3DModel",
    stacks=("transformer_blocks",),
    context=None,
    sublayers={"transformer_blocks": (*CROSS[:2], Sublayer("feed_forward", "ff"))},
    block_arguments={"dim": "width", "eps": "norm_eps", "elementwise_affine": "norm_elementwise_affine"},
    time_embedder="time_embed.emb.timestep_embedder",
)
