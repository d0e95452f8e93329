"""Transformers of any size with random weights, and sampling loops over them that say how long each call took."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from time import perf_counter
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from disca.adapters import adapter_for
from disca.bench.sizes import Inputs, Size, inputs_of


@dataclass
class Laps:
    """Moments on a device, left in its stream without waiting for it."""

    device: torch.device
    marks: list[Any] = field(default_factory=list)

    def mark(self) -> None:
        """Now."""
        if self.device.type != "cuda":
            self.marks.append(perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        self.marks.append(event)

    def seconds(self) -> list[float]:
        """Between one mark and the next."""
        if self.device.type != "cuda":
            return [end - start for start, end in pairwise(self.marks)]
        self.marks[-1].synchronize()
        return [start.elapsed_time(end) / 1000 for start, end in pairwise(self.marks)]


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """What one sampling run took."""

    calls: list[float]
    """Seconds of each step: a call of the transformer and a step of the scheduler."""
    peak_bytes: int | None
    """The most memory that was allocated meanwhile, on a CUDA device."""
    finite: bool

    @property
    def seconds(self) -> float:
        return sum(self.calls)


class Sampler:
    """As little of a pipeline as a run can be attached to: a transformer of random weights, and a scheduler."""

    def __init__(self, host: str, config: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> None:
        import diffusers

        self.device, self.dtype = device, dtype
        self.transformer = built(lambda: getattr(diffusers, host).from_config(dict(config)), device, dtype)
        self.scheduler = FlowMatchEulerDiscreteScheduler(shift=5.0)
        self.random = torch.Generator(device).manual_seed(0)

    def inputs(self, size: Size) -> Inputs:
        """Arguments for a clip, drawn anew each time, on the sampler's device."""
        adapter, config = adapter_for(self.transformer), self.transformer.config
        found = inputs_of(adapter, config, size, self._draw)
        moved = {n: v.to(self.device) if isinstance(v, Tensor) else v for n, v in found.arguments.items()}
        return Inputs(found.adapter, found.feed, found.grid, moved)

    @torch.no_grad()
    def sample(
        self, size: Size, steps: int, *, within: Callable[[], AbstractContextManager[Any]] = nullcontext
    ) -> Sampled:
        """One run of ``steps`` steps in one branch, from noise drawn for it; the model's inputs change with each step.
        Each call is made inside of ``within()``."""
        inputs, scheduler = self.inputs(size), self.scheduler
        scheduler.set_timesteps(steps, device=self.device)
        scheduler.set_begin_index(0)
        timesteps, x = scheduler.timesteps.tolist(), inputs.arguments["hidden_states"].clone()
        self._reset_peak()
        laps = Laps(self.device)
        laps.mark()
        for timestep, exact in zip(timesteps, scheduler.timesteps, strict=True):
            with within():
                velocity = self.transformer(**{**inputs.at(timestep), "hidden_states": x})[0]
            x = x.clone()  # a graph may hold the other one
            channels = velocity.shape[1]
            x[:, :channels] = scheduler.step(velocity, exact, x[:, :channels], return_dict=False)[0]
            laps.mark()
        return Sampled(calls=laps.seconds(), peak_bytes=self._peak(), finite=bool(x.isfinite().all()))

    def _draw(self, *shape: int) -> Tensor:
        return torch.randn(shape, device=self.device, dtype=self.dtype, generator=self.random)

    def _reset_peak(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def _peak(self) -> int | None:
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None


def built(build: Callable[[], Any], device: torch.device, dtype: torch.dtype) -> Any:
    """A module with the random weights that its class gives it, made on the device in its dtype: a large model has no
    room for a moment in float32. What its class keeps in float32 when it is loaded is in float32."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            module = build()
    finally:
        torch.set_default_dtype(before)
    kept = set(module._keep_in_fp32_modules or ())
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if kept & set(name.split(".")):
            value.data = value.data.float()
    return module.eval().requires_grad_(False)
