"""Floating-point operations and bytes of a host's steps, from its configuration alone.

The real classes run under torch's fake tensors, which have shapes and no data. So whatever a step does is counted,
for any host and policy, and 60 blocks at 64 000 tokens take seconds and no memory. What is small and has to be read
(times, masks, indices) is real.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry

from disca.adapters import ADAPTERS, adapter_for
from disca.bench.sizes import Inputs, Size, inputs_of
from disca.caching.methods import disca
from disca.caching.policy import Policy
from disca.caching.run import attach
from disca.errors import unknown
from disca.predictor.network import Predictor
from disca.schedules import Schedule

STEPS, PASSES = 50, 2  # of the base models that papers compare with

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


@dataclass(frozen=True, kw_only=True)
class HostCost:
    """A host under a policy at one size: of one sample in one branch."""

    full: Cost
    """One call with the trunk computed."""
    forecast: Cost
    """One call with the trunk forecast, or without what the policy spares."""
    parameter_bytes: int
    predictor_bytes: int
    cache_bytes: int
    """What is kept alive between steps."""
    tokens: tuple[int, ...]
    """Of each stream of features: video, and text where the trunk returns it."""

    def run(self, schedule: Schedule, passes: int = 1) -> Cost:
        """All calls of a sampling run, ``passes`` of them for each step."""
        full = len(schedule.full_steps)
        return (full * self.full + (schedule.steps - full) * self.forecast) * passes

    def speedup(
        self, schedule: Schedule, seconds: Callable[[Cost], float], *, passes: int = 1, over: int = STEPS * PASSES
    ) -> float:
        """How many times less a schedule takes than ``over`` full calls; the default is 50 steps of two passes, what a
        base model under classifier-free guidance takes. ``seconds`` of a cost are :meth:`Machine.seconds`, or
        :func:`flops` for the bound that operations alone give."""
        return over * seconds(self.full) / seconds(self.run(schedule, passes))


def flops(cost: Cost) -> float:
    """The operations of some work, in the place of its seconds."""
    return cost.flops


@torch.no_grad()
def cost_of(
    host: str,
    config: Mapping[str, Any],
    size: Size,
    *,
    policy: Callable[[nn.Module], Policy] | None = None,
    depth: int = 2,
    text: int | None = None,
    dtype: torch.dtype = torch.bfloat16,
) -> HostCost:
    """The cost of a host's full and forecast steps.

    Args:
        host: class of the transformer, one of diffusers.
        config: its configuration; what it leaves out is the default of the class.
        policy: from the host to what is attached to it, which has to compute the first of two steps in full and to
            forecast in the second; by default DisCa, with a predictor of ``depth`` blocks.
        text: text tokens; by default as many as the stock pipeline hands over.

    Raises:
        ValueError: a host that nobody described, or a size that it cannot have.
    """
    import diffusers

    if host not in ADAPTERS or not hasattr(diffusers, host):
        raise ValueError(f"{unknown('host', host, ADAPTERS)} Only described classes of diffusers have costs.")
    build = getattr(diffusers, host).from_config
    layout = None if policy else _layout(build, config, depth)
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with fake, _default(dtype):
        transformer = build(dict(config)).eval()
        predictor = Predictor.from_config(layout).eval() if layout else None
    inputs = inputs_of(adapter_for(transformer), transformer.config, size, partial(_draw, fake, dtype), text)
    rules = policy(transformer) if policy else disca(cast(Predictor, predictor), full_steps=(0,))
    calls, held, tokens = _two_steps(transformer, rules, inputs, fake)
    return HostCost(
        full=calls[0],
        forecast=calls[1],
        parameter_bytes=_parameter_bytes(transformer),
        predictor_bytes=_parameter_bytes(predictor) if predictor else 0,
        cache_bytes=held,
        tokens=tokens,
    )


def _layout(build: Callable[..., Any], config: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
    """Configuration of a predictor, from one on the meta device: what is made of fake tensors cannot be moved."""
    with torch.device("meta"):
        return Predictor.from_host(build(dict(config)), depth=depth).config


def _two_steps(
    transformer: Any, policy: Policy, inputs: Inputs, fake: FakeTensorMode
) -> tuple[list[Cost], int, tuple[int, ...]]:
    """The cost of two steps, the bytes kept between them, and the tokens of each stream."""
    adapter, seen, costs = inputs.adapter, [], []
    steps = [adapter.timestep_at(time) for time in (1.0, 0.5)]
    first = adapter.blocks(transformer)[0]

    def hear(block: nn.Module, args: Any, kwargs: Any) -> None:
        seen.append(tuple(one.shape[1] for one in adapter.inputs(adapter.bind(block, args, kwargs))))

    handle = first.register_forward_pre_hook(hear, with_kwargs=True)
    with attach(transformer, policy, timesteps=steps) as run:
        for timestep in steps:
            with Counting(fake) as counting:
                transformer(**inputs.at(timestep))
            costs.append(counting.cost)
        held = run.summary().bytes_held
    handle.remove()
    return costs, held, seen[0]


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


def _draw(fake: FakeTensorMode, dtype: torch.dtype, *shape: int) -> Tensor:
    with fake:
        return torch.empty(shape, dtype=dtype)


@contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _parameter_bytes(module: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())
