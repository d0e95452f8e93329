"""FramePack (arXiv 2504.12626): HunyuanVideo's trunk behind the compressed history of earlier sections."""

from dataclasses import replace

from disca.adapters.hunyuan_video import HUNYUAN_VIDEO

HUNYUAN_VIDEO_FRAMEPACK = replace(HUNYUAN_VIDEO, transformer="HunyuanVideoFramepackTransformer3DModel")
