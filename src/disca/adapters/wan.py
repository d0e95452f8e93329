"""Wan 2.1 and 2.2 (arXiv 2503.20314): text stays outside of the trunk, in cross attention. The A14B models are two of
these that take turns; TI2V-5B gives each token a timestep of its own."""

from disca.adapters.adapter import Adapter
from disca.adapters.sublayers import CROSS

WAN = Adapter(
    transformer="WanTransformer3DModel",
    stacks=("blocks",),
    context=None,
    sublayers={"blocks": CROSS},
    block_arguments={"dim": "width", "num_heads": "num_attention_heads"},
    time_embedder="condition_embedder.time_embedder",
)
