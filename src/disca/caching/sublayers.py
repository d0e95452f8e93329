"""Where: the layers inside of the host's blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

from torch import Tensor, nn

from disca import hooks
from disca.adapters import Adapter, Sublayer
from disca.adapters.sublayers import KINDS, Kind
from disca.caching.attention import AttentionSeen, value_norms
from disca.caching.probe import Probe
from disca.caching.sites import Visit, Where
from disca.features import Call, Features

WHOLE: tuple[Kind, ...] = ("attention", "cross_attention", "feed_forward", "single")
"""Together these kinds are all of a block's work."""


@dataclass(frozen=True)
class Sublayers(Where):
    """The layers of these kinds in every block, each a site. What is kept of them is their output before its gate."""

    kinds: tuple[Kind, ...] = WHOLE
    required: bool = True
    """Whether a host that has none of them is refused."""

    signals: ClassVar[frozenset[str]] = frozenset({"attention", "last_block", "same_step"})

    def __post_init__(self) -> None:
        if unknown := [kind for kind in self.kinds if kind not in KINDS]:
            raise ValueError(f"Kinds of layers are {', '.join(KINDS)}; given {unknown[0]!r}.")

    def install(self, host: nn.Module, adapter: Adapter, visit: Visit, undo: ExitStack) -> None:
        found = [
            (f"{stack}.{index}", block, layer)
            for stack in adapter.stacks
            for index, block in enumerate(hooks.original(host, stack))
            for layer in adapter.sublayers.get(stack, ())
            if layer.kind in self.kinds and getattr(block, layer.module, None) is not None
        ]
        if not found and self.required:
            raise ValueError(
                f"{adapter.transformer} has no layers of the kinds {', '.join(self.kinds)} that its adapter describes. "
                "Choose a method that works on whole blocks, or describe them in Adapter.sublayers."
            )
        total, ranks = len(adapter.blocks(host)), hooks.ranks_of(host)
        order = {name: number for number, name in enumerate(dict.fromkeys(name for name, _, _ in found))}
        for name, block, layer in found:
            depth = order[name] / max(total - 1, 1)
            _Layer(name, block, layer, adapter, visit, depth, ranks).install(undo)
        if "last_block" in visit.reads:
            Probe(host, adapter, visit).install(undo)


@dataclass
class _Layer:
    """One layer of one block, as a site."""

    block_name: str
    block: nn.Module
    layer: Sublayer
    adapter: Adapter
    visit: Visit
    depth: float
    ranks: Any
    lead: Features = ()
    """In a call under way: what the first of the parts was given."""
    seen: AttentionSeen | None = None

    @cached_property
    def name(self) -> str:
        return f"{self.block_name}.{self.layer.module}"

    def install(self, undo: ExitStack) -> None:
        """Stand in for the layer and its parts."""
        if "attention" in self.visit.reads and self.layer.kind in ("feed_forward", "single"):
            self.seen = AttentionSeen(self.adapter, text=self.layer.text)
        for sibling in self._siblings if self.seen else ():
            if "attention" in sibling.kind and sibling.module not in self.layer.parts:
                undo.callback(self._stand_in(sibling.module, partial(self._sibling, sibling)))
        for part in self.layer.parts:
            undo.callback(self._stand_in(part, partial(self._part, part)))
        undo.callback(self._stand_in(self.layer.module, self._site))

    def _stand_in(self, module: str, run: Callable[..., Any]) -> Callable[[], None]:
        target = getattr(self.block, module)
        return hooks.stand_in(target, run, f"disca {self.layer.kind} {self.layer.module} {id(self.visit)}")

    def _site(self, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        given = self.lead or _tokens(args, kwargs, self.layer.streams)
        call = self._call(given, partial(_compute, forward, args, kwargs, given))
        self.lead = ()
        features = self.visit(self.name, call)
        if self.seen is not None:
            self.seen.clear()
        return features if self.layer.streams > 1 else features[0]

    def _part(self, part: str, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        module, streams = getattr(self.block, part), self._streams(part)
        given = _tokens(args, kwargs, streams)
        self.lead = given if part == self.layer.parts[0] else self.lead or given
        width = getattr(module, "out_features", given[0].shape[-1])

        def nothing() -> Features:
            return tuple(tokens.new_empty(*tokens.shape[:-2], 0, width) for tokens in given)

        attends = any(layer.module == part for layer in self._siblings)
        watches = attends and self.seen is not None
        run = partial(self._watching, part, "attention", given, forward) if watches else forward
        compute = partial(_compute, run, args, kwargs, given)
        call = self._call(given, compute, nothing=nothing, is_attention=lambda: attends)
        features = self.visit.part(self.name, part, call)
        return features if streams > 1 else features[0]

    def _streams(self, part: str) -> int:
        return next((layer.streams for layer in self._siblings if layer.module == part), 1)

    @property
    def _siblings(self) -> tuple[Sublayer, ...]:
        return self.adapter.sublayers[self.block_name.rpartition(".")[0]]

    def _sibling(self, layer: Sublayer, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """An attention layer of the same block runs: see what it attends to, where the site is computed in full."""
        given = _tokens(args, kwargs, layer.streams)
        if self.visit.is_full(self.name, self._call(given, forward)):
            return self._watching(layer.module, layer.kind, given, forward, *args, **kwargs)
        return forward(*args, **kwargs)

    def _watching(self, module: str, kind: str, given: Features, forward: Callable[..., Any], *args: Any,
                  **kwargs: Any) -> Any:  # fmt: skip
        assert self.seen is not None
        with self.seen.watching(kind, partial(value_norms, getattr(self.block, module), given)):
            return forward(*args, **kwargs)

    def _call(self, inputs: Features, compute: Callable[..., Features], **signals: Callable[[], Any]) -> Call:
        if self.seen is not None:
            signals["attention"] = lambda: self.seen
        return Call(inputs, compute, signals=signals, depth=self.depth, ranks=self.ranks)


def _compute(
    forward: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    given: Features,
    *inputs: Tensor,
) -> Features:
    """The layer's output for these inputs in place of the given ones, with what it was given besides."""
    swap = {id(old): new for old, new in zip(given, inputs, strict=False) if old is not new}
    if swap:
        args = tuple(swap.get(id(value), value) for value in args)
        kwargs = {name: swap.get(id(value), value) for name, value in kwargs.items()}
    output = forward(*args, **kwargs)
    return tuple(output) if isinstance(output, (tuple, list)) else (output,)


def _tokens(args: Sequence[Any], kwargs: Mapping[str, Any], streams: int) -> Features:
    """The tokens among a layer's arguments: they come first."""
    found: list[Tensor] = []
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            found.append(value)
            if len(found) == streams:
                break
    return tuple(found)
