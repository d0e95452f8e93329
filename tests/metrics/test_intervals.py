from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from disca.metrics.intervals import bootstrap, bootstrap_ratio, bootstrap_seeds, bootstrap_statistic, wilson


def test_bootstrap_covers_the_true_mean_about_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).exponential(size=(200, 60))
    intervals = [bootstrap(row, resamples=300, seed=index) for index, row in enumerate(draws)]
    covered = np.mean([low <= 1.0 <= high for low, high in intervals])
    assert 0.90 <= covered <= 0.98


def test_bootstrap_narrows_with_the_root_of_the_number_of_clips() -> None:
    values = np.random.default_rng(0).normal(size=6400)
    (low, high), (narrow_low, narrow_high) = bootstrap(values[:400]), bootstrap(values)
    assert (high - low) / (narrow_high - narrow_low) == pytest.approx(4, rel=0.15)


def test_bootstrap_is_repeatable_and_wider_at_a_higher_level() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert bootstrap(values, seed=3) == bootstrap(values, seed=3)
    assert bootstrap(values, seed=3) != bootstrap(values, seed=4)
    low, high = bootstrap(values, level=0.5)
    wide_low, wide_high = bootstrap(values, level=0.99)
    assert wide_low < low < values.mean() < high < wide_high


def test_a_ratio_over_seeds_knows_both_kinds_of_chance() -> None:
    draw = np.random.default_rng(0)
    clips, seeds = draw.uniform(1, 2, size=(1, 400)), draw.uniform(0.5, 1.5, size=(5, 1))
    over = np.broadcast_to(clips, (5, 400))
    same, (low, high) = bootstrap_seeds((0.7 * over).tolist(), over.tolist())
    assert same == pytest.approx(0.7) and low == pytest.approx(0.7) and high == pytest.approx(0.7)
    found, (low, high) = bootstrap_seeds((seeds * over).tolist(), over.tolist())
    spread = seeds.std() / np.sqrt(5)
    assert found == pytest.approx(seeds.mean()) and 2 * spread < high - low < 6 * spread
    with pytest.raises(ValueError, match="two equal tables"):
        bootstrap_seeds([[1.0, 2.0]], [[1.0]])


def test_a_constant_is_certain() -> None:
    assert bootstrap([2.5] * 7) == (2.5, 2.5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_solves_its_equation_and_stays_a_share(counts: tuple[int, int]) -> None:
    successes, trials = counts
    share, (low, high) = successes / trials, wilson(successes, trials)
    assert 0 <= low <= share <= high <= 1
    for end in (low, high):
        distance = 1.959963984540054 * math.sqrt(end * (1 - end) / trials)
        assert abs(end - share) == pytest.approx(distance, abs=1e-9)


def test_wilson_published_value() -> None:
    assert wilson(15, 20) == pytest.approx((0.5313, 0.8881), abs=1e-4)


@pytest.mark.parametrize("values", [[], [1.0, math.inf], [math.nan], [[1.0]]])
def test_bootstrap_refuses_what_has_no_mean(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite values"):
        bootstrap(values)


@pytest.mark.parametrize("counts", [(1, 0), (3, 2), (-1, 2)])
def test_wilson_refuses_counts_that_cannot_be(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        wilson(*counts)


def test_a_ratio_of_proportional_values_has_no_spread() -> None:
    over = np.array([1.0, 2.0, 5.0, 0.0])
    low, high = bootstrap_ratio(3 * over, over)
    assert math.isclose(low, 3) and math.isclose(high, 3)
    with pytest.raises(ValueError, match="two equal rows"):
        bootstrap_ratio(over, np.zeros(4))


def test_the_interval_of_a_biased_statistic_is_around_the_statistic() -> None:
    values = np.random.default_rng(0).normal(size=30)

    def spread(rows: np.ndarray) -> float:
        return -float(len(set(rows.tolist()))) + values[rows].mean()  # drawn rows repeat, so it is far off

    low, high = bootstrap_statistic(spread, 30)
    assert low < spread(np.arange(30)) < high
