"""Forecasts: the published recursion, and where it differs from exact interpolation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from disca.caching.forecasts import Forecast, Nothing, RepeatChange, Reuse
from disca.caching.learned import Learned
from disca.caching.polynomials import Taylor, _lagrange
from disca.features import Call, Moment, Wants

CALL = Call((torch.zeros(()),), lambda x: (x,))


def moment(step: int) -> Moment:
    return Moment(step=step, steps=50, t=1 - step / 50, r=1 - (step + 1) / 50, branch="cond")


def seen(how: Forecast[Any], values: dict[int, Any]) -> Any:
    memory = how.start()
    for step, value in values.items():
        how.observe(memory, moment(step), CALL, (torch.as_tensor(value),))
    return memory


def predicted(how: Forecast[Any], values: dict[int, Any], steps: range | list[int]) -> list[float]:
    memory = seen(how, values)
    return [float(how.predict(memory, moment(step), CALL)[0]) for step in steps]


def f64(*values: float) -> list[Tensor]:
    return [torch.tensor(value, dtype=torch.float64) for value in values]


VECTOR = dict(zip((0, 5, 10), f64(1, 2, 4), strict=True))


def test_published_recursion() -> None:
    terms = [float(term) for (term,) in seen(Taylor(2), VECTOR).features]
    assert terms == pytest.approx([4, 0.4, 0.04])
    assert predicted(Taylor(2), VECTOR, range(11, 15)) == pytest.approx([4.42, 4.88, 5.38, 5.92])
    assert predicted(Taylor(1), VECTOR, range(11, 15)) == pytest.approx([4.4, 4.8, 5.2, 5.6])


def test_exact_form_goes_through_all_its_points() -> None:
    assert predicted(Taylor(2, "newton"), VECTOR, [0, 5, 10, 15]) == pytest.approx([1, 2, 4, 7])
    assert predicted(Taylor(1, "newton"), VECTOR, range(11, 15)) == pytest.approx([4.4, 4.8, 5.2, 5.6])


def test_quadratics_tell_the_forms_apart() -> None:
    square = {step: torch.tensor(step**2, dtype=torch.float64) for step in (0, 5, 10)}
    assert predicted(Taylor(2, "newton"), square, [13]) == pytest.approx([169])
    assert predicted(Taylor(2), square, [13]) != pytest.approx([169], abs=1)


@pytest.mark.parametrize("form", ["published", "newton"])
def test_an_order_without_enough_full_steps_does_with_what_there_is(form: Any) -> None:
    assert predicted(Taylor(3, form), {0: f64(7)[0]}, [4]) == [7]
    line = {0: f64(1)[0], 4: f64(3)[0]}
    assert predicted(Taylor(3, form), line, [6]) == pytest.approx([4])


@pytest.mark.parametrize("form", ["published", "newton"])
def test_a_step_seen_twice_counts_once(form: Any) -> None:
    memory = seen(Taylor(1, form), {0: f64(1)[0], 4: f64(5)[0]})
    Taylor(1, form).observe(memory, moment(4), CALL, tuple(f64(3)))
    value = float(Taylor(1, form).predict(memory, moment(4), CALL)[0])
    assert value == 3


@pytest.mark.parametrize("form", ["published", "newton"])
def test_memory_is_what_the_order_needs(form: Any) -> None:
    for order in (0, 1, 2):
        memory = seen(Taylor(order, form), {step: torch.zeros(4) for step in range(6)})
        assert len(Taylor(order, form).held(memory)) == order + 1


def test_half_precision_is_summed_in_single() -> None:
    """A change below bfloat16's spacing is not lost on the way to a forecast far off."""
    values = {0: torch.tensor(1.0, dtype=torch.bfloat16), 1: torch.tensor(1.0078125, dtype=torch.bfloat16)}
    memory = seen(Taylor(1), values)
    guess = Taylor(1).predict(memory, moment(4), CALL)[0]
    assert guess.dtype == torch.bfloat16
    assert float(guess) == 1.03125


