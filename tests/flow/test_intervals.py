"""Every sampler of intervals keeps its promise, whatever its options."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from disca.flow import Instant, Interval, LogitNormal, Mixture, Restricted, Scheduled, Terminal, Uniform, sigmas

ROUNDING = 2e-7
lengths = st.floats(0.01, 1.0)
shifts = st.floats(1.0, 10.0)
counts = st.lists(st.integers(1, 50), min_size=1, max_size=4).map(tuple)
densities = st.one_of(
    shifts.map(lambda shift: Uniform(shift=shift)),
    st.builds(LogitNormal, st.floats(-3, 3), st.floats(0.1, 3), st.floats(0, 1)),
)
simple = st.one_of(
    densities.map(Instant),
    st.builds(Restricted, lengths, densities),
    lengths.map(Terminal),
    st.builds(Scheduled, counts, shifts, st.booleans(), lengths),
)
samplers = st.one_of(
    simple, st.lists(st.tuples(st.floats(0.1, 5), simple), min_size=1, max_size=3).map(tuple).map(Mixture)
)
quick = settings(deadline=None, max_examples=60)


def draw(sampler: Interval, batch: int = 512, seed: int = 0) -> tuple[Tensor, Tensor]:
    return sampler.sample(batch, Generator().manual_seed(seed))


@quick
@given(sampler=samplers, seed=st.integers(0, 1000))
def test_every_interval_lies_in_time_and_comes_from_the_generator_alone(sampler: Interval, seed: int) -> None:
    t, r = draw(sampler, seed=seed)
    assert t.shape == r.shape == (512,)
    assert t.dtype == r.dtype == torch.float32
    assert (r >= 0).all() and (r <= t).all() and (t <= 1).all()
    again = draw(sampler, seed=seed)
    assert torch.equal(t, again[0]) and torch.equal(r, again[1])


@quick
@given(limit=lengths, density=densities, count=counts, shift=shifts)
def test_a_limit_is_never_exceeded(limit: float, density: Uniform, count: tuple[int, ...], shift: float) -> None:
    for sampler in (Restricted(limit, density), Terminal(limit), Scheduled(count, shift, limit=limit)):
        t, r = draw(sampler)
        assert (t - r).max() <= limit + ROUNDING


def test_restricted_intervals_have_the_paper_s_statistics() -> None:
    """R = 0.2: a tenth of the samples end on the data, the mean length is 0.2 / 2 - 0.2^2 / 6."""
    t, r = draw(Restricted(0.2), 200_000)
    assert (r == 0).float().mean() == pytest.approx(0.1, abs=0.005)
    assert (t - r).mean() == pytest.approx(0.0933, abs=0.001)
    assert t.mean() == pytest.approx(0.5, abs=0.005)


def test_instant_and_terminal_intervals_are_what_they_say() -> None:
    t, r = draw(Instant(LogitNormal(0.5, 1.0)))
    assert torch.equal(t, r)
    t, r = draw(Terminal(0.4), 100_000)
    assert not r.any()
    assert t.mean() == pytest.approx(0.2, abs=0.005)


def test_a_logit_normal_has_its_median_and_spread_and_its_even_share() -> None:
    logit = torch.logit(LogitNormal(0.5, 1.0).draw(200_000, Generator().manual_seed(0)).double())
    assert logit.mean() == pytest.approx(0.5, abs=0.01)
    assert logit.std() == pytest.approx(1.0, abs=0.01)
    narrow = LogitNormal(0.0, 0.01, uniform=0.25).draw(100_000, Generator().manual_seed(0))
    assert ((narrow - 0.5).abs() > 0.05).float().mean() == pytest.approx(0.25 * 0.9, abs=0.01)


def test_scheduled_intervals_on_the_grid_are_a_sampler_s_own() -> None:
    t, r = draw(Scheduled((4, 8), shift=3.0, grid=True), 4000)
    met = {(round(a, 5), round(b, 5)) for a, b in zip(t.tolist(), r.tolist(), strict=True)}
    steps = [sigmas(n, 3.0).tolist() for n in (4, 8)]
    assert met == {(round(a, 5), round(b, 5)) for s in steps for a, b in pairwise(s)}


def test_scheduled_intervals_off_the_grid_have_the_same_length_before_the_shift() -> None:
    t, r = draw(Scheduled((5,)), 1000)
    torch.testing.assert_close(t - r, torch.full((1000,), 0.2), rtol=0, atol=1e-6)
    assert t.unique().numel() > 900


def test_a_mixture_draws_its_parts_in_proportion() -> None:
    t, r = draw(Mixture(((1.0, Instant()), (3.0, Terminal(0.5)))), 100_000)
    assert (t == r).float().mean() == pytest.approx(0.25, abs=0.01)
    assert (r == 0).float().mean() == pytest.approx(0.75, abs=0.01)


def test_a_shifted_density_moves_towards_noise() -> None:
    assert Uniform(shift=5.0).draw(10_000, Generator().manual_seed(0)).median() == pytest.approx(5 / 6, abs=0.01)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: Restricted(0.0), r"limit .* \(0, 1\], not 0"),
        (lambda: Restricted(1.5), "not 1.5"),
        (lambda: Terminal(-0.1), "not -0.1"),
        (lambda: Uniform(0.6, 0.4), "low=0.6, high=0.4"),
        (lambda: Uniform(shift=0.0), "shift .* must be positive"),
        (lambda: LogitNormal(std=0.0), "must be positive, not 0"),
        (lambda: LogitNormal(uniform=1.2), "share .* not 1.2"),
        (lambda: Scheduled(()), "at least one step count"),
        (lambda: Scheduled((4, 0)), "at least one step, not 0"),
        (lambda: Scheduled((4,), limit=2.0), "not 2"),
        (lambda: Mixture(()), "at least one part"),
        (lambda: Mixture(((0.0, Instant()),)), "positive weight"),
        (lambda: Mixture(((1.0, 0.5),)), "interval sampler"),  # type: ignore[arg-type]
    ],
)
def test_options_that_make_no_sense_are_refused(build: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build()
