"""Where: the places whose output may be replaced. Here the ones made of whole blocks; layers inside of blocks are in
``sublayers.py``, and what comes after the blocks in ``ends.py``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, Protocol

from torch import nn

from disca import hooks
from disca.adapters import Adapter
from disca.caching.signals import TAILS, TimeEmbedding, modulated_input
from disca.features import Call, Features

Edge = int | Literal["middle"] | None
"""An index into the blocks of a host as a slice has it, or the middle: where the second stack begins, and in hosts of
one stack half of the blocks."""


class Visit(Protocol):
    """What the sites of a rule ask instead of computing; the run decides."""

    @property
    def reads(self) -> frozenset[str]:
        """Signals that the rule wants to read beside the inputs of its sites."""
        ...

    def __call__(self, site: str, call: Call) -> Features:
        """A site is about to be evaluated."""
        ...

    def at(self, site: str) -> Callable[[Call], Features]:
        """The same of one site, without a detour."""
        ...

    def is_full(self, site: str, call: Call) -> bool:
        """Whether the site is computed in full in this step."""
        ...

    def part(self, site: str, name: str, call: Call) -> Features:
        """Something that runs only for a site is about to be evaluated."""
        ...

    def check(self, drafted: Features, exact: Callable[[], Features], ranks: Any = None) -> None:
        """The last block gave ``drafted`` from forecasts, of tokens split over ``ranks``; ``exact()`` computes it
        without."""
        ...

    def rejected(self) -> bool:
        """Whether the check made this step a full one, so that the blocks have to run again."""
        ...


class Where(ABC):
    """A choice of sites in a host."""

    signals: ClassVar[frozenset[str]] = frozenset()
    """What can be read at these sites beside their inputs."""
    holds_blocks: ClassVar[bool] = False
    """Whether the host's blocks are run as one, without what the host may add between them."""

    @abstractmethod
    def install(self, host: nn.Module, adapter: Adapter, visit: Visit, undo: ExitStack) -> None:
        """Let the sites ask ``visit``. What it takes to undo this goes onto ``undo``.

        Raises:
            ValueError: the host has no such sites.
        """


@dataclass(frozen=True)
class Span(Where):
    """The blocks from ``start`` up to ``stop`` as one site. Where it is forecast, none of them runs."""

    start: Edge = 0
    stop: Edge = None

    signals: ClassVar[frozenset[str]] = frozenset({"entering", "modulated", "time_embedding", *TAILS})
    holds_blocks: ClassVar[bool] = True

    def install(self, host: nn.Module, adapter: Adapter, visit: Visit, undo: ExitStack) -> None:
        places = [(name, index) for name in adapter.stacks for index in range(len(getattr(host, name)))]
        middle = _middle(host, adapter)
        start, stop, _ = slice(_edge(self.start, middle), _edge(self.stop, middle)).indices(len(places))
        if not start < stop:
            raise ValueError(f"{self} is empty in {adapter.transformer}, which has {len(places)} blocks.")
        begin = 0 if "entering" in visit.reads else start  # so that what enters the trunk is seen
        site = "trunk" if (start, stop) == (0, len(places)) else f"blocks.{start}:{stop}"
        tail = next((name for name in TAILS if name in visit.reads), "")
        if TAILS.get(tail, 0) > stop - start:
            raise ValueError(f"{self} of {adapter.transformer} has {stop - start} blocks; its forecast reads {tail}.")
        blocks = _Blocks(host, adapter, places[begin:stop], visit.at(site), start - begin, tail, visit.reads)
        if "time_embedding" in visit.reads:
            blocks.time = TimeEmbedding.of(host, adapter)
            undo.callback(hooks.hear_output(blocks.time.module, blocks.time.hear))
        blocks.install(undo)


@dataclass(frozen=True)
class Trunk(Span):
    """All blocks of the host as one site."""

    start: Literal[0] = 0
    stop: None = None


def _middle(host: nn.Module, adapter: Adapter) -> int:
    lengths = [len(getattr(host, name)) for name in adapter.stacks]
    return lengths[0] if all(lengths) and len(lengths) > 1 else (sum(lengths) + 1) // 2


def _edge(edge: Edge, middle: int) -> int | None:
    return middle if edge == "middle" else edge


