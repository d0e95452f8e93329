"""Counts operations and bytes of what runs on torch's fake tensors, which have shapes and no data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry

MOST_REAL = 1 << 13
"""Elements of the largest tensor that keeps its data."""

_FREE = {
    getattr(torch.ops.aten, name) for name in ("empty", "new_empty", "empty_like", "empty_strided", "_unsafe_view")
}
_READ = {torch.ops.aten.eq, torch.ops.aten.all}  # HunyuanVideo-1.5 looks whether its picture is all zeros


@dataclass(frozen=True)
class Cost:
    """What some work takes."""

    flops: int = 0
    """Floating-point operations of matrix products, convolutions and attention, a multiply-add counting as two."""
    bytes: int = 0
    """Bytes that its operations read and write one by one, as they do where nothing is compiled; attention is one."""
    attention: int = 0
    """The part of ``flops`` that is attention's."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, self.bytes + other.bytes, self.attention + other.attention)

    def __mul__(self, count: int) -> Cost:
        return Cost(count * self.flops, count * self.bytes, count * self.attention)

    __rmul__ = __mul__


def flops(cost: Cost) -> float:
    """The operations of some work, in the place of its seconds."""
    return cost.flops


class Counting:
    """Adds up the cost of what runs inside a ``with`` block."""

    def __init__(self, fake: FakeTensorMode) -> None:
        self.cost = Cost()
        self._modes = (_Attention(self), _Operations(self, fake))

    def __enter__(self) -> Counting:
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)


class _Attention(TorchFunctionMode):
    """Attention as one operation, whatever its kernel. Its result has a shape only, and so has what is made of it."""

    def __init__(self, counting: Counting) -> None:
        self._counting = counting

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention or not isinstance(
            args[0] if args else kwargs["query"], FakeTensor
        ):
            return func(*args, **kwargs)
        named = {**dict(zip(("query", "key", "value", "attn_mask"), args, strict=False)), **kwargs}
        query, key, value = named["query"], named["key"], named["value"]
        *batch, heads, queries, _ = query.shape
        attended = query.new_empty(*batch, queries, heads, value.shape[-1]).transpose(-3, -2)
        flops = 2 * query.numel() * key.shape[-2] + 2 * attended.numel() * key.shape[-2]
        moved = sum(map(_bytes, (query, key, value, named.get("attn_mask"), attended)))
        self._counting.cost += Cost(flops, moved, flops)
        return attended


class _Operations(TorchDispatchMode):
    """Everything else."""

    def __init__(self, counting: Counting, fake: FakeTensorMode) -> None:
        super().__init__()
        self._counting, self._fake = counting, fake

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.index.Tensor:
            args = (args[0], [_counted(index) for index in args[1]])
        kwargs = dict(kwargs or {})
        if func._overloadpacket not in _READ:
            args, kwargs = tree_map_only(Tensor, self._without_data, (args, kwargs))
        result = func(*args, **kwargs)
        if not _moves_nothing(func):
            formula = flop_registry.get(func._overloadpacket)
            flops = formula(*args, **kwargs, out_val=result) if formula else 0
            self._counting.cost += Cost(flops, sum(map(_bytes, tree_leaves((args, kwargs, result)))))
        return result

    def _without_data(self, tensor: Tensor) -> Tensor:
        """What is real stays so only while it is small, such as a text's mask; the mask of a video grows out of it."""
        small = tensor.numel() <= MOST_REAL or isinstance(tensor, FakeTensor)
        return tensor if small else self._fake.from_tensor(tensor, static_shapes=True)


def _counted(index: Tensor | None) -> Tensor | None:
    """Indices instead of a mask: how many there are has to be known."""
    if index is None or index.dtype != torch.bool or isinstance(index, FakeTensor):
        return index
    (places,) = index.nonzero(as_tuple=True)
    return places


def _moves_nothing(func: Any) -> bool:
    """Whether an operation gives a view of what it was given, or memory with nothing in it."""
    returned = [one.alias_info for one in func._schema.returns]
    view = any(alias is not None and not alias.is_write for alias in returned)
    return view or func.namespace == "prim" or func._overloadpacket in _FREE


def _bytes(value: Any) -> int:
    """Of a tensor's data, each datum once."""
    if not isinstance(value, Tensor):
        return 0
    lengths = (length for length, stride in zip(value.shape, value.stride(), strict=True) if stride)
    return prod(lengths) * value.element_size()
