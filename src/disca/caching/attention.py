"""How strongly tokens attend and are attended to, seen in the attention kernel that a layer calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from disca.adapters import Adapter
from disca.features import Features

CHUNK = 1024
"""Queries whose attention is held at once."""


@dataclass
class AttentionSeen:
    """What the attention layers of one block were seen to compute in the call under way, for one stream of tokens."""

    adapter: Adapter
    text: bool = False
    kernels: dict[str, tuple[Tensor, Tensor, Tensor | None]] = field(default_factory=dict)
    """Query, key and mask ``[batch, heads, tokens, width]`` by kind of attention."""
    fallbacks: dict[str, Callable[[], Features]] = field(default_factory=dict)

    @contextmanager
    def watching(self, kind: str, value_norms: Callable[[], Features]) -> Iterator[None]:
        """An attention layer runs inside."""
        self.fallbacks[kind] = value_norms
        with _Kernel() as kernel:
            yield
        if kernel.seen is not None:
            self.kernels[kind] = kernel.seen

    def clear(self) -> None:
        """Let go of it."""
        self.kernels, self.fallbacks = {}, {}

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of attention that ran."""
        return tuple(self.fallbacks)

    def received(self, tokens: int) -> Tensor | None:
        """Column sums of the attention map, averaged over heads: how strongly others attend to each of our ``tokens``
        ``[batch, tokens]``. None where the kernel showed no weights."""
        if "attention" not in self.kernels:
            return None
        query, key, mask = self.kernels["attention"]
        sums = key.new_zeros(key.shape[0], key.shape[2], dtype=torch.float32)
        for start in range(0, query.shape[2], CHUNK):
            sums += _weights(query, key, mask, start).mean(1).sum(1)
        return self._ours(sums, tokens)

    def spread(self, tokens: int) -> Tensor | None:
        """Entropy of each token's attention over the text ``[batch, tokens]``; None without cross attention."""
        if "cross_attention" not in self.kernels:
            return None
        query, key, mask = self.kernels["cross_attention"]
        rows = []
        for start in range(0, query.shape[2], CHUNK):
            weights = _weights(query, key, mask, start).mean(1)
            rows.append(torch.special.entr(weights).sum(-1))
        return self._ours(torch.cat(rows, dim=1), tokens)

    def value_norms(self, tokens: int) -> Tensor:
        """Sum over heads of one minus the norm of the value, ``[batch, tokens]``; needs no attention weights."""
        norms = self.fallbacks["attention"]()
        own = norms[1] if self.text and len(norms) == 2 else norms[0]
        return own if own.shape[1] == tokens else self._ours(torch.cat(self._ordered(norms), dim=1), tokens)

    def _ordered(self, streams: Features) -> Features:
        return streams[::-1] if self.adapter.attends_context_first else streams

    def _ours(self, scores: Tensor, tokens: int) -> Tensor:
        """The scores of our stream, among those of joint attention."""
        first = self.text == self.adapter.attends_context_first
        return scores[:, :tokens] if first else scores[:, -tokens:]


def value_norms(attention: Any, given: Features) -> Features:
    """Sum over heads of one minus the norm of the value, of each stream ``[batch, tokens]``.

    Raises:
        ValueError: the layer has no projection of its own for the values.
    """
    projections = [getattr(attention, name, None) for name in ("to_v", "add_v_proj")]
    if projections[0] is None:
        raise ValueError(f"{type(attention).__name__} has no to_v. Unfuse its projections, or choose score='random'.")
    apply: list[nn.Module] = [projections[0], projections[1] or projections[0]]
    values = [layer(tokens).unflatten(-1, (attention.heads, -1)) for layer, tokens in zip(apply, given, strict=False)]
    return tuple((1 - value.float().norm(dim=-1)).sum(-1) for value in values)


def _weights(query: Tensor, key: Tensor, mask: Tensor | None, start: int) -> Tensor:
    """Attention of a chunk of queries, ``[batch, heads, chunk, keys]`` in float32."""
    rows = slice(start, start + CHUNK)
    logits = query[:, :, rows].float() @ key.float().transpose(-1, -2) / sqrt(query.shape[-1])
    if mask is not None:
        chunk = mask[..., rows, :] if mask.dim() > 1 and mask.shape[-2] > 1 else mask
        logits = logits.masked_fill(~chunk, float("-inf")) if chunk.dtype == torch.bool else logits + chunk
    return logits.softmax(-1).nan_to_num()


class _Kernel(TorchFunctionMode):
    """Sees the arguments of torch's attention kernel when it is called inside."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: tuple[Tensor, Tensor, Tensor | None] | None = None

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is F.scaled_dot_product_attention:
            named = dict(zip(("query", "key", "value", "attn_mask"), args, strict=False)) | (kwargs or {})
            self.seen = (named["query"].detach(), named["key"].detach(), named.get("attn_mask"))
        return function(*args, **(kwargs or {}))
