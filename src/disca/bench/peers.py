"""Other libraries' caches, driven through their public interfaces."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import groupby
from typing import Any

import torch
from torch import nn

from disca.adapters import adapter_for
from disca.bench.models import Model
from disca.caching.summary import Steps, Summary
from disca.errors import unknown
from disca.hooks import listen


@dataclass(frozen=True)
class Peer:
    """A row of :data:`PEERS`."""

    name: str
    gated: bool
    """Whether it decides by what it sees, so that a batch would be decided for by all of its clips."""
    options: Callable[[], tuple[str, ...]]
    """Names of what it can be given."""
    enable: Callable[[Model, int, Mapping[str, Any]], Callable[[], None]]
    """Turns it on for runs of so many steps; gives what turns it off."""


@dataclass(frozen=True)
class PeerDriver:
    """A peer at work as a driver of trials."""

    peer: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @contextmanager
    def attach(self, model: Model, steps: int) -> Iterator[BlockCount]:
        """Within the block the peer is on; what it hands out counts what was computed."""
        with ExitStack() as undo:
            if model.bundle is not None and model.bundle.second_time is not None:
                undo.enter_context(model.bundle.second_time.attach(model.pipe))
            counter = undo.enter_context(BlockCount.watching(model))
            undo.callback(PEERS[self.peer].enable(model, steps, self.options))
            yield counter


class BlockCount:
    """Counts what a transformer computes, by the first linear layer in each part of each of its blocks.

    A call of the transformer is full if all of them ran in it. They are plain layers that no cache replaces, so it does
    not matter how a cache leaves out the parts around them. Branches are told apart by the order of calls in a step.
    """

    def __init__(self) -> None:
        self._ran: set[str] = set()
        self._calls: list[tuple[Any, bool]] = []
        """Timestep of each call, and whether it was full; read when all is done, since reading waits for a device."""

    @classmethod
    @contextmanager
    def watching(cls, model: Model) -> Iterator[BlockCount]:
        """Counts within the block."""
        counter = cls()
        with ExitStack() as undo:
            for transformer in model.transformers:
                undo.enter_context(counter._listening(transformer))
            yield counter

    def summary(self) -> Summary:
        """What ran since watching began."""
        calls = [[full for _, full in step] for _, step in groupby(self._calls, lambda call: _number(call[0]))]
        width = max(map(len, calls), default=0)
        branches = {}
        for branch in range(width):
            taken = [(index, step[branch]) for index, step in enumerate(calls) if branch < len(step)]
            full = tuple(index for index, whole in taken if whole)
            branches[str(branch)] = Steps(full=full, forecast=tuple(index for index, whole in taken if not whole))
        return Summary(branches=branches, seconds_full=0.0, seconds_forecast=0.0, bytes_held=0)

    @contextmanager
    def _listening(self, transformer: nn.Module) -> Iterator[None]:
        timestep, parts = adapter_for(transformer).timestep, _parts(transformer)
        with ExitStack() as undo:
            for name, part in parts.items():
                undo.callback(part.register_forward_hook(lambda *_, name=name: self._ran.add(name)).remove)
            undo.callback(listen(transformer, lambda arguments: self._begin(arguments[timestep])))
            undo.callback(transformer.register_forward_hook(lambda *_: self._end(len(parts))).remove)
            yield

    def _begin(self, timestep: Any) -> None:
        self._ran.clear()
        self._calls.append((timestep, False))

    def _end(self, parts: int) -> None:
        self._calls[-1] = (self._calls[-1][0], len(self._ran) == parts)


def _number(timestep: Any) -> float:
    return float(torch.as_tensor(timestep).max())


def _parts(transformer: nn.Module) -> dict[str, nn.Module]:
    """The first linear layer in each child of each block."""
    found: dict[str, nn.Module] = {}
    for stack in adapter_for(transformer).stacks:
        for index, block in enumerate(getattr(transformer, stack)):
            for name, child in block.named_children():
                layer = next((module for module in child.modules() if isinstance(module, nn.Linear)), None)
                if layer is not None:
                    found[f"{stack}.{index}.{name}"] = layer
    return found


def check_peer(name: str, options: Mapping[str, Any]) -> None:
    """Refuse a peer or an option that nobody knows; the message names the nearest.

    Raises:
        ValueError: it is unknown.
    """
    if name not in PEERS:
        raise ValueError(unknown("peer", name, PEERS))
    try:
        known = PEERS[name].options()
    except ImportError:
        return  # the row will say that the package is missing
    for option in options:
        if option not in known:
            raise ValueError(unknown(f"option of {name}", option, known))


Defaults = Callable[[Model, int], Mapping[str, Any]]


def _hook(name: str, defaults: Defaults = lambda model, steps: {}, *, gated: bool = False) -> Peer:
    """A cache of diffusers, by the name of its configuration in ``diffusers.hooks``."""

    def config() -> Any:
        from diffusers import hooks

        found = getattr(hooks, f"{name}Config", None)
        if found is None:
            raise ImportError(f"This diffusers has no {name}Config.")
        return found

    def enable(model: Model, steps: int, options: Mapping[str, Any]) -> Callable[[], None]:
        made = config()(**{**defaults(model, steps), **_lists(options)})
        for transformer in model.transformers:
            transformer.enable_cache(made)
        return lambda: _disable(model)

    short = "".join("_" + letter.lower() if letter.isupper() else letter for letter in name).strip("_")
    return Peer(f"diffusers.{short}", gated, lambda: _names(config()), enable)


def _disable(model: Model) -> None:
    for transformer in model.transformers:
        transformer.disable_cache()


def _dbcache() -> Peer:
    """cache-dit's DBCache, with a Taylor calibrator where ``taylorseer_order`` is given."""

    def options() -> tuple[str, ...]:
        import cache_dit

        return (*_names(cache_dit.DBCacheConfig), "taylorseer_order")

    def enable(model: Model, steps: int, given: Mapping[str, Any]) -> Callable[[], None]:
        import cache_dit

        rest = dict(given)
        order = rest.pop("taylorseer_order", None)
        calibrator = None if order is None else cache_dit.TaylorSeerCalibratorConfig(taylorseer_order=order)
        adapter = _block_adapter(cache_dit, model)
        cache_dit.enable_cache(
            adapter,
            cache_config=cache_dit.DBCacheConfig(num_inference_steps=steps, **rest),
            calibrator_config=calibrator,
        )
        return lambda: cache_dit.disable_cache(adapter)

    return Peer("cache_dit.dbcache", True, options, enable)


