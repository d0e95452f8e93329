"""Where: the places whose output may be replaced."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from disca import hooks
from disca.adapters import Adapter
from disca.features import Call, Features

Visit = Callable[[str, Call], Features]
"""``visit(site, call)``: what a site asks instead of computing, giving its own name; the run decides."""


class Where(ABC):
    """A choice of sites in a host."""

    @abstractmethod
    def install(self, host: nn.Module, adapter: Adapter, visit: Visit, undo: ExitStack) -> None:
        """Let the sites ask ``visit``. What it takes to undo this goes onto ``undo``."""


@dataclass(frozen=True)
class Trunk(Where):
    """All blocks of the host as one site. Where it is forecast, no block runs."""

    def install(self, host: nn.Module, adapter: Adapter, visit: Visit, undo: ExitStack) -> None:
        names = [name for name in adapter.stacks if len(getattr(host, name))]
        stacks = [getattr(host, name) for name in names]
        first, *others = (block for stack in stacks for block in stack)
        if any(hooks.splits_of(block) for block in others):
            raise ValueError(
                f"The plan of context parallelism for {adapter.transformer} splits inputs of several blocks, so they "
                "cannot be held as one. Give it a plan that splits before the first block only."
            )
        splits = hooks.Splits(first)
        splits.lift()
        undo.callback(splits.put_back)
        blocks = _Blocks(adapter, stacks, visit, splits)
        for index, stack in enumerate(names):
            hooks.hold(host, stack, [blocks] if index == 0 else [])
            undo.callback(hooks.let_go, host, stack)


class _Blocks:
    """Runs in place of the host's stacks: called once, as the host calls its first block."""

    def __init__(self, adapter: Adapter, stacks: Sequence[nn.ModuleList], visit: Visit, splits: hooks.Splits) -> None:
        self._adapter, self._stacks, self._visit, self._splits = adapter, stacks, visit, splits

    @hooks.untraced  # a decision is no tensor operation; the blocks have their own compiled forwards
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        adapter = self._adapter
        args, kwargs = self._splits(args, kwargs)
        bound = adapter.bind(self._stacks[0][0], args, kwargs)
        call = Call(adapter.inputs(bound), partial(self._compute, args, kwargs), adapter.conditioning(bound))
        return adapter.returned(self._visit("trunk", call))

    def _compute(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *features: Any) -> Features:
        adapter = self._adapter
        for stack in self._stacks:
            follow = adapter.following(stack[0], args, len(features))
            for block in stack:
                if follow is not None:
                    features = adapter.features(block(*features, *follow, **kwargs))
                else:
                    now, named = adapter.replace(block, args, kwargs, features)
                    features = adapter.features(block(*now, **named))
        return features
