"""A check of forecasts at the last block: it is run once more, without them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

from torch import nn

from disca import hooks
from disca.adapters import Adapter
from disca.caching.sites import Visit
from disca.features import Features


class Probe:
    """Stands in for the last block, and tells the rule what it would have given without forecasts inside of it.

    With the signal ``same_step``, it also stands in for all blocks: where the check fails, they run again in full.
    """

    def __init__(self, host: nn.Module, adapter: Adapter, visit: Visit) -> None:
        self._host, self._adapter, self._visit = host, adapter, visit

    def install(self, undo: ExitStack) -> None:
        """From here on, until undone."""
        *_, last = self._adapter.blocks(self._host)
        undo.callback(hooks.stand_in(last, self._check, f"disca check {id(self._visit)}"))
        if "same_step" in self._visit.reads:
            undo.callback(hooks.stand_in(self._host, self._again, f"disca again {id(self._visit)}"))

    def _check(self, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        output = forward(*args, **kwargs)
        exact = partial(self._exact, forward, args, kwargs)
        self._visit.check(self._adapter.features(output), exact, hooks.ranks_of(self._host))
        return output

    def _exact(self, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Features:
        return self._adapter.features(forward(*args, **kwargs))

    def _again(self, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        output = forward(*args, **kwargs)
        return forward(*args, **kwargs) if self._visit.rejected() else output