def _block_adapter(cache_dit: Any, model: Model) -> Any:
    """What cache-dit wants to know of a host: its lists of blocks, and what they take and give."""
    host = model.transformers[0]
    adapter = adapter_for(host)
    stacks = [name for name in adapter.stacks if len(getattr(host, name))]
    from diffusers import DiffusionPipeline

    patterns = cache_dit.ForwardPattern
    pattern = patterns.Pattern_2 if adapter.context is None else patterns.Pattern_0
    pattern = patterns.Pattern_1 if adapter.context_first else pattern
    return cache_dit.BlockAdapter(
        pipe=model.pipe if isinstance(model.pipe, DiffusionPipeline) else None,  # then it counts calls
        transformer=host,
        blocks=[getattr(host, name) for name in stacks],
        blocks_name=list(stacks),
        forward_pattern=[pattern] * len(stacks),
        has_separate_cfg=not model.student and not getattr(host.config, "guidance_embeds", False),
        check_forward_pattern=False,
    )


def _names(config: Any) -> tuple[str, ...]:
    return tuple(item.name for item in fields(config)) if is_dataclass(config) else ()


def _lists(options: Mapping[str, Any]) -> dict[str, Any]:
    """``mag_ratios`` as the tensor that diffusers wants."""
    return {name: torch.tensor(value) if name == "mag_ratios" else value for name, value in options.items()}


def _timestep(model: Model) -> int:
    """The timestep that the pipeline is at, from its scheduler."""
    scheduler = model.pipe.scheduler
    return int(scheduler.timesteps[scheduler.step_index or 0])


def _latents(module: nn.Module, args: Any, kwargs: Any) -> list[torch.Tensor]:
    """What SeaCache looks at: the latents of each clip, ``[channels, frames, height, width]``."""
    return list(kwargs["hidden_states"] if "hidden_states" in kwargs else args[0])


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        _hook("FirstBlockCache", gated=True),
        _hook("TaylorSeerCache", lambda model, steps: {"taylor_factors_dtype": model.transformers[0].dtype}),
        _hook("MagCache", lambda model, steps: {"num_inference_steps": steps}),
        _hook("PyramidAttentionBroadcast", lambda m, steps: {"current_timestep_callback": lambda: _timestep(m)}),
        _hook("SeaCache", lambda model, steps: {"raw_vision_callback": _latents}, gated=True),
        _dbcache(),
    )
}
"""By name, what ``disca bench`` can put beside our own."""
