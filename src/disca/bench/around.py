"""What a pipeline does around its sampling loop: it encodes prompts, and decodes latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from disca.bench.cost import default_dtype, draw_fake
from disca.bench.encoders import encoders_of
from disca.bench.loops import Sampled, built
from disca.bench.operations import Cost, Counting
from disca.bench.sizes import Size
from disca.hooks import stand_in
from disca.metrics.memory import PeakTensors, cuda_gauge
from disca.metrics.timers import seconds_of

TEXT = "text_encoders"
"""One prompt through all of the pipeline's text encoders."""
DECODE = "vae"
"""One clip's latents to pixels."""
STAGES = (TEXT, DECODE)
REPEATS = 3


def whole(loop: float, text: float, vae: float, *, passes: int = 1) -> float:
    """From prompt to pixels: each of a step's ``passes`` has a prompt of its own, and ``text`` is what one takes."""
    return passes * text + loop + vae


Build = Callable[[Callable[[], Any], torch.dtype], Any]
"""``build(make, dtype)``: what ``make()`` makes, where and as it is wanted."""
Draw = Callable[..., Tensor]
"""``draw(dtype, *shape)``."""


@dataclass(frozen=True)
class Stage:
    """A stage of a pipeline, built."""

    modules: tuple[nn.Module, ...]
    work: Callable[[], tuple[Tensor, ...]]
    """Does it once, on inputs drawn for it; gives what the pipeline goes on with."""
    repeated: tuple[nn.Module, ...] = ()
    """Parts that it calls many times with tensors of few shapes, and that remember nothing."""


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """What a stage takes."""

    cost: Cost
    parameter_bytes: int
    tensor_bytes: int
    """The most bytes of tensors that are alive at once, beside the weights; without an operation's own scratch."""

    @property
    def peak_bytes(self) -> int:
        """Of memory, where nothing else is there."""
        return self.parameter_bytes + self.tensor_bytes


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A stage of a host's stock pipeline at one size."""

    name: str
    """One of ``STAGES``."""
    host: str
    size: Size
    dtype: torch.dtype = torch.bfloat16
    small: bool = False
    """With encoders that a test can afford."""

    def build(self, build: Build, draw: Draw, device: torch.device) -> Stage:
        """The stage, with random weights.

        Raises:
            ValueError: a family without a row in ``ENCODERS``.
        """
        return self._text(build, device) if self.name == TEXT else self._vae(build, draw)

    def _text(self, build: Build, device: torch.device) -> Stage:
        rows = encoders_of(self.host).text
        models = tuple(build(partial(row.make, self.small), self.dtype) for row in rows)
        pairs = list(zip(rows, models, strict=True))
        return Stage(models, lambda: tuple(row.encode(model, device) for row, model in pairs))

    def _vae(self, build: Build, draw: Draw) -> Stage:
        row = encoders_of(self.host).vae
        dtype = row.dtype or self.dtype
        vae = build(partial(row.make, self.small), dtype)
        shape = row.latents(vae, self.size)
        return Stage(
            (vae,),
            lambda: tuple(vae.decode(draw(dtype, *shape), return_dict=False)),
            (vae.decoder,) if row.tiled else (),
        )


@torch.no_grad()
def cost_of_stage(plan: Plan) -> StageCost:
    """Counted by running the real classes on tensors that have shapes and no data."""
    fake = FakeTensorMode(allow_non_fake_inputs=True)

    def build(make: Callable[[], Any], dtype: torch.dtype) -> Any:
        with fake, default_dtype(dtype):
            return make().eval()

    stage = plan.build(build, partial(draw_fake, fake), torch.device("cpu"))
    with PeakTensors() as alive, Counting(fake) as counting, ExitStack() as undo:
        for module in stage.repeated:
            undo.callback(stand_in(module, _Once(fake, counting, alive), "disca_once"))
        stage.work()
    weights = {id(one): one for module in stage.modules for one in module.parameters()}  # some are shared
    held = sum(one.numel() * one.element_size() for one in weights.values())
    return StageCost(cost=counting.cost, parameter_bytes=held, tensor_bytes=alive.peak)


@dataclass
class _Once:
    """Stands in for a module and runs it once for each shape that it is given: tiles are many, their shapes few."""

    fake: FakeTensorMode
    counting: Counting
    alive: PeakTensors
    seen: dict[torch.Size, tuple[Cost, int, torch.Size]] = field(default_factory=dict)

    def __call__(self, forward: Callable[..., Tensor], args: tuple[Tensor, ...], kwargs: Mapping[str, Any]) -> Tensor:
        (tile,) = args
        if tile.shape not in self.seen:
            self.seen[tile.shape] = self._count(forward, tile)
        cost, most, shape = self.seen[tile.shape]
        self.counting.cost += cost
        self.alive.peak = max(self.alive.peak, self.alive.live + most)
        return tile.new_empty(shape)

    def _count(self, forward: Callable[..., Tensor], tile: Tensor) -> tuple[Cost, int, torch.Size]:
        before = self.counting.cost
        with PeakTensors() as alive, Counting(self.fake) as counting:
            made = forward(tile)
        self.counting.cost = before
        return counting.cost, alive.peak, made.shape


@torch.no_grad()
def measured(plan: Plan, device: torch.device) -> Sampled:
    """Seconds of each of some repetitions after one that warms up, and the most memory with the weights in it."""
    generator = torch.Generator(device).manual_seed(0)

    def draw(dtype: torch.dtype, *shape: int) -> Tensor:
        return torch.randn(shape, device=device, dtype=dtype, generator=generator)

    stage = plan.build(lambda make, dtype: built(make, device, dtype), draw, device)
    finite = all(bool(one.isfinite().all()) for one in stage.work())
    gauge = cuda_gauge() if device.type == "cuda" else None
    calls = seconds_of(stage.work, device, repeats=REPEATS, warmup=0)
    return Sampled(calls=calls, peak_bytes=gauge() if gauge else None, finite=finite)
