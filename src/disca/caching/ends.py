"""Where: what comes after the blocks. The blocks are skipped where it is forecast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn

from disca import hooks
from disca.adapters import Adapter
from disca.caching.sites import Visit, Where, _Blocks
from disca.features import Call, Features


@dataclass(frozen=True)
class LastProjection(Where):
    """The host's last projection. Where it is forecast, no block runs and the last norm sees what entered the trunk."""

    holds_blocks: ClassVar[bool] = True

    def install(self, host: nn.Module, adapter: Adapter, visit: Visit, undo: ExitStack) -> None:
        places = [(name, index) for name in adapter.stacks for index in range(len(getattr(host, name)))]
        _Blocks(host, adapter, places, partial(_compute_or_pass, visit)).install(undo)
        projection = getattr(host, adapter.last_projection, None)
        if not isinstance(projection, nn.Module):
            raise ValueError(
                f"{adapter.transformer} has no {adapter.last_projection!r}. Say in Adapter.last_projection which "
                "module makes the host's output of its tokens."
            )

        def project(forward: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
            (tokens,) = args
            (output,) = visit("projection", Call((tokens,), lambda tokens: (forward(tokens, **kwargs),)))
            return output.clone()  # what is kept must not change with what the caller makes of it

        undo.callback(hooks.stand_in(projection, project, f"disca projection {id(visit)}"))


def _compute_or_pass(visit: Visit, call: Call) -> Features:
    return call.compute(*call.inputs) if visit.is_full("projection", call) else call.inputs


@dataclass(frozen=True)
class Output(Where):
    """The host as a whole. Where it is forecast, nothing of it runs."""

    def install(self, host: nn.Module, adapter: Adapter, visit: Visit, undo: ExitStack) -> None:
        output = _Output(host, adapter, visit)
        undo.callback(hooks.stand_in(host, output, f"disca output {id(visit)}"))


@dataclass
class _Output:
    """Stands in for a host."""

    host: nn.Module
    adapter: Adapter
    visit: Visit
    form: Any = field(default=None)
    """What the host gave last: a tuple or one of diffusers' outputs, with its tensor taken out."""

    def __call__(self, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        named = hooks.named_arguments(self.host, args, kwargs)
        latents = named[self.adapter.latents]

        def compute(latents: Tensor) -> Features:
            given = forward(*args, **kwargs)
            self.form = type(given)
            return (given[0],)

        (velocity,) = self.visit("output", Call((latents,), compute, ranks=None))
        return (velocity,) if self.form is tuple else self.form(sample=velocity)
