"""The moving average of the weights, which is what a run hands on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Exponential moving average of a module's trainable parameters.

    The decay starts low and rises, ``min(decay, (1 + n) / (10 + n))`` after ``n`` updates, so that early weights are
    forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.module = module
        self.values: list[Tensor] = [value for _, value in _trainable(module)]
        self.shadow = {name: value.detach().clone() for name, value in _trainable(module)}

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Take the module's weights in, after ``updates`` earlier updates."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        torch._foreach_lerp_(list(self.shadow.values()), self.values, 1 - decay)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights, by parameter name."""
        return self.shadow

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore averaged weights; the names must be the module's."""
        if set(state) != set(self.shadow):
            raise ValueError(
                f"The average holds other parameters than the module: {sorted(set(state) ^ set(self.shadow))[:5]}."
            )
        for name, value in state.items():
            self.shadow[name].copy_(value)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module with its averaged weights, for validation and export."""
        own = {name: value.detach().clone() for name, value in _trainable(self.module)}
        self._copy(self.shadow)
        try:
            yield
        finally:
            self._copy(own)

    @torch.no_grad()
    def _copy(self, weights: Mapping[str, Tensor]) -> None:
        for name, value in _trainable(self.module):
            value.copy_(weights[name])


def _trainable(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, value) for name, value in module.named_parameters() if value.requires_grad]
