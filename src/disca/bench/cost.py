"""Floating-point operations and bytes of a host's steps, from its configuration alone.

The real classes run under torch's fake tensors, which have shapes and no data. So whatever a step does is counted,
for any host and policy, and 60 blocks at 64 000 tokens take seconds and no memory. What is small and has to be read
(times, masks, indices) is real.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from disca.adapters import ADAPTERS, adapter_for
from disca.bench.operations import Cost, Counting
from disca.bench.sizes import Inputs, Size, inputs_of
from disca.caching.methods import disca
from disca.caching.policy import Policy
from disca.caching.run import attach
from disca.errors import unknown
from disca.metrics.memory import PeakTensors
from disca.predictor.network import Predictor
from disca.schedules import Schedule

STEPS, PASSES = 50, 2  # of the base models that papers compare with


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
    extra_bytes: int
    """How many bytes of tensors more are alive at once than in the first step, which is the plain model's."""
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


@torch.no_grad()
def cost_of(
    host: str,
    config: Mapping[str, Any],
    size: Size,
    *,
    policy: Callable[[nn.Module], Policy] | None = None,
    steps: int = 2,
    depth: int = 2,
    text: int | None = None,
    dtype: torch.dtype = torch.bfloat16,
) -> HostCost:
    """The cost of a host's full and forecast steps.

    Args:
        host: class of the transformer, one of diffusers.
        config: its configuration; what it leaves out is the default of the class.
        policy: from the host to what is attached to it; by default DisCa, with a predictor of ``depth`` blocks.
        steps: as many as it takes for the policy to forecast one, and to keep as much as it ever does.
        text: text tokens; by default as many as the stock pipeline hands over.

    Raises:
        ValueError: a host that nobody described, or a size that it cannot have.
    """
    fake, transformer, predictor = fake_host(host, config, dtype, None if policy else depth)
    inputs = inputs_of(adapter_for(transformer), transformer.config, size, partial(draw_fake, fake, dtype), text)
    rules = policy(transformer) if policy else disca(cast(Predictor, predictor), full_steps=(0,))
    costs, held, extra, tokens = _counted_steps(transformer, rules, inputs, fake, steps)
    return HostCost(
        **costs,
        parameter_bytes=_parameter_bytes(transformer),
        predictor_bytes=_parameter_bytes(predictor) if predictor else 0,
        cache_bytes=held,
        extra_bytes=extra,
        tokens=tokens,
    )


def fake_host(
    host: str, config: Mapping[str, Any], dtype: torch.dtype, depth: int | None
) -> tuple[FakeTensorMode, Any, Predictor | None]:
    """A host without data, its mode, and a predictor of ``depth`` blocks for it where that is given.

    Raises:
        ValueError: a host that nobody described.
    """
    import diffusers

    if host not in ADAPTERS or not hasattr(diffusers, host):
        raise ValueError(f"{unknown('host', host, ADAPTERS)} Only described classes of diffusers have costs.")
    build = getattr(diffusers, host).from_config
    layout = None if depth is None else _layout(build, config, depth)
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with fake, default_dtype(dtype):
        transformer = build(dict(config)).eval()
        return fake, transformer, Predictor.from_config(layout).eval() if layout else None


def _layout(build: Callable[..., Any], config: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
    """Configuration of a predictor, from one on the meta device: what is made of fake tensors cannot be moved."""
    with torch.device("meta"):
        return Predictor.from_host(build(dict(config)), depth=depth).config


def _counted_steps(
    transformer: Any, policy: Policy, inputs: Inputs, fake: FakeTensorMode, steps: int
) -> tuple[dict[str, Cost], int, int, tuple[int, ...]]:
    """The cost of the last step of each kind, the most that is kept between steps, what they need more than the first
    one, and the tokens of each stream."""
    adapter, costs, seen, peaks = inputs.adapter, [], [], []
    timesteps = [adapter.timestep_at(1 - step / steps) for step in range(steps)]
    first = adapter.blocks(transformer)[0]

    def hear(block: nn.Module, args: Any, kwargs: Any) -> None:
        features, _ = adapter.received(adapter.takes(block), args, kwargs)
        seen.append(tuple(one.shape[1] for one in features))

    handle = first.register_forward_pre_hook(hear, with_kwargs=True)
    with attach(transformer, policy, timesteps=timesteps) as run, PeakTensors() as alive:
        for timestep in timesteps:
            alive.peak = alive.live
            with Counting(fake) as counting:
                transformer(**inputs.at(timestep))
            costs.append(counting.cost)
            peaks.append(alive.peak)
        summary = run.summary()
    handle.remove()
    (branch,) = summary.branches.values()
    if not branch.forecast:
        raise ValueError(f"This policy forecasts none of the first {steps} steps. Give more steps, or another policy.")
    last = {"full": costs[branch.full[-1]], "forecast": costs[branch.forecast[-1]]}
    return last, summary.bytes_held, max(peaks) - peaks[0], seen[0]


def draw_fake(fake: FakeTensorMode, dtype: torch.dtype, *shape: int) -> Tensor:
    """A tensor without data."""
    with fake:
        return torch.empty(shape, dtype=dtype)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Within the block, what is made without a dtype has this one."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _parameter_bytes(module: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())