@pytest.mark.parametrize("form", ["published", "newton"])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_sums_round_once_and_leave_what_is_remembered(form: Any, order: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    how = Taylor(order, form)
    memory = seen(how, {step: torch.randn(2000).to(dtype) for step in (0, 3, 6)})
    terms = [feature.clone() for (feature,) in memory.features]
    for step in (7, 9):
        guess = how.predict(memory, moment(step), CALL)[0]
        weights = how.weights(step - 6, order + 1) if form == "published" else _lagrange(step, memory.at)
        parts = torch.stack([weight * term.double() for weight, term in zip(weights, terms, strict=True)])
        rounding = torch.finfo(dtype).eps / 2 * parts.sum(0).abs() + 4 * torch.finfo(
            torch.float32
        ).eps * parts.abs().sum(0)
        assert guess.dtype == dtype
        assert ((guess.double() - parts.sum(0)).abs() <= rounding).all()
    assert all(torch.equal(feature, term) for (feature,), term in zip(memory.features, terms, strict=True))


def test_repeated_change_follows_the_inputs() -> None:
    how, memory = RepeatChange(), RepeatChange().start()
    how.observe(memory, moment(0), Call((torch.tensor(1.0), torch.tensor(2.0)), CALL.compute), (torch.tensor(4.0),) * 2)
    guess = how.predict(memory, moment(1), Call((torch.tensor(10.0), torch.tensor(20.0)), CALL.compute))
    assert [float(feature) for feature in guess] == [13, 22]


def test_a_learned_forecast_gets_inputs_cache_and_conditioning() -> None:
    def predictor(*, current: Any, cached: Any, conditioning: Any) -> Any:
        return tuple(a + 10 * b + conditioning["temb"] for a, b in zip(current, cached, strict=True))

    how = Learned(predictor)
    memory = seen(how, {0: torch.tensor(1.0), 2: torch.tensor(3.0)})
    call = Call((torch.tensor(5.0),), CALL.compute, {"temb": torch.tensor(100.0)})
    assert how.predict(memory, moment(3), call) == (torch.tensor(135.0),)


@pytest.mark.parametrize("how", [Reuse(), RepeatChange(), Taylor(1), Taylor(1, "newton"), Learned(lambda **_: ())])
def test_memory_keeps_no_graph(how: Forecast[Any]) -> None:
    memory = seen(how, {0: torch.ones(3, requires_grad=True) * 2, 1: torch.ones(3, requires_grad=True) * 3})
    assert how.held(memory)
    assert not any(tensor.requires_grad for tensor in how.held(memory))


def test_nothing_forecasts_nothing() -> None:
    memory = seen(Nothing(), {0: torch.ones(3)})
    assert Nothing().held(memory) == ()
    with pytest.raises(ValueError, match="forecasts nothing"):
        Nothing().predict(memory, moment(1), CALL)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": -1}, "order must be 0"),
        ({"form": "exact"}, "form must be one of published, newton; given 'exact'"),
        ({"variable": "sigma"}, "variable must be one of step, time; given 'sigma'"),
    ],
)
def test_what_taylor_cannot_do_is_refused(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Taylor(**options)


def test_a_predictor_may_refuse_a_host() -> None:
    class Picky(nn.Module):
        def matches(self, host: nn.Module) -> None:
            if not isinstance(host, nn.Identity):
                raise ValueError("not mine")

    Learned(Picky()).check(nn.Identity())
    with pytest.raises(ValueError, match="not mine"):
        Learned(Picky()).check(nn.Linear(1, 1))


def test_a_network_that_wants_them_hears_of_two_full_steps_and_the_times() -> None:
    class Network:
        wants = Wants(history=2, times=True)

        def __call__(self, *, current: Any, cached: Any, conditioning: Any, history: Any) -> Any:
            return (cached[0] + history.gap * history.slope[0],) if history.slope else cached

    how = Learned(Network())
    assert (how.history, Learned(lambda **_: ()).history) == (2, 1)
    assert predicted(how, {0: torch.tensor(1.0)}, [3]) == [1.0]
    assert predicted(how, {0: torch.tensor(1.0), 2: torch.tensor(3.0)}, [3, 5]) == pytest.approx([4.0, 6.0])
    memory = seen(how, {0: torch.tensor(1.0), 2: torch.tensor(3.0)})
    assert len(how.held(memory)) == 2
    how.observe(memory, moment(2), CALL, (torch.tensor(5.0),))  # the same step again: a check rejected it
    assert memory.spacing == pytest.approx(0.04)
