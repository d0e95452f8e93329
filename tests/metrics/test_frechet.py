from __future__ import annotations

import pytest
import torch
from torch import Tensor

from disca.metrics.frechet import frechet_distance


def whitened(count: int, width: int, seed: int = 0) -> Tensor:
    """A set whose sample mean is exactly 0 and whose sample covariance is exactly the identity."""
    raw = torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    raw = raw - raw.mean(dim=0)
    factor = torch.linalg.cholesky(raw.T.cov().reshape(width, width))
    return torch.linalg.solve_triangular(factor, raw.T, upper=False).T


def test_a_set_is_at_no_distance_from_itself_also_when_degenerate() -> None:
    features = whitened(40, 6)
    flat = features @ torch.randn(6, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert frechet_distance(features, features) < 1e-10
    assert frechet_distance(flat, flat) < 1e-8


def test_known_gaussians_have_their_closed_form() -> None:
    features = whitened(200, 5)
    shift = torch.tensor([1.0, 0, -2, 0, 0.5], dtype=torch.float64)
    scale = torch.tensor([1.0, 2, 3, 0.5, 0], dtype=torch.float64)
    expected = float(shift.square().sum() + (scale - 1).square().sum())
    assert frechet_distance(whitened(80, 5, seed=1) * scale + shift, features) == pytest.approx(expected, abs=1e-9)


def test_covariances_that_do_not_commute_match_the_matrix_root() -> None:
    mix = torch.tensor([[1.0, 0.8], [0.0, 0.6]], dtype=torch.float64)
    other = torch.tensor([[2.0, 0.0], [-0.7, 0.5]], dtype=torch.float64)
    a, b = mix.T @ mix, other.T @ other
    root = torch.linalg.eigvals(a @ b).real.sqrt().sum()  # the trace of the root of a product of two covariances
    expected = float(a.trace() + b.trace() - 2 * root)
    assert frechet_distance(whitened(90, 2) @ mix, whitened(70, 2, seed=1) @ other) == pytest.approx(expected, abs=1e-9)


def test_it_is_symmetric_and_unmoved_by_rotation() -> None:
    a, b = whitened(60, 4) + 1, whitened(50, 4, seed=2) * 2
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))).Q
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))
    assert frechet_distance(a @ turn, b @ turn) == pytest.approx(frechet_distance(a, b))


def test_one_feature_is_enough() -> None:
    assert frechet_distance(whitened(50, 1) * 3 + 2, whitened(50, 1)) == pytest.approx(4 + 4)


def test_misfits_are_refused() -> None:
    with pytest.raises(ValueError, match="at least two clips"):
        frechet_distance(torch.zeros(1, 3), torch.zeros(4, 3))
    with pytest.raises(ValueError, match="width 3 cannot be compared with width 2"):
        frechet_distance(torch.zeros(4, 3), torch.zeros(4, 2))
    with pytest.raises(ValueError, match="infinite"):
        frechet_distance(torch.full((4, 3), torch.inf), torch.zeros(4, 3))
