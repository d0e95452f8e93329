"""A host whose trunk is computed or forecast as training asks for it, at any times, one for each sample."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from disca.adapters import adapter_for
from disca.caching.experts import experts_of
from disca.caching.gates import Gate
from disca.caching.learned import Learned, Past
from disca.caching.policy import Rule
from disca.caching.run import Run
from disca.caching.sites import Trunk
from disca.features import Call, Features, Moment
from disca.training.host import AnyHost, Guided


@dataclass
class _Asked:
    """What training asks for, which is the clock, the gate and the ear of a run in one. A run counts evaluations as its
    steps; each is full or forecast as it was asked, and the tokens of each branch are heard."""

    evaluation: int = -1
    full: bool = True
    t: float | Tensor = 1.0
    tokens: tuple[Features, ...] = ()
    run: object = None

    def moment(self, timestep: Any = None) -> Moment:
        return Moment(step=self.evaluation, steps=1 << 30, t=1.0, r=0.0)


@dataclass(frozen=True)
class _WhenAsked(Gate):
    asked: _Asked

    def opens(self, memory: Any, moment: Moment, call: Call) -> bool:
        return self.asked.full

    def __hash__(self) -> int:
        return id(self.asked)


@dataclass(frozen=True)
class _Heard(Learned):
    asked: _Asked

    def time(self, moment: Moment) -> float | Tensor:
        return self.asked.t

    def predict(self, memory: Past, moment: Moment, call: Call) -> Features:
        tokens = super().predict(memory, moment, call)
        self.asked.tokens += (tokens,)
        return tokens


class Asking:
    """Velocities of a host, each with its trunk computed in full or forecast from the last one kept. ``tokens`` holds
    what came out of the trunk in the last evaluation, for each pass of guidance."""

    def __init__(self, host: AnyHost, run: Run, asked: _Asked, ends: Ends) -> None:
        self._host, self._run, self._asked, self._ends = host, run, asked, ends

    @property
    def tokens(self) -> tuple[Features, ...]:
        return self._asked.tokens

    @torch.no_grad()
    def full(self, x: Tensor, t: Tensor, r: Tensor, *, keep: bool = True) -> Tensor:
        """The velocity, from all blocks; what they gave is kept for forecasts, unless it is only asked for."""
        if keep:
            return self._evaluate(x, t, r, full=True)
        with self._run.aside(), self._ends.heard() as tokens:
            velocity = self._host(x, t, r)
        self._asked.tokens = tuple(tokens)
        return velocity

    def forecast(self, x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        """The velocity, from the predictor; it carries a gradient where that is on."""
        return self._evaluate(x, t, r, full=False)

    def _evaluate(self, x: Tensor, t: Tensor, r: Tensor, *, full: bool) -> Tensor:
        asked = self._asked
        asked.evaluation, asked.full, asked.t, asked.tokens = asked.evaluation + 1, full, t, ()
        return self._host(x, t, r)


class Ends:
    """Hears what the host's last block gives."""

    def __init__(self, host: AnyHost) -> None:
        self._adapter = adapter_for(host.transformer)
        self._last = self._adapter.blocks(host.transformer)[-1]

    @contextmanager
    def heard(self) -> Iterator[list[Features]]:
        tokens: list[Features] = []
        hook = self._last.register_forward_hook(
            lambda block, args, returned: tokens.append(self._adapter.features(returned))
        )
        try:
            yield tokens
        finally:
            hook.remove()


@contextmanager
def asking(host: AnyHost, predictor: Any) -> Iterator[Asking]:
    """The host's trunk under training's control inside the block; see :class:`Asking`."""
    asked = _Asked()
    policy = (Rule(where=Trunk(), when=_WhenAsked(asked), how=_Heard(predictor, asked)),)
    run = Run(experts_of(host.transformer, policy), clock=asked)
    with run.attach():
        yield Asking(host, run, asked, Ends(host))


def grid_of(transformer: Any, latents: Tensor) -> tuple[int, int, int]:
    """Frames, rows and columns of the video tokens of latents ``[batch, channels, frames, height, width]``.

    Raises:
        ValueError: the configuration does not say how latents become tokens.
    """
    patch, config = transformer.config.get("patch_size"), transformer.config
    if patch is None:
        raise ValueError(
            f"{type(transformer).__name__} has no patch_size in its configuration, so its tokens have no place."
        )
    sizes = tuple(patch) if isinstance(patch, (tuple, list)) else (config.get("patch_size_t") or 1, patch, patch)
    frames, height, width = (have // size for have, size in zip(latents.shape[2:], sizes, strict=True))
    return frames, height, width


class _Enough(Exception):
    """The deepest layer that is listened to has answered."""


def frozen_features(
    host: AnyHost, x: Tensor, t: Tensor, r: Tensor, depths: tuple[float, ...], *, stop: bool = True
) -> list[Tensor]:
    """Video tokens after the blocks at some shares of the depth, ``[batch, width, frames, height, width]`` each. The
    gradient goes through the blocks to ``x``. Blocks behind the deepest do not run, unless ``stop`` is off, as it has
    to be where an engine counts on forwards that end."""
    one = host.conditional if isinstance(host, Guided) else host
    adapter = adapter_for(one.transformer)
    blocks: list[nn.Module] = adapter.blocks(one.transformer)
    places = sorted({min(int(depth * len(blocks)), len(blocks) - 1) for depth in depths})
    found: list[Tensor] = []

    def hear(block: nn.Module, args: Any, returned: Any) -> None:
        hidden = adapter.features(returned)[0]
        found.append(hidden.transpose(1, 2).unflatten(2, grid_of(one.transformer, x)))
        if stop and len(found) == len(places):
            raise _Enough

    handles = [blocks[place].register_forward_hook(hear) for place in places]
    try:
        one(x, t, r)
    except _Enough:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return found
