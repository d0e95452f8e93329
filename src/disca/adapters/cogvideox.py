"""CogVideoX (arXiv 2408.06072): a diffusion with v-prediction, not a flow. Its schedulers count no steps, so calls are
matched by their timesteps."""

from disca.adapters.adapter import Adapter

COGVIDEOX = Adapter(
    transformer="CogVideoXTransformer3DModel",
    stacks=("transformer_blocks",),
    block_arguments={"dim": "width"},
    flow=False,
)
