from __future__ import annotations

import torch
from torch.nn.functional import linear, scaled_dot_product_attention

from disca.metrics.flops import count_flops
from disca.metrics.timers import Timer


def test_a_linear_map_costs_two_operations_per_weight_and_row() -> None:
    assert count_flops(linear, torch.zeros(7, 5), torch.zeros(3, 5)) == 2 * 7 * 5 * 3


def test_attention_on_the_cpu_is_counted_as_its_two_products() -> None:
    queries, keys = torch.zeros(2, 3, 10, 8), torch.zeros(2, 3, 12, 8)
    assert count_flops(scaled_dot_product_attention, queries, keys, keys) == 2 * (2 * 2 * 3 * 10 * 12 * 8)


def test_operations_add_up() -> None:
    def twice(x: torch.Tensor, weight: torch.Tensor) -> None:
        linear(linear(x, weight), weight)

    x, weight = torch.zeros(4, 6), torch.zeros(6, 6)
    assert count_flops(twice, x, weight) == 2 * count_flops(linear, x, weight)


def test_a_timer_counts_only_its_blocks_also_one_that_fails() -> None:
    timer = Timer()
    with timer:
        torch.zeros(10)
    first = timer.seconds
    torch.zeros(10)
    assert timer.seconds == first > 0
    try:
        with timer:
            raise ValueError
    except ValueError:
        pass
    assert timer.seconds > first
