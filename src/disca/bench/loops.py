"""Transformers of any size with random weights, and sampling loops over them that say how long each call took."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import signature
from itertools import pairwise
from time import perf_counter
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from disca.adapters import adapter_for
from disca.bench.cost import default_dtype
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
    def sample(self, size: Size, steps: int) -> Sampled:
        """One run of ``steps`` steps in one branch, from noise drawn for it; the model's inputs change with each step.
        Each call says where it is as pipelines do, by ``cache_context``."""
        inputs, scheduler = self.inputs(size), self.scheduler
        scheduler.set_timesteps(steps, device=self.device)
        scheduler.set_begin_index(0)
        timesteps, sigmas = scheduler.timesteps.tolist(), scheduler.sigmas.tolist()
        x = inputs.arguments["hidden_states"].clone()
        told = "kwargs" in signature(self.transformer.cache_context).parameters  # since diffusers 0.42
        self._reset_peak()
        laps = Laps(self.device)
        laps.mark()
        for step, exact in enumerate(scheduler.timesteps):
            place = {"step_index": step, "sigma": sigmas[step], "num_inference_steps": steps}
            with self.transformer.cache_context("cond", **(place if told else {})):
                velocity = self.transformer(**{**inputs.at(timesteps[step]), "hidden_states": x})[0]
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


WAITS = {
    "cuda": ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize"),
    "cpu": ("aten::_local_scalar_dense",),
}
"""What the profiler calls it where the processor waits for a device; on a processor, reads that would wait, but for
``tolist``, which is none of its operations there."""


def waits(work: Callable[[], object], device: torch.device) -> int:
    """How often the processor waits for the device in some work, by torch's profiler."""
    kinds = torch.profiler.ProfilerActivity
    activities = [kinds.CPU, kinds.CUDA] if device.type == "cuda" else [kinds.CPU]
    with torch.profiler.profile(activities=activities) as profiler:
        work()
    return sum(one.count for one in profiler.key_averages() if one.key in WAITS[device.type])


def built(build: Callable[[], Any], device: torch.device, dtype: torch.dtype) -> Any:
    """A module with the random weights that its class gives it, made on the device in its dtype: a large model has no
    room for a moment in float32. What its class keeps in float32 when it is loaded is in float32."""
    with default_dtype(dtype), torch.device(device):
        module = build()
    strict = getattr(module, "_keep_in_fp32_modules_strict", None)  # transformers means float16 alone by the other
    kept = set(module._keep_in_fp32_modules or ()) if strict is None else set(strict)
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if kept & set(name.split(".")):
            value.data = value.data.float()
    return module.eval().requires_grad_(False)
