"""The derivative along the flow, exact and by differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from disca.flow import Gaussian, du_dt, expand, in_chunks

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


def test_one_sided_differences_converge_with_eps() -> None:
    x, t, r, v = states()
    exact = du_dt(FLOW.mean_velocity, x, t, r, v)
    errors = [
        (du_dt(FLOW.mean_velocity, x, t, r, v, method="one_sided", eps=eps) - exact).abs().mean()
        for eps in (2e-3, 1e-3, 5e-4)
    ]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize(
    ("t", "r", "asked"), [(0.5, 0.2, {0.5, 0.49}), (0.5, 0.495, {0.5, 0.51}), (0.999, 0.995, {0.999, 0.989})]
)
def test_one_side_is_that_of_r_unless_only_the_other_has_room(t: float, r: float, asked: set[float]) -> None:
    seen: set[float] = set()

    def u(x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        seen.add(round(t.item(), 6))
        return FLOW.mean_velocity(x, t, r)

    x, t_, r_ = torch.ones(1, 2, dtype=torch.float64), torch.tensor([t]).double(), torch.tensor([r]).double()
    du_dt(u, x, t_, r_, FLOW.velocity(x, t_), method="one_sided", eps=0.01)
    assert seen == asked


@pytest.mark.parametrize("kind", ["none", "boolean", "additive"])
@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_attention_in_chunks_is_attention_with_its_derivative(kind: str, chunk: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v, dq, dk, dv = torch.randn(6, 2, 3, 7, 4, dtype=torch.float64, generator=generator)
    mask = torch.rand(2, 1, 7, 7, generator=generator) > 0.3 if kind == "boolean" else None
    mask = torch.randn(2, 3, 1, 7, dtype=torch.float64, generator=generator) if kind == "additive" else mask
    if mask is not None and mask.dtype == torch.bool:
        mask[..., 0] = True  # each query sees something

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.4)

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        exact = torch.func.jvp(attend, (q, k, v), (dq, dk, dv))
    with in_chunks(chunk):
        found = torch.func.jvp(attend, (q, k, v), (dq, dk, dv))
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one, other)


def test_attention_that_chunks_would_change_is_refused() -> None:
    q = torch.randn(1, 1, 4, 2)
    with in_chunks(), pytest.raises(ValueError, match="causal"):
        torch.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True)
    with pytest.raises(ValueError, match="at least one query, not 0"), in_chunks(0):
        pass


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
    torch.testing.assert_close(
        du_dt(u, x, t, r, v, method="one_sided", eps=1e-6, here=u(x, t, r)), exact, rtol=1e-4, atol=1e-5
    )
    with torch.no_grad():
        assert torch.equal(du_dt(u, x, t, r, v), exact)


def test_unknown_ways_are_refused() -> None:
    with pytest.raises(ValueError, match="forward, chunked, central, one_sided, not 'exact'"):
        du_dt(FLOW.mean_velocity, *states(), method="exact")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="positive eps, not 0"):
        du_dt(FLOW.mean_velocity, *states(), method="central", eps=0.0)
