"""What one family of transformers looks like. An adapter describes; it never acts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from inspect import Parameter, Signature, signature
from math import prod
from typing import Any

from torch import nn

from disca.adapters.sublayers import Sublayer
from disca.features import Features


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """One family's trunk: where its blocks are, what they take and what they give."""

    transformer: str
    """Class name of the host, as in ``type(transformer).__name__``."""
    stacks: tuple[str, ...]
    """Attributes of the host that hold its blocks, in the order in which they run."""
    hidden: str = "hidden_states"
    """Parameter of a block that carries the video tokens."""
    context: str | None = "encoder_hidden_states"
    """Parameter that carries the text tokens when the blocks return them too; None when they pass through unchanged."""
    context_first: bool = False
    """Whether a block returns ``(context, hidden)`` instead of ``(hidden, context)``."""
    fuse_jointly: bool = True
    """Whether the predictor fuses video and text tokens with one network (HunyuanVideo 1.0) or with two (1.5)."""
    between_blocks: tuple[str, ...] = ()
    """Parameters of the host's forward that it adds between its blocks, such as a ControlNet's. A trunk taken as one
    has no place for them, so a call that has them is refused."""

    sublayers: Mapping[str, tuple[Sublayer, ...]] = field(default_factory=dict, hash=False)
    """The layers inside of a stack's blocks, by the name of the stack, in the order in which they run."""
    attends_context_first: bool = False
    """Whether joint attention has the text tokens before the video tokens."""
    last_projection: str = "proj_out"
    """Attribute of the host that makes its output of the video tokens."""
    latents: str = "hidden_states"
    """Parameter of the host's forward that carries the noisy latents."""
    frames_before_channels: bool = False
    """Whether latents are ``[batch, frames, channels, height, width]``."""

    width: tuple[str, ...] = ("num_attention_heads", "attention_head_dim")
    """Entries of the host's configuration whose product is the width of the video tokens."""
    context_width: tuple[str, ...] | None = None
    """The same of the text tokens, where it is another one; such families are fused apart."""
    block_arguments: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What a block's constructor calls otherwise than the configuration does: its name of it to the configuration's, or
    to ``width``."""
    last_block: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Arguments that only the constructor of the last block gets."""

    flow: bool = True
    """Whether the host gives velocities of a flow. Mean velocities, and so a second time, are only for those."""
    timestep: str = "timestep"
    """Parameter of the host's forward that carries t."""
    time_scale: float = 1000.0
    """What the host receives as ``timestep`` at time 1, or at time 0 if it counts upward."""
    time_ascends: bool = False
    """Whether the host counts from 0 (noise) upward to ``time_scale`` (data)."""
    time_embedder: str | None = None
    """Path of the module that embeds the sinusoid of t; a second time is joined to its output. None: not supported."""
    sinusoid_scale: float = 1000.0
    """What that sinusoid is taken of at time 1; not ``time_scale`` where the host multiplies what it receives."""

    second_timestep: str | None = None
    """Parameter of the host's forward that carries r, in families that have one of their own."""
    second_timestep_option: str | None = None
    """Entry of the host's configuration that says whether it does."""

    def __post_init__(self) -> None:
        if self.context_width is not None and self.fuse_jointly:
            raise ValueError("Streams of different widths cannot be fused jointly. Give fuse_jointly=False.")

    def takes_second_time(self, transformer: Any) -> bool:
        """Whether this host takes r by itself."""
        option = self.second_timestep_option
        return self.second_timestep is not None and (option is None or bool(transformer.config.get(option)))

    def timestep_at(self, time: float) -> float:
        """A time in [0, 1] as the host receives it."""
        return self.time_scale * (1 - time if self.time_ascends else time)

    def grid(self, config: Mapping[str, Any], arguments: Mapping[str, Any]) -> tuple[int, int, int] | None:
        """Frames, rows and columns of the video tokens in a call of the host; None where its latents are packed and it
        does not say."""
        shape = arguments[self.latents].shape
        if len(shape) != 5:
            frames, rows, columns = (arguments.get(name) for name in ("num_frames", "height", "width"))
            return None if frames is None or rows is None or columns is None else (frames, rows, columns)
        patch = config.get("patch_size") or 1  # latents to a token, as one number or along each axis
        deep, high, wide = (config.get("patch_size_t") or 1, patch, patch) if isinstance(patch, int) else patch
        return shape[1 if self.frames_before_channels else 2] // deep, shape[3] // high, shape[4] // wide

    def widths(self, config: Mapping[str, Any]) -> tuple[int, ...]:
        """Width of the tokens of each stream, by the host's configuration.

        Raises:
            ValueError: the configuration lacks an entry.
        """
        streams = (self.width,) if self.context is None else (self.width, self.context_width or self.width)
        missing = [name for stream in streams for name in stream if name not in config]
        if missing:
            raise ValueError(f"The host's configuration has no {missing[0]}, so the width of its tokens is not known.")
        return tuple(prod(int(config[name]) for name in stream) for stream in streams)

    def check(self, transformer: nn.Module) -> None:
        """Make sure that this describes the transformer.

        Raises:
            ValueError: it does not; the message says in what.
        """
        said = f"The adapter of {self.transformer} says"
        for stack in self.stacks:
            if not isinstance(getattr(transformer, stack, None), nn.ModuleList):
                raise ValueError(f"{said} that blocks are in {stack!r}. ModuleLists there: {stacks_of(transformer)}.")
        if not self.blocks(transformer):
            raise ValueError(
                f"This {self.transformer} has no blocks in {self.stacks}, so there is nothing to forecast."
            )
        takers = {_forward(block): self._carriers for block in self.blocks(transformer)}
        for forward, names in ((_forward(transformer), (self.timestep,)), *takers.items()):
            takes = list(_places(forward))
            missing = [name for name in names if name not in takes]
            if missing:
                taker = forward.__qualname__.rpartition(".")[0]
                raise ValueError(f"{said} that {taker} takes {missing[0]!r}, but it takes {takes}.")

    def blocks(self, transformer: nn.Module) -> list[nn.Module]:
        """All blocks of the trunk, in the order in which they run; also while a run holds them."""
        return [block for stack in self.stacks for block in getattr(transformer, stack).children()]

    def takes(self, block: nn.Module) -> tuple[str, ...]:
        """Names of a block's parameters. What falls into ``*args`` or ``**kwargs`` it ignores."""
        return tuple(_places(_forward(block)))

    def received(
        self, takes: tuple[str, ...], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[Features, dict[str, Any]]:
        """The features among the arguments of a block that :meth:`takes` these, and the others by parameter name. Hosts
        call their blocks by position or by keyword, and change between the two under gradient checkpointing."""
        count = len(self._carriers)
        if takes[:count] == self._carriers and not kwargs:
            return args[:count], dict(zip(takes[count:], args[count:], strict=False))
        named = {name: value for name, value in kwargs.items() if name in takes}
        bound = {**dict(zip(takes, args, strict=False)), **named}
        return tuple(bound.pop(name) for name in self._carriers), bound

    def replace(
        self, block: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], features: Features
    ) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        """The same arguments, passed in the same way, with other features among them."""
        carriers = self._carriers
        places = _places(_forward(block))
        named = {name: value for name, value in zip(carriers, features, strict=True) if name in kwargs}
        placed = {places[n]: value for n, value in zip(carriers, features, strict=True) if n not in kwargs}
        return tuple(placed.get(place, value) for place, value in enumerate(args)), {**kwargs, **named}

    def following(self, block: nn.Module, args: tuple[Any, ...], count: int) -> tuple[Any, ...] | None:
        """The positional arguments after the features, where a block is given its ``count`` features first and by
        position, as most hosts do; None where :meth:`replace` is needed."""
        leading = len(args) >= count and _first(_forward(block), count) == self._carriers
        return args[count:] if leading else None

    def features(self, returned: Any) -> Features:
        """A block's return value as features."""
        features: Features = tuple(returned) if isinstance(returned, (tuple, list)) else (returned,)
        if len(features) != len(self._carriers):
            raise ValueError(
                f"A block of {self.transformer} returned {len(features)} streams, but its adapter knows "
                f"{', '.join(self._carriers)}. Give it context=None where blocks return the video only, and the name "
                "of the text's parameter where they return both."
            )
        return features[::-1] if self.context_first else features

    def returned(self, features: Features) -> Any:
        """Features as the host expects them from a block; the inverse of :meth:`features`."""
        if self.context is None:
            return features[0]
        hidden, context = features
        return (context, hidden) if self.context_first else (hidden, context)

    @cached_property
    def _carriers(self) -> tuple[str, ...]:
        return (self.hidden,) if self.context is None else (self.hidden, self.context)


def stacks_of(transformer: nn.Module) -> tuple[str, ...]:
    """Names of the ModuleLists right inside of a transformer."""
    return tuple(name for name, child in transformer.named_children() if isinstance(child, nn.ModuleList))


def is_named(parameter: Parameter) -> bool:
    """Whether it is neither ``*args`` nor ``**kwargs``."""
    return parameter.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def _forward(block: nn.Module) -> Callable[..., Any]:
    """The forward that a block's class defines, under hooks and under ``torch.compile(block)``."""
    plain = block._modules.get("_orig_mod") or block
    return type(plain).forward


@lru_cache(maxsize=256)
def _signature(forward: Callable[..., Any]) -> Signature:
    """Signature of a class's forward, as a bound method has it."""
    whole = signature(forward)
    return whole.replace(parameters=list(whole.parameters.values())[1:])


@lru_cache(maxsize=256)
def _places(forward: Callable[..., Any]) -> dict[str, int]:
    parameters = enumerate(_signature(forward).parameters.values())
    return {parameter.name: place for place, parameter in parameters if is_named(parameter)}


@lru_cache(maxsize=256)
def _first(forward: Callable[..., Any], count: int) -> tuple[str, ...]:
    return tuple(_signature(forward).parameters)[:count]
