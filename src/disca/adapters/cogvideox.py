"""CogVideoX (arXiv 2408.06072): a diffusion with v-prediction, not a flow. Its schedulers count no steps, so calls are
matched by their timesteps."""

from disca.adapters.adapter import Adapter
from disca.adapters.sublayers import Sublayer

COGVIDEOX = Adapter(
    transformer="CogVideoXTransformer3DModel",
    stacks=("transformer_blocks",),
    sublayers={"transformer_blocks": (Sublayer("attention", "attn1", streams=2), Sublayer("feed_forward", "ff"))},
    attends_context_first=True,
    frames_before_channels=True,
    block_arguments={"dim": "width"},
    flow=False,
)
