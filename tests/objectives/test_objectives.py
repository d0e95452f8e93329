"""Objectives: what they pull a model to, where they vanish, and where gradients go."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from disca.flow import Gaussian, expand, point, velocity
from disca.objectives import (
    Target,
    adaptive_weight,
    drift_error,
    flow_matching,
    forecast_error,
    guidance_distillation,
    guided,
    interval_weight,
    mean_flow,
    relative_error,
    squared_error,
)
from disca.objectives.mean_flow import KINDS, Kind

FLOW = Gaussian(mean=0.7, std=0.5)
every_target = pytest.mark.parametrize("kind", KINDS)


def batch(size: int = 16) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``(x0, noise, t, r)`` in float64, with ``0.05 < r < t - 0.05 < 0.9``."""
    generator = torch.Generator().manual_seed(2)
    x0, noise = torch.randn(2, size, 3, 2, dtype=torch.float64, generator=generator)
    ends = torch.rand(2, size, dtype=torch.float64, generator=generator) * 0.4
    return x0, noise, 0.5 + ends[0], 0.05 + ends[1]


class Network(nn.Module):
    """A small student with parameters, ``u(x, t, r)``."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2, dtype=torch.float64)

    def forward(self, x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        times = torch.stack([t, t - r], -1).unsqueeze(1).expand(*x.shape)
        return self.linear(torch.cat([x, times], -1)).tanh()


@every_target
def test_the_target_at_r_equal_t_is_the_velocity_bit_for_bit(kind: Kind) -> None:
    x0, noise, t, _ = batch()
    x_t, student = point(x0, noise, t), Network()
    for substeps in (1, 3):
        found = Target(kind=kind, substeps=substeps)(FLOW.velocity, student, x_t, t, t)
        assert torch.equal(found, FLOW.velocity(x_t, t))


@every_target
def test_the_true_mean_velocity_is_a_fixed_point(kind: Kind) -> None:
    x0, noise, t, r = batch()
    x_t = point(x0, noise, t)
    found = Target(kind=kind, substeps=64, eps=1e-4, alpha=1e-6)(FLOW.velocity, FLOW.mean_velocity, x_t, t, r)
    torch.testing.assert_close(found, FLOW.mean_velocity(x_t, t, r), rtol=0, atol=1e-3 if kind == "solver" else 1e-5)


def test_the_solver_s_target_improves_with_the_square_of_its_substeps() -> None:
    x0, noise, t, r = batch(256)
    x_t = point(x0, noise, t)
    exact = FLOW.mean_velocity(x_t, t, r)
    found = (Target(substeps=k)(FLOW.velocity, FLOW.mean_velocity, x_t, t, r) for k in (4, 8))
    coarse, fine = ((target - exact).abs().mean() for target in found)
    assert coarse / fine == pytest.approx(4, rel=0.2)


def test_jvp_and_differences_pull_an_untrained_student_to_the_same_place() -> None:
    x0, noise, t, r = batch()
    x_t, student = point(x0, noise, t), Network()
    exact, approximate = (
        Target(kind=kind, eps=1e-4)(FLOW.velocity, student, x_t, t, r) for kind in ("jvp", "difference")
    )
    assert not torch.allclose(exact, FLOW.velocity(x_t, t))
    torch.testing.assert_close(approximate, exact, rtol=1e-6, atol=1e-6)


@every_target
def test_only_the_student_s_own_evaluation_carries_a_gradient(kind: Kind) -> None:
    x0, noise, t, r = batch()
    student, x_t = Network(), point(x0, noise, t)
    wanted = Target(kind=kind)(FLOW.velocity, student, x_t, t, r)
    assert not wanted.requires_grad
    loss = mean_flow(student, FLOW.velocity, x0, noise, t, r, target=Target(kind=kind))
    parameters = list(student.parameters())
    share = Target(kind=kind).alpha if kind == "alpha" else 1
    by_hand = torch.autograd.grad(share * (student(x_t, t, r) - wanted).square().mean(), parameters)
    for found, expected in zip(torch.autograd.grad(loss.value, parameters), by_hand, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "solvr"}, "solver, difference, jvp, alpha, not 'solvr'"),
        ({"kind": "jvp", "method": "central"}, "forward or chunked, not central"),
        ({"kind": "solver", "method": "central"}, "None, not central"),
        ({"alpha": 0.0}, r"in \(0, 1\], not 0.0"),
        ({"substeps": 0}, "at least one substep"),
    ],
)
def test_a_target_that_cannot_be_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Target(**options)  # type: ignore[arg-type]


def test_the_alpha_target_goes_from_the_velocity_to_the_jvp_target() -> None:
    """At alpha 1 it is v; towards 0 it approaches the differential target at first order."""
    x0, noise, t, r = batch(64)
    x_t, student = point(x0, noise, t), Network()
    at_one = Target(kind="alpha", alpha=1.0)(FLOW.velocity, student, x_t, t, r)
    assert torch.equal(at_one, FLOW.velocity(x_t, t))
    # u(x - a(t-r)v, t - a(t-r), r) = u - a(t-r) du/dt, so (alpha target - u) / a -> v - u - (t-r) du/dt.
    exact = Target(kind="jvp")(FLOW.velocity, student, x_t, t, r) - student(x_t, t, r)
    errors = []
    for alpha in (2e-3, 1e-3):
        found = Target(kind="alpha", alpha=alpha)(FLOW.velocity, student, x_t, t, r) - student(x_t, t, r)
        errors.append((found / alpha - exact).abs().mean().item())
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.02)


def test_the_one_sided_target_asks_the_student_once_more_and_no_more() -> None:
    x0, noise, t, r = batch()
    calls: list[int] = []
    student = Network()

    def counted(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        calls.append(1)
        return student(x, t, r)

    for method, count in (("one_sided", 2), ("central", 3)):
        calls.clear()
        mean_flow(counted, FLOW.velocity, x0, noise, t, r, target=Target(kind="difference", method=method))
        assert len(calls) == count


def test_adaptive_weights_level_the_samples_and_leave_the_logged_error_alone() -> None:
    error = torch.tensor([1e-2, 1.0, 100.0], dtype=torch.float64)
    levelled = adaptive_weight(error, power=1.0, floor=1e-6) * error
    torch.testing.assert_close(levelled, torch.ones(3, dtype=torch.float64), rtol=1e-3, atol=0)
    assert (adaptive_weight(error, power=0.0) == 1).all()
    x0, noise, t, r = batch()
    plain, weighed = (mean_flow(Network(), FLOW.velocity, x0, noise, t, r, power=p) for p in (0.0, 1.0))
    assert weighed.value < 1.01 and not torch.equal(plain.value, weighed.value)
    torch.testing.assert_close(weighed.by["interval"], t - r)
    with pytest.raises(ValueError, match="at least 0"):
        adaptive_weight(error, power=-1.0)


def test_flow_matching_vanishes_at_the_line_s_own_velocity_and_is_its_distance_elsewhere() -> None:
    x0, noise, t, _ = batch()
    assert flow_matching(lambda x, t: noise - x0, x0, noise, t).value == 0
    off = flow_matching(lambda x, t: noise - x0 + expand(t, x0), x0, noise, t)
    torch.testing.assert_close(off.per_sample, t.square())
    torch.testing.assert_close(off.value, t.square().mean())


def test_flow_matching_sees_the_noised_data() -> None:
    x0, noise, t, _ = batch()
    seen: list[Tensor] = []
    flow_matching(lambda x, t: (seen.append(x), x)[1], x0, noise, t)
    assert torch.equal(seen[0], point(x0, noise, t))


def test_guidance_at_one_is_conditional_and_at_zero_unconditional() -> None:
    conditional, unconditional = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(guided(conditional, unconditional, 1.0), conditional)
    assert torch.equal(guided(conditional, unconditional, 0.0), unconditional)
    scales = torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64)
    mixed = guided(conditional, unconditional, scales)
    torch.testing.assert_close(mixed[2], 3 * conditional[2] - 2 * unconditional[2])
    torch.testing.assert_close(mixed[1], conditional[1])


def test_a_student_that_guides_itself_has_nothing_left_to_distil() -> None:
    x0, noise, t, _ = batch()
    scale = 1 + 4 * t
    teachers = (lambda x, t: 2 * x, lambda x, t: x)
    done = guidance_distillation(lambda x, t: (1 + expand(scale, x)) * x, *teachers, x0, noise, t, scale)
    assert done.value < 1e-25
    assert guidance_distillation(lambda x, t: 2 * x, *teachers, x0, noise, t, scale).value > 0.1


def test_the_guidance_teachers_take_no_gradient() -> None:
    x0, noise, t, _ = batch()
    teacher, student = nn.Linear(2, 2, dtype=torch.float64), nn.Linear(2, 2, dtype=torch.float64)
    call = (lambda x, t: student(x), lambda x, t: teacher(x), lambda x, t: teacher(-x))
    guidance_distillation(*call, x0, noise, t, 2.0).value.backward()
    assert teacher.weight.grad is None
    assert student.weight.grad is not None


def test_a_forecast_weighs_by_its_step_and_leaves_the_full_velocity_alone() -> None:
    x0, noise, t, r = batch(2)
    full = velocity(x0, noise).requires_grad_()
    forecast = (full.detach() + 1).requires_grad_()
    t, r = torch.tensor([0.9, 0.5], dtype=torch.float64), torch.tensor([0.6, 0.4], dtype=torch.float64)
    loss = forecast_error(forecast, full, t=t, r=r)
    loss.value.backward()
    assert full.grad is None
    sizes = forecast.grad.flatten(1).norm(dim=1)
    assert sizes[0] / sizes[1] == pytest.approx(9)
    torch.testing.assert_close(loss.per_sample, torch.ones(2, dtype=torch.float64))
    assert forecast_error(forecast, full, weight=torch.tensor([2.0, 4.0])).value.item() == pytest.approx(3)


def test_interval_weights_have_mean_one_and_survive_no_interval() -> None:
    _, _, t, r = batch()
    assert interval_weight(t, r).mean() == pytest.approx(1)
    assert not interval_weight(t, t).isnan().any()


def test_half_precision_is_compared_in_full() -> None:
    prediction = torch.full((1, 1), 256.0, dtype=torch.bfloat16)
    assert squared_error(prediction, torch.full((1, 1), 256.5)).value == 0.25
    assert squared_error(prediction, prediction + 2).value.dtype == torch.float32


def test_shapes_that_only_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\) but its target is \(2, 1\)"):
        squared_error(torch.zeros(2, 3), torch.zeros(2, 1))


def test_the_relative_error_is_zero_for_itself_and_one_for_nothing() -> None:
    x = torch.randn(3, 4, 5)
    assert not relative_error(x, x).any()
    torch.testing.assert_close(relative_error(torch.zeros_like(x), x), torch.ones(3))


def test_errors_that_point_the_same_way_add_up_and_others_cancel() -> None:
    error, full = torch.randn(2, 2, 3, 4).unbind()

    def drift(moves: list[float], *errors: Tensor) -> Tensor:
        return drift_error([full + one for one in errors], [full] * len(errors), moves)

    mean = error.square().mean()
    torch.testing.assert_close(drift([0.5], error), 0.5 * mean)
    torch.testing.assert_close(drift([1.0, 0.5], error, error), 1.5 * mean)
    torch.testing.assert_close(drift([1.0, 0.5], error, -2 * error), torch.tensor(0.0))
    half = (full + error).bfloat16()
    torch.testing.assert_close(drift_error([half], [full], [1.0]), (half.float() - full).square().mean())
