"""What the library knows about each family of transformers: one small file per family, listed here."""

from __future__ import annotations

from torch import nn

from disca.adapters.adapter import Adapter, stacks_of
from disca.adapters.anyflow import ANYFLOW
from disca.adapters.cogvideox import COGVIDEOX
from disca.adapters.flux import FLUX
from disca.adapters.hunyuan_video import HUNYUAN_VIDEO
from disca.adapters.hunyuan_video_15 import HUNYUAN_VIDEO_15
from disca.adapters.hunyuan_video_framepack import HUNYUAN_VIDEO_FRAMEPACK
from disca.adapters.ltx import LTX
from disca.adapters.mochi import MOCHI
from disca.adapters.qwen_image import QWEN_IMAGE
from disca.adapters.sublayers import Sublayer
from disca.adapters.wan import WAN

ADAPTERS: dict[str, Adapter] = {
    adapter.transformer: adapter
    for adapter in (
        HUNYUAN_VIDEO,
        HUNYUAN_VIDEO_FRAMEPACK,
        HUNYUAN_VIDEO_15,
        WAN,
        ANYFLOW,
        COGVIDEOX,
        LTX,
        MOCHI,
        FLUX,
        QWEN_IMAGE,
    )
}


def describe(adapter: Adapter) -> Adapter:
    """Add a family of one's own, keyed by the class name of its transformer."""
    ADAPTERS[adapter.transformer] = adapter
    return adapter


def adapter_for(transformer: nn.Module) -> Adapter:
    """The adapter of a transformer's family.

    Raises:
        ValueError: nobody described this class; the message says how to.
    """
    names = [cls.__name__ for cls in type(transformer).__mro__]
    for name in names:
        if name in ADAPTERS:
            return ADAPTERS[name]
    raise ValueError(
        f"No adapter describes {names[0]}. Known: {', '.join(sorted(ADAPTERS))}. Describe it with disca.adapters."
        f"describe(Adapter(transformer={names[0]!r}, stacks=...)), where stacks name the ModuleLists of its blocks (it "
        f"has {stacks_of(transformer)}); docs/new_host.md shows an example."
    )


__all__ = ["ADAPTERS", "Adapter", "Sublayer", "adapter_for", "describe"]
