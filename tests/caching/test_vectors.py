"""Schedules and forecasts of the published methods, against worked examples of their descriptions."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import disca
from disca.caching.constants import POLYNOMIALS
from disca.caching.forecasts import Offset
from disca.caching.gates import Broadcast, Gate, Static
from disca.caching.polynomials import Bands, Hermite, Related, Relational, Taylor, high_band
from disca.caching.watchful import Drift, InputChange, ProbeChange, Verified, evaluate
from disca.features import Call, Moment

HUNYUAN = POLYNOMIALS["hunyuan_video"][1]
TABLE = (1.0, *[1.02] * 9, *[0.98] * 10)


def moment(step: int, steps: int = 50, times: Any = None) -> Moment:
    times = times or [1 - s / steps for s in range(steps + 1)]
    return Moment(step=step, steps=steps, t=times[step], r=times[step + 1])


def full(policy: disca.Policy, steps: int) -> list[int]:
    """Steps at which all rules of a static policy are full."""
    plans = []
    for rule in policy:
        assert isinstance(rule.when, Static)
        plans.append(set(rule.when.schedule(steps).full_steps))
    return sorted(set.intersection(*plans))


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (disca.fora(every=5), list(range(0, 50, 5))),
        (disca.fora(every=6), list(range(0, 50, 6))),
        (disca.fora(every=3, phase=1), [0, *range(1, 50, 3)]),
        (disca.taylorseer(every=6, warmup=3), [0, 1, 2, *range(8, 50, 6)]),
        (disca.taylorseer(every=5, warmup=3), [0, 1, 2, *range(7, 50, 5)]),
        (disca.taylorseer(every=5, warmup=3, phase=2), [0, 1, 2, *range(4, 50, 5)]),
        (disca.taylorseer_lite(every=5), [0, 1, 2, *range(7, 50, 5)]),
        (disca.hicache(every=6), [0, 1, 2, *range(8, 50, 6)]),
        (disca.freqca(every=6), [0, 1, 2, *range(8, 50, 6)]),
        (
            disca.toca(every=3, ratio=0.07, adaptive=True),
            [0, 4, 5, 9, 13, 17, 19, 22, 25, 28, 31, 33, 35, 37, 39, 41, 43, 45, 47, 49],
        ),
        (
            disca.toca(every=4, ratio=0.07, adaptive=True),
            [0, 1, 7, 9, 14, 19, 21, 25, 29, 33, 35, 37, 39, 41, 43, 46, 49],
        ),
        (disca.duca(every=5, ratio=0.1), list(range(0, 50, 5))),
        (
            disca.magcache(error=0.12, skips=4, constants="hunyuan_video_720p"),
            [*range(10), 12, 15, 18, 22, 25, 29, 33, 38, 43, 46, 48, 49],
        ),
        (
            disca.magcache(error=0.24, skips=6, constants="hunyuan_video_720p"),
            [*range(10), 14, 18, 23, 29, 34, 41, 46, 48, 49],
        ),
        (
            disca.magcache(error=0.12, skips=2, constants="hunyuan_video_720p"),
            [*range(10), *range(12, 46, 3), 47, 48, 49],
        ),
    ],
    ids=str,
)
def test_schedules_of_50_steps(policy: disca.Policy, expected: list[int]) -> None:
    assert full(policy, 50) == expected


def test_schedules_of_20_steps() -> None:
    assert full(disca.magcache(error=0.12, skips=4, constants=TABLE), 20) == [0, 1, 2, 3, 6, 9, 13, 17]
    assert full(disca.magcache(error=0.06, skips=3, constants=TABLE), 20) == [0, 1, 2, 3, 5, 7, 9, 12, 15, 18]
    assert full(disca.delta_dit(every=3), 20) == [0, 3, 6, 9, 10, 13, 16, 19]


def test_between_full_steps_duca_alternates() -> None:
    aggressive, *conservative = disca.duca(every=5, ratio=0.1)
    assert isinstance(aggressive.when, Static)
    assert aggressive.when.schedule(11).full_steps == (0, 1, 3, 5, 6, 8, 10)  # F C A C A F C A C A F
    assert all(isinstance(rule.when, Static) for rule in conservative)


def watch(gate: Gate, calls: list[Call], steps: int) -> list[int]:
    memory = gate.start()
    return [step for step, call in enumerate(calls) if gate.opens(memory, moment(step, steps), call)]


def drifting(changes: list[float]) -> list[Call]:
    """Calls whose signal changes by so much, relatively, from each step to the next."""
    values = [1.0]
    for change in changes:
        values.append(values[-1] * (1 + change))
    return [Call((), tuple, signals={"modulated": lambda v=value: torch.full((1, 4), v)}) for value in values]


def test_the_polynomial_of_hunyuan_video() -> None:
    known = {0.02: 0.0571, 0.05: 0.0620, 0.10: 0.1292, 0.12: 0.1503, 0.15: 0.1617}
    for x, y in known.items():
        assert evaluate(HUNYUAN, x) == pytest.approx(y, abs=5e-5)


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (0.10, [0, 1, 2, 3, 5, 7, 9, 11, 13, 15, 16, 17, 18, 19]),
        (0.15, [0, 2, 4, 7, 10, 13, 16, 17, 18, 19]),
        (0.30, [0, 3, 8, 13, 17, 19]),
    ],
)
def test_teacache_on_a_known_drift(threshold: float, expected: list[int]) -> None:
    calls = drifting([0.10] * 3 + [0.05] * 12 + [0.12] * 4)
    assert watch(Drift(threshold, HUNYUAN), calls, 20) == expected


def test_teacache_warns_outside_of_what_was_fitted() -> None:
    with pytest.warns(UserWarning, match="to be trusted from 0.1 to 0.2"):
        watch(Drift(0.1, HUNYUAN, range=(0.1, 0.2)), drifting([0.3]), 20)


@pytest.mark.parametrize(
    ("gate", "error", "expected"),
    [
        (Verified(1.0), lambda c: 0.0, [0, 13, 26, 39]),
        (Verified(1.0), lambda c: 1e9, list(range(0, 50, 5))),
        (Verified(1.0), lambda c: 0.05 * c, [0, 13, 22, 29, 35, 40, 45]),
        (Verified(7.0, 0.3, 0.1, 2, 8, 3), lambda c: 0.0, [0, 2, 11, 20, 29, 38, 47]),
        (Verified(7.0, 0.3, 0.1, 2, 8, 3), lambda c: 1e9, [0, 2, *range(5, 50, 3)]),
    ],
)
def test_speca_on_known_errors(gate: Verified, error: Any, expected: list[int]) -> None:
    memory, opened = gate.start(), []
    for step in range(50):
        if gate.opens(memory, moment(step), Call((), tuple)):
            opened.append(step)
        elif gate.wants_check(memory, moment(step)):
            exact = torch.ones(1, 4)
            assert not gate.check(memory, moment(step), (exact * (1 + error(memory.drafts)),), (exact,))
    assert opened == expected


def test_speca_accepts_less_as_the_run_goes_on() -> None:
    known = (1, 0.724, 0.525, 0.380, 0.275, 0.200, 0.145, 0.105)
    assert [Verified(1.0).threshold(moment(7 * i)) for i in range(8)] == pytest.approx(known, abs=5e-4)


def test_a_draft_that_is_wrong_in_the_paper_s_way_makes_the_same_step_full() -> None:
    gate = Verified(0.1, 1.0, 0.0, 1, 9, verdict="same", error_form="norms")
    memory, exact = gate.start(), torch.tensor([[3.0, 4.0]])
    assert [gate.opens(memory, moment(step), Call((), tuple)) for step in range(2)] == [True, False]
    assert not gate.check(memory, moment(1), (exact * 1.09,), (exact,))
    assert gate.check(memory, moment(1), (exact * 1.11,), (exact,))


@pytest.mark.parametrize("window", [(0.1, 0.8), (0.0, 1.0)])
def test_attention_is_broadcast_inside_of_the_window(window: tuple[float, float]) -> None:
    def opened(shift: float) -> list[int]:
        times = [shift * u / (1 + (shift - 1) * u) for u in (1 - s / 50 for s in range(51))]
        gate = Broadcast(50, window)
        return [s for s in range(50) if not gate.opens(None, moment(s, 50, times), Call((), tuple))]

    if window == (0.0, 1.0):
        assert opened(1) == list(range(1, 50))
    else:
        expected = {1: (11, 44), 3: (22, 48), 5: (28, 48), 7: (32, 49), 17: (41, 49)}
        assert {shift: (opened(shift)[0], opened(shift)[-1]) for shift in expected} == expected


def test_the_first_block_is_compared_with_the_last_full_step() -> None:
    """Not with the step before: a slow drift is noticed too."""
    entering = torch.zeros(1, 2)
    calls = [Call((torch.full((1, 2), 1 + 0.04 * s),), tuple, signals={"entering": lambda: (entering,)})
             for s in range(8)]  # fmt: skip
    assert watch(ProbeChange(0.1), calls, 8) == [0, 3, 6]


def test_easycache_knows_the_rate_of_a_linear_model() -> None:
    gate, memory = InputChange(0.5, warmup=2, force_last=False), InputChange(0.5).start()
    for step, x in enumerate((1.0, 2.0)):
        latents = torch.full((1, 4), x)
        call = Call((latents,), tuple)
        assert gate.opens(memory, moment(step), call)
        gate.observe(memory, moment(step), call, (-3 * latents + 1,))
    assert memory.rate is not None and float(memory.rate) == 3
    assert not gate.opens(memory, moment(2), Call((torch.full((1, 4), 2.5),), tuple))  # 3 * 0.5 / 5 = 0.3
    assert gate.opens(memory, moment(3), Call((torch.full((1, 4), 3.0),), tuple))  # 0.6


def observed(how: Any, values: dict[int, float]) -> Any:
    memory = how.start()
    for step, value in values.items():
        tokens = torch.full((1, 1, 1), value, dtype=torch.float64)
        how.observe(memory, moment(step), Call((tokens,), tuple), (tokens,))
    return memory


def forecasts(how: Any, memory: Any, steps: Any) -> list[float]:
    call = Call((torch.zeros(1, 1, 1),), tuple)
    return [float(how.predict(memory, moment(step), call)[0]) for step in steps]


def test_taylor_on_known_values() -> None:
    values = {0: 1.0, 5: 2.0, 10: 4.0}
    second, first = Taylor(2), Taylor(1)
    assert forecasts(second, observed(second, values), range(11, 15)) == pytest.approx([4.42, 4.88, 5.38, 5.92])
    assert forecasts(first, observed(first, values), range(11, 15)) == pytest.approx([4.4, 4.8, 5.2, 5.6])


def test_quadratics_tell_the_forms_apart() -> None:
    values = {s: float(s * s) for s in (0, 5, 10)}
    newton, published = Taylor(2, "newton"), Taylor(2)
    assert forecasts(newton, observed(newton, values), [12]) == pytest.approx([144])
    assert forecasts(published, observed(published, values), [12]) != pytest.approx([144])


def test_differences_begin_where_the_warm_up_ends() -> None:
    """TaylorSeer's code ignores pairs of full steps in the warm-up but the last."""
    values = {0: 0.0, 1: 5.0, 2: 6.0}
    assert len(observed(Taylor(2), values).features) == 3
    assert len(observed(Taylor(2, begin=2), values).features) == 2


