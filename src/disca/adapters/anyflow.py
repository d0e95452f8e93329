"""AnyFlow (arXiv 2605.13724): Wan's trunk, trained as a flow map, with an input for r of its own. Its causal sibling,
``AnyFlowFARTransformer3DModel``, is also called between chunks, at no step, to fill caches. It is not described."""

from disca.adapters.adapter import Adapter
from disca.adapters.sublayers import CROSS

ANYFLOW = Adapter(
    transformer="AnyFlowTransformer3DModel",
    stacks=("blocks",),
    context=None,
    sublayers={"blocks": CROSS},
    block_arguments={"dim": "width", "num_heads": "num_attention_heads"},
    second_timestep="r_timestep",
)
