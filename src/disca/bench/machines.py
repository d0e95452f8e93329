"""How long work takes on a machine: two constants, fitted to measured seconds or derived from a card's data sheet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from disca.bench.operations import Cost
from disca.errors import unknown
from disca.metrics.timers import seconds_of

EFFICIENCY = 0.5
"""Share of its published operations per second that a card is assumed to achieve; a speed-up hardly depends on it."""
BANDWIDTH_EFFICIENCY = 0.75
"""The same of its memory's bandwidth."""


@dataclass(frozen=True)
class Machine:
    """What a machine achieves."""

    name: str
    flops_per_second: float
    bytes_per_second: float
    derived: bool = False
    """Whether this comes from a data sheet and an assumption, not from a measurement."""

    def seconds(self, cost: Cost) -> float:
        """Predicted seconds of some work: operations and traffic one after the other."""
        return cost.flops / self.flops_per_second + cost.bytes / self.bytes_per_second


@dataclass(frozen=True)
class Card:
    """What its maker publishes, of the plain product: dense bfloat16 with float32 sums, no sparsity."""

    flops_per_second: float
    bytes_per_second: float
    memory_bytes: float


CARDS: dict[str, Card] = {
    "H200": Card(989e12, 4.8e12, 141e9),
    "H100": Card(989e12, 3.35e12, 80e9),
    "H20": Card(148e12, 4.0e12, 96e9),
    "A100": Card(312e12, 2.04e12, 80e9),
    "L40S": Card(362e12, 0.864e12, 48e9),
    "RTX 5090": Card(209.5e12, 1.79e12, 32e9),
    "RTX 4090": Card(165.2e12, 1.01e12, 24e9),
}
"""H100 and A100 in their SXM forms."""


def card(name: str) -> Machine:
    """A card by its name, at the assumed efficiencies.

    Raises:
        ValueError: no such card.
    """
    known = {_plain(known): known for known in CARDS}
    if _plain(name) not in known:
        raise ValueError(unknown("card", name, CARDS))
    found = known[_plain(name)]
    sheet = CARDS[found]
    return Machine(
        found, EFFICIENCY * sheet.flops_per_second, BANDWIDTH_EFFICIENCY * sheet.bytes_per_second, derived=True
    )


def fit(name: str, costs: Sequence[Cost], seconds: Sequence[float]) -> Machine:
    """The two constants that explain measured seconds best, by least squares of the relative errors.

    A constant that explains nothing is infinite: work without traffic worth mentioning leaves the bandwidth open.

    Raises:
        ValueError: fewer than two measurements, different numbers of them, or seconds that are not positive.
    """
    if len(costs) != len(seconds) or len(costs) < 2 or min(seconds) <= 0:
        raise ValueError(f"A fit needs two or more costs and as many seconds above 0; given {len(costs)}, {seconds}.")
    rows = [(cost.flops / s, cost.bytes / s) for cost, s in zip(costs, seconds, strict=True)]
    per_flop, per_byte = _nonnegative(rows)
    return Machine(name, 1 / per_flop if per_flop else math.inf, 1 / per_byte if per_byte else math.inf)


def measure(device: torch.device, dtype: torch.dtype = torch.bfloat16) -> Machine:
    """A machine's constants from its own matrix products, attention and sums: a few seconds on a GPU."""
    costs, seconds = [], []
    for cost, work in _workloads(device, dtype):
        costs.append(cost)
        seconds.append(sorted(seconds_of(work, device, repeats=5, warmup=2))[2])
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return fit(name, costs, seconds)


def _workloads(device: torch.device, dtype: torch.dtype) -> list[tuple[Cost, Callable[[], object]]]:
    """Products of a video model's shape and attention of its length; small ones where there is no GPU."""
    rows, width, heads, tokens = (16384, 3072, 24, 16384) if device.type == "cuda" else (512, 512, 4, 1024)
    size = dtype.itemsize

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=device, dtype=dtype)

    tall, square, wide = draw(rows, width), draw(width, width), draw(4 * width, width)
    heads_of = draw(1, heads, tokens, 128)
    long = draw(8 * rows, width)
    attention = 4 * heads * tokens * tokens * 128

    def product(weight: torch.Tensor) -> Cost:
        read = tall.numel() + weight.numel() + rows * len(weight)
        return Cost(2 * rows * weight.numel(), size * read)

    return [
        (product(square), lambda: F.linear(tall, square)),
        (product(wide), lambda: F.linear(tall, wide)),
        (
            Cost(attention, 4 * size * heads_of.numel(), attention),
            lambda: F.scaled_dot_product_attention(heads_of, heads_of, heads_of),
        ),
        (Cost(0, 3 * size * long.numel()), lambda: long + long),
        (Cost(0, 2 * size * long.numel()), lambda: F.layer_norm(long, (width,))),
    ]


def _nonnegative(rows: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Weights ``(x, y)`` of least ``sum (a x + b y - 1)^2``, none below zero."""
    aa, ab, bb = (sum(row[i] * row[j] for row in rows) for i, j in ((0, 0), (0, 1), (1, 1)))
    a, b = sum(row[0] for row in rows), sum(row[1] for row in rows)
    determinant = aa * bb - ab * ab
    if determinant > 1e-12 * aa * bb:
        x, y = (a * bb - b * ab) / determinant, (b * aa - a * ab) / determinant
        if x >= 0 and y >= 0:
            return x, y
    alone = [(a / aa, 0.0)] if aa else []
    alone += [(0.0, b / bb)] if bb else []
    return min(alone, key=lambda w: sum((row[0] * w[0] + row[1] * w[1] - 1) ** 2 for row in rows))


def _plain(name: str) -> str:
    return name.lower().replace(" ", "").replace("-", "").removeprefix("nvidia")