class _Blocks:
    """Runs in place of some of the host's blocks: called once, as the host calls the first of them."""

    def __init__(
        self,
        host: nn.Module,
        adapter: Adapter,
        places: Sequence[tuple[str, int]],
        visit: Callable[[Call], Features],
        before: int = 0,
        tail: str = "",
        reads: frozenset[str] = frozenset(),
    ) -> None:
        self._host, self._adapter, self._places, self._visit = host, adapter, places, visit
        self._stacks = {name: hooks.original(host, name) for name in dict.fromkeys(name for name, _ in places)}
        self._before = self._runs(places[:before])  # blocks that run in any case, ahead of the site
        end = len(places) - TAILS.get(tail, 0)
        self._site, self._tail = self._runs(places[before:end]), self._runs(places[end:])
        self._tail_signal, self._reads = tail, reads - {tail}
        self._takes = adapter.takes(self._block(0))  # as does a block that takes its place
        self._splits = hooks.Splits(self._block(0))
        self._ranks = hooks.ranks_of(self._block(0))
        self.time: TimeEmbedding | None = None

    def _runs(self, places: Sequence[tuple[str, int]]) -> list[tuple[nn.ModuleList, slice]]:
        """Stretches of blocks, by the stack they are in."""
        runs = {name: [index for other, index in places if other == name] for name, _ in places}
        return [(self._stacks[name], slice(run[0], run[-1] + 1)) for name, run in runs.items()]

    def _block(self, place: int) -> nn.Module:
        name, index = self._places[place]
        return self._stacks[name][index]

    def install(self, undo: ExitStack) -> None:
        """Take their places in the stacks."""
        blocks = [block for stack, chosen in self._runs(self._places[1:]) for block in list(stack)[chosen]]
        if any(map(hooks.splits_of, blocks)):
            raise ValueError(
                f"The plan of context parallelism for {self._adapter.transformer} splits inputs of several blocks, so "
                "they cannot be held as one. Give it a plan that splits before the first block only."
            )
        self._splits.lift()
        undo.callback(self._splits.put_back)
        for name in dict.fromkeys(name for name, _ in self._places):
            own = {index: None for other, index in self._places if other == name}
            first = {self._places[0][1]: self} if name == self._places[0][0] else {}
            hooks.hold(self._host, name, {**own, **first})
            undo.callback(hooks.let_go, self._host, name)

    @hooks.untraced  # a decision is no tensor operation; the blocks have their own compiled forwards
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        adapter = self._adapter
        if self._splits.hooks:
            args, kwargs = self._splits(args, kwargs)
        entering, conditioning = adapter.received(self._takes, args, kwargs)
        inputs = self._run(self._before, args, kwargs, *entering) if self._before else entering
        kept: list[Features] = []
        signals = self._signals(entering, args, kwargs) if self._reads else {}
        if self._tail:
            signals[self._tail_signal] = partial(kept.__getitem__, -1)
        compute = partial(self._compute, kept, args, kwargs)
        return adapter.returned(self._visit(Call(inputs, compute, conditioning, signals, 0.0, self._ranks)))

    def _signals(
        self, entering: Features, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> dict[str, Callable[[], Any]]:
        """What can be read before a call, by name."""
        return {
            "entering": lambda: entering,
            "modulated": lambda: modulated_input(self._block(0), self._layers, args, kwargs),
            "time_embedding": lambda: self.time.now if self.time else None,
        }

    @property
    def _layers(self) -> tuple[str, ...]:
        """What the first block hands its modulated input to."""
        layers = self._adapter.sublayers.get(self._places[0][0], ())
        return tuple(name for layer in layers if layer.kind != "feed_forward" for name in (layer.module, *layer.parts))

    def _compute(
        self, kept: list[Features], args: tuple[Any, ...], kwargs: Mapping[str, Any], *features: Any
    ) -> Features:
        """All blocks of the site; what enters its tail is ``kept``."""
        entering = self._run(self._site, args, kwargs, *features)
        if self._tail:
            kept[:] = [entering]
        return self._run(self._tail, args, kwargs, *entering)

    def _run(
        self,
        runs: Sequence[tuple[nn.ModuleList, slice]],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *features: Any,
    ) -> Features:
        """Some of the blocks, one after the other."""
        self._splits.check()
        adapter, count = self._adapter, len(features)
        in_order = count > 1 and not adapter.context_first
        for stack, chosen in runs:
            blocks = list(stack)[chosen]
            follow = adapter.following(blocks[0], args, count)
            for block in blocks:
                if follow is not None:
                    returned = block(*features, *follow, **kwargs)
                else:
                    now, named = adapter.replace(block, args, kwargs, features)
                    returned = block(*now, **named)
                as_is = in_order and type(returned) is tuple and len(returned) == count
                features = returned if as_is else adapter.features(returned)
        return features
