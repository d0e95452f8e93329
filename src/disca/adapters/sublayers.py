"""What is inside of a block: the layers whose outputs caches keep, before their gates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["attention", "cross_attention", "feed_forward", "single", "single_attention"]
"""Self or joint attention; attention to the text; a feed-forward layer; and in single-stream blocks the output that
attention and feed-forward layer share, or the attention alone."""

KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Sublayer:
    """One layer of a block."""

    kind: Kind
    module: str
    """Attribute of the block whose output is the layer's."""
    streams: int = 1
    """How many streams of tokens it takes and gives: 2 for joint attention over video and text."""
    parts: tuple[str, ...] = ()
    """Attributes of the block that run before ``module`` and only for it, in any order."""
    text: bool = False
    """Whether its tokens are the text's."""


DUAL = (
    Sublayer("attention", "attn", streams=2),
    Sublayer("feed_forward", "ff"),
    Sublayer("feed_forward", "ff_context", text=True),
)
"""A dual-stream block."""

SINGLE = (
    Sublayer("single_attention", "attn", streams=2),
    Sublayer("single", "proj_out", parts=("proj_mlp", "attn")),
)
"""A single-stream block, whose attention and feed-forward layer share an output projection."""

CROSS = (
    Sublayer("attention", "attn1"),
    Sublayer("cross_attention", "attn2"),
    Sublayer("feed_forward", "ffn"),
)
"""A block with the text in cross attention."""
