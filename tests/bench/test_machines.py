"""Two constants explain seconds."""

from __future__ import annotations

import math

import pytest
import torch

from disca.bench.machines import CARDS, Machine, card, fit, measure
from disca.bench.operations import Cost

COSTS = [Cost(4 * 10**12, 10**9), Cost(10**11, 5 * 10**9), Cost(2 * 10**12, 3 * 10**9)]


def test_a_fit_finds_the_constants_that_made_the_seconds() -> None:
    true = Machine("true", 4e12, 2e9)
    found = fit("found", COSTS, [true.seconds(cost) for cost in COSTS])
    assert found.flops_per_second == pytest.approx(true.flops_per_second)
    assert found.bytes_per_second == pytest.approx(true.bytes_per_second)
    assert not found.derived


def test_a_fit_is_within_the_noise_of_what_it_was_given() -> None:
    true, noise = Machine("true", 4e12, 2e9), (1.05, 0.96, 1.03)
    found = fit("found", COSTS, [n * true.seconds(cost) for n, cost in zip(noise, COSTS, strict=True)])
    for cost in (*COSTS, Cost(10**13, 10**10)):
        assert found.seconds(cost) == pytest.approx(true.seconds(cost), rel=0.15)


def test_no_constant_is_negative() -> None:
    """Seconds that fall with the bytes: traffic explains nothing."""
    found = fit("found", [Cost(10, 10), Cost(20, 5)], [1.0, 2.1])
    assert found.bytes_per_second == math.inf
    assert found.flops_per_second == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize(("costs", "seconds"), [(COSTS[:1], [1.0]), (COSTS, [1.0]), (COSTS, [1.0, 0.0, 1.0])])
def test_too_little_to_fit_is_refused(costs: list[Cost], seconds: list[float]) -> None:
    with pytest.raises(ValueError, match="two or more"):
        fit("found", costs, seconds)


def test_this_machine_can_be_measured() -> None:
    found = measure(torch.device("cpu"), torch.float32)
    assert found.name == "cpu"
    assert 1e8 < found.flops_per_second < 1e15
    assert found.bytes_per_second > 1e7


def test_cards_are_found_by_their_names_and_are_marked_as_derived() -> None:
    assert card("nvidia rtx-4090") == card("RTX 4090")
    for name, sheet in CARDS.items():
        machine = card(name)
        assert machine.derived
        assert machine.flops_per_second < sheet.flops_per_second
        assert machine.bytes_per_second < sheet.bytes_per_second
    with pytest.raises(ValueError, match="Did you mean 'H100'"):
        card("H10")
