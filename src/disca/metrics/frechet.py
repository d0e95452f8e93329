"""Distance between two sets of clips as a whole: it sees collapse, which accuracy does not."""

from __future__ import annotations

import torch
from torch import Tensor


def frechet_distance(features: Tensor, reference: Tensor) -> float:
    """Frechet distance between the Gaussians fitted to two sets of features (Dowson and Landau 1982; FID of
    arXiv:1706.08500, equation 6): ``|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2))``.

    Args:
        features: ``[clips, width]``.
        reference: ``[other clips, width]``; the number of clips may differ.

    Raises:
        ValueError: the widths differ, a set has fewer than two clips, or a value is not finite.
    """
    _check(features, reference)
    first, second = features.double(), reference.double()
    means = (first.mean(dim=0) - second.mean(dim=0)).square().sum()
    a, b = _root(_covariance(first)), _root(_covariance(second))
    # tr (C C')^(1/2) is the sum of singular values of C^(1/2) C'^(1/2): no root of an eigenvalue near zero is taken.
    cross = torch.linalg.svdvals(a @ b).sum()
    return max(0.0, float(means + a.square().sum() + b.square().sum() - 2 * cross))


def _covariance(features: Tensor) -> Tensor:
    return features.T.cov().reshape(features.shape[1], features.shape[1])


def _root(covariance: Tensor) -> Tensor:
    """Symmetric square root of a covariance ``[width, width]``; negative eigenvalues, rounding errors, count as 0."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root


def _check(features: Tensor, reference: Tensor) -> None:
    for name, given in (("features", features), ("reference", reference)):
        if given.ndim != 2 or given.shape[0] < 2:
            raise ValueError(f"{name} must be [clips, width] with at least two clips, not {tuple(given.shape)}.")
        if not given.isfinite().all():
            raise ValueError(f"{name} holds values that are infinite or undefined.")
    if features.shape[1] != reference.shape[1]:
        raise ValueError(f"Features of width {features.shape[1]} cannot be compared with width {reference.shape[1]}.")