@pytest.mark.parametrize(
    ("sigma", "order", "known"),
    [
        (0.5, 1, [0.5, 1, 1.5, 2, 2.5]),
        (0.5, 2, [-0.125, 0.25, 0.875, 1.75, 2.875]),
        (0.5, 3, [-0.104167, -0.083333, 0.1875, 0.833333, 1.979167]),
        (2**-0.5, 1, [1, 2, 3, 4, 5]),
        (2**-0.5, 2, [0, 1.5, 4, 7.5, 12]),
    ],
)
def test_hermite_weights(sigma: float, order: int, known: list[float]) -> None:
    weights = [Hermite(order, sigma=sigma).weights(k, order + 1)[order] for k in range(1, 6)]
    assert weights == pytest.approx(known, abs=1e-6)


def test_hermite_of_the_first_order_can_be_taylor() -> None:
    values = {0: 1.0, 3: 2.0, 10: 4.0}
    one, other = Hermite(1, sigma=2**-0.5), Taylor(1)
    assert forecasts(one, observed(one, values), range(11, 15)) == pytest.approx(
        forecasts(other, observed(other, values), range(11, 15))
    )


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("factor", [0.5, 3.0])
def test_relational_is_exact_for_a_linear_layer_in_a_constant_direction(factor: float) -> None:
    """However far the inputs go, which a polynomial cannot know."""
    start, direction = draw(0, 2, 3, 4), draw(1, 2, 3, 4)

    def pair(place: float) -> tuple[Tensor, Tensor]:
        tokens = start + place * direction
        return tokens, factor * tokens

    how = Relational(1)
    memory = how.start()
    assert isinstance(memory, Related)
    for step, place in ((0, 0.0), (4, 1.0)):
        tokens, outputs = pair(place)
        how.observe(memory, moment(step), Call((tokens,), tuple), (outputs,))
    for step, place in ((5, 1.1), (6, 3.0)):
        tokens, outputs = pair(place)
        (guess,) = how.predict(memory, moment(step), Call((tokens,), tuple))
        assert torch.allclose(guess, outputs)


