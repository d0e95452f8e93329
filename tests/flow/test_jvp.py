"""The derivative along the flow, exact and by differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from disca.flow import Gaussian, du_dt, expand

FLOW = Gaussian(mean=0.7, std=0.5)


def states(batch: int = 256, *, margin: float = 0.05) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``(x, t, r, v)`` in float64, with t and r at least ``margin`` from each other and from 1."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, 2, 3, dtype=torch.float64, generator=generator)
    low, high = torch.rand(2, batch, dtype=torch.float64, generator=generator)
    r = low * (1 - 3 * margin)
    t = r + margin + high * (1 - 2 * margin - r)
    return x, t, r, FLOW.velocity(x, t)


def test_the_mean_velocity_identity_holds() -> None:
    """u = v - (t - r) du/dt, up to float64 rounding, for the exact mean velocity."""
    x, t, r, v = states()
    u, derivative = FLOW.mean_velocity(x, t, r), du_dt(FLOW.mean_velocity, x, t, r, v)
    assert (u - (v - expand(t - r, x) * derivative)).abs().max() < 1e-8


def test_central_differences_converge_with_the_square_of_eps() -> None:
    x, t, r, v = states()
    exact = du_dt(FLOW.mean_velocity, x, t, r, v)
    errors = [
        (du_dt(FLOW.mean_velocity, x, t, r, v, method="central", eps=eps) - exact).abs().mean()
        for eps in (2e-2, 1e-2, 5e-3)
    ]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize(
    ("t", "r", "asked"),
    [
        (0.5, 0.2, {0.51, 0.49}),
        (0.998, 0.2, {0.998, 0.988}),
        (0.5, 0.495, {0.51, 0.5}),
        (0.5, 0.5, {0.51, 0.5}),
        (0.004, 0.0, {0.014, 0.004}),
        (0.999, 0.998, {0.999, 0.989}),
    ],
)
def test_differences_stay_between_r_and_noise(t: float, r: float, asked: set[float]) -> None:
    seen: set[float] = set()

    def u(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        seen.add(round(t.item(), 6))
        return FLOW.mean_velocity(x, t, r)

    x, t_, r_ = torch.ones(1, 2, dtype=torch.float64), torch.tensor([t]).double(), torch.tensor([r]).double()
    v = FLOW.velocity(x, t_)
    found = du_dt(u, x, t_, r_, v, method="central", eps=0.01)
    assert seen == asked
    torch.testing.assert_close(found, du_dt(FLOW.mean_velocity, x, t_, r_, v), rtol=0, atol=0.1)


def test_both_ways_agree_on_a_network_with_attention() -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=True, dtype=torch.float64)
    embed = nn.Linear(2, 8, dtype=torch.float64)

    def u(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        h = x + embed(torch.stack([t, t - r], -1)).sin().unsqueeze(1)
        return attention(h, h, h, need_weights=False)[0]

    x, v = torch.randn(2, 3, 5, 8, dtype=torch.float64)
    t, r = torch.tensor([0.9, 0.5, 0.3]).double(), torch.tensor([0.6, 0.2, 0.1]).double()
    exact = du_dt(u, x, t, r, v)
    torch.testing.assert_close(du_dt(u, x, t, r, v, method="central", eps=1e-4), exact, rtol=1e-5, atol=1e-7)
    with torch.no_grad():
        assert torch.equal(du_dt(u, x, t, r, v), exact)


def test_unknown_ways_are_refused() -> None:
    with pytest.raises(ValueError, match="'forward' or 'central', not 'exact'"):
        du_dt(FLOW.mean_velocity, *states(), method="exact")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="positive eps, not 0"):
        du_dt(FLOW.mean_velocity, *states(), method="central", eps=0.0)
