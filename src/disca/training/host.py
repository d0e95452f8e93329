"""A transformer as a velocity: what the objectives call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from disca.adapters import adapter_for
from disca.meanflow.second_time import SecondTime
from disca.training.recipe import Recipe


@dataclass(frozen=True)
class Host:
    """``host(x, t)`` or ``host(x, t, r)`` with everything else bound to it; times ``[batch]`` in [0, 1]."""

    transformer: nn.Module
    conditioning: Mapping[str, Any]
    second: SecondTime | None = None

    def given(self, conditioning: Mapping[str, Any], guidance: Tensor | None = None) -> Host:
        """The same transformer under other conditions; ``guidance`` ``[batch]`` is the embedded scale."""
        if guidance is not None:
            conditioning = {**conditioning, "guidance": 1000.0 * guidance}
        return replace(self, conditioning=conditioning)

    def __call__(self, x: Tensor, t: Tensor, r: Tensor | None = None) -> Tensor:
        if self.second is None:
            return self._velocity(x, t)
        with self.second.at(t, t if r is None else r):
            return self._velocity(x, t)

    def _velocity(self, x: Tensor, t: Tensor) -> Tensor:
        timestep = t * adapter_for(self.transformer).time_scale
        return self.transformer(hidden_states=x, timestep=timestep, return_dict=False, **self.conditioning)[0]


def drop(texts: list[str], share: float, generator: torch.Generator) -> list[str]:
    """The texts, a random share of them emptied."""
    dropped = torch.rand(len(texts), generator=generator) < share
    return ["" if gone else text for text, gone in zip(texts, dropped, strict=True)]


def compiled(transformer: Any, recipe: Recipe) -> Any:
    """The transformer, its blocks compiled if the recipe says so; names of parameters stay as they were."""
    if recipe.compile:
        # Every block has the same code, and it is compiled for teacher and student, with and without gradients.
        torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
        transformer.compile_repeated_blocks(fullgraph=True, dynamic=False)
    return transformer
