"""Where the operations of a forecast step go: which modules of the host and of the predictor do them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from disca.adapters import adapter_for
from disca.bench.cost import draw_fake, fake_host
from disca.bench.operations import Cost, Counting
from disca.bench.sizes import Size, inputs_of
from disca.caching.methods import disca
from disca.caching.run import attach


@torch.no_grad()
def forecast_shares(host: str, config: Mapping[str, Any], size: Size) -> dict[str, Cost]:
    """The cost of a forecast step of DisCa by module: those of the host outside its blocks, ``host.NAME``, all of the
    predictor, ``predictor.NAME``, with what is inside of them, and ``step`` of it all.

    Raises:
        ValueError: a host that nobody described, or a size that it cannot have.
    """
    dtype = torch.bfloat16
    fake, transformer, predictor = fake_host(host, config, dtype, 2)
    assert predictor is not None
    adapter = adapter_for(transformer)
    inputs = inputs_of(adapter, transformer.config, size, partial(draw_fake, fake, dtype))
    modules = {f"host.{name}": one for name, one in transformer.named_modules() if name}
    modules |= {f"predictor.{name}": one for name, one in predictor.named_modules() if name}
    timesteps = [adapter.timestep_at(time) for time in (1.0, 0.5)]
    with attach(transformer, disca(predictor, full_steps=(0,)), timesteps=timesteps):
        with Counting(fake):  # which knows what to do with masks
            transformer(**inputs.at(timesteps[0]))
        with Counting(fake) as counting, _by_module(modules, counting) as found:
            transformer(**inputs.at(timesteps[1]))
    return {**found, "step": counting.cost}


@contextmanager
def _by_module(modules: Mapping[str, nn.Module], counting: Counting) -> Iterator[dict[str, Cost]]:
    """What each of the modules adds to the count; those that do not run are left out."""
    begun: dict[str, Cost] = {}
    found: dict[str, Cost] = {}

    def begin(name: str, *_: Any) -> None:
        begun[name] = counting.cost

    def end(name: str, *_: Any) -> None:
        found[name] = found.get(name, Cost()) + counting.cost + -1 * begun[name]

    with ExitStack() as undo:
        for name, module in modules.items():
            undo.callback(module.register_forward_pre_hook(partial(begin, name)).remove)
            undo.callback(module.register_forward_hook(partial(end, name)).remove)
        yield found
