"""Exact attention in blocks of queries, for derivatives of long sequences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


def chunked_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    *,
    scale: float | None = None,
    chunk: int = 256,
) -> Tensor:
    """Softmax attention ``[..., tokens, width]`` a block of ``chunk`` queries at a time, from plain operations.

    The score matrix of a block alone is alive, with its tangent under forward-mode differentiation, so memory grows
    with the number of tokens and not with its square. A mask is boolean (true takes part) or added to the scores.
    """
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    tokens, keys = query.shape[-2], key.transpose(-1, -2)
    blocks = []
    for start in range(0, tokens, chunk):
        scores = (query[..., start : start + chunk, :] * scale) @ keys
        if attn_mask is not None:
            part = attn_mask if attn_mask.shape[-2] == 1 else attn_mask[..., start : start + chunk, :]
            scores = scores.masked_fill(~part, -math.inf) if part.dtype == torch.bool else scores + part
        blocks.append(scores.softmax(-1) @ value)
    return torch.cat(blocks, -2)


class _Chunked(TorchFunctionMode):
    """Answers calls of torch's attention with :func:`chunked_attention`."""

    def __init__(self, chunk: int) -> None:
        super().__init__()
        self.chunk = chunk

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, key, value, *rest = (*args, *_named(kwargs or {}, len(args)))
        mask, dropout, causal, scale, grouped = rest
        if dropout or causal or grouped:
            raise ValueError("Attention with dropout, a causal mask or grouped heads cannot be taken in chunks here.")
        return chunked_attention(query, key, value, mask, scale=scale, chunk=self.chunk)


_ORDER: tuple[tuple[str, Any], ...] = (
    ("query", None),
    ("key", None),
    ("value", None),
    ("attn_mask", None),
    ("dropout_p", 0.0),
    ("is_causal", False),
    ("scale", None),
    ("enable_gqa", False),
)


def _named(kwargs: dict[str, Any], placed: int) -> list[Any]:
    return [kwargs.get(name, default) for name, default in _ORDER[placed:]]


@contextmanager
def in_chunks(chunk: int = 256) -> Iterator[None]:
    """Inside, ``scaled_dot_product_attention`` is computed by :func:`chunked_attention` where it is called by itself,
    as diffusers does, and not from within another function of torch (``nn.MultiheadAttention``).

    Raises:
        ValueError: a chunk of no queries.
    """
    if chunk < 1:
        raise ValueError(f"Attention is taken in chunks of at least one query, not {chunk}.")
    with _Chunked(chunk):
        yield
