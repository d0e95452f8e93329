"""Floating-point operations, counted rather than estimated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@contextmanager
def counting() -> Iterator[Callable[[], int]]:
    """Counts the operations within the block; what it hands out tells how many there were so far."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield lambda: int(counter.get_total_flops())


def count_flops(work: Callable[..., Any], *args: Any, **kwargs: Any) -> int:
    """Floating-point operations of one call ``work(*args, **kwargs)``: matrix products, convolutions and attention,
    a multiplication and an addition counting as two.

    Attention is sent through its plain mathematics meanwhile, because torch counts nothing for the fused kernel of
    the CPU; so count and measure time in separate calls. Compiled regions are not seen: count on the plain model.
    """
    with counting() as so_far:
        work(*args, **kwargs)
        return so_far()