def test_the_offset_keeps_the_channels_of_the_output() -> None:
    how = Offset()
    memory, latents = how.start(), draw(0, 1, 6, 2, 2, 2)
    how.observe(memory, moment(0), Call((latents,), tuple), (latents[:, :4] + 1,))
    (guess,) = how.predict(memory, moment(1), Call((latents + 2,), tuple))
    assert torch.allclose(guess, latents[:, :4] + 3)


@pytest.mark.parametrize("grid", [(3, 4, 5), None])
def test_bands_add_up_and_the_low_one_is_what_is_smooth(grid: Any) -> None:
    tokens = draw(0, 2, 60, 8)
    assert torch.allclose(high_band(high_band(tokens, grid, 0.3), grid, 0.3), high_band(tokens, grid, 0.3), atol=1e-5)
    assert high_band(torch.ones_like(tokens), grid, 0.0).abs().max() < 1e-5
    assert high_band(tokens, grid, 1.0).abs().max() < 1e-5
    assert 0.1 < float(high_band(tokens, grid, 0.3).norm() / tokens.norm()) < 0.999


def test_bands_without_a_low_band_are_hermite_and_without_a_high_band_reuse() -> None:
    grid, values = (2, 2, 3), [draw(s, 1, 12, 4) for s in range(3)]

    def guess(how: Any) -> Tensor:
        memory = how.start()
        for step, value in enumerate(values):
            at = Moment(step=step, steps=9, t=1.0, r=0.0, grid=grid)
            how.observe(memory, at, Call((value,), tuple), (value - value.mean(1, keepdim=True),))
        return how.predict(memory, Moment(step=4, steps=9, t=0.5, r=0.0, grid=grid), Call((values[0],), tuple))[0]

    assert torch.allclose(guess(Bands(2, cut=0.0)), guess(Hermite(2, sigma=0.71)), atol=1e-5)
    assert torch.allclose(guess(Bands(2, cut=1.0)), guess(Taylor(0)), atol=1e-5)
