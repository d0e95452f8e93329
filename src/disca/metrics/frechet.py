"""Distance between two sets of clips as a whole: it sees collapse, which accuracy does not."""

from __future__ import annotations

from dataclasses import dataclass

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
    return Gaussian.of(features, "features").distance(Gaussian.of(reference, "reference"))


@dataclass(frozen=True)
class Gaussian:
    """The Gaussian fitted to a set of features; worth keeping where many sets are compared with one."""

    mean: Tensor
    """``[width]``."""
    root: Tensor
    """Symmetric square root of the covariance, ``[width, width]``."""

    @classmethod
    def of(cls, features: Tensor, name: str = "features") -> Gaussian:
        """Fit to ``[clips, width]``.

        Raises:
            ValueError: there are fewer than two clips, or a value is not finite.
        """
        _check(features, name)
        return cls(features.double().mean(dim=0), _root(_covariance(features.double())))

    def distance(self, other: Gaussian) -> float:
        """Frechet distance.

        Raises:
            ValueError: the widths differ.
        """
        if self.mean.shape != other.mean.shape:
            raise ValueError(f"Features of width {len(self.mean)} cannot be compared with width {len(other.mean)}.")
        means = (self.mean - other.mean).square().sum()
        # tr (C C')^(1/2) is the sum of singular values of C^(1/2) C'^(1/2): no eigenvalue near zero has a root taken.
        cross = torch.linalg.svdvals(self.root @ other.root).sum()
        return max(0.0, float(means + self.root.square().sum() + other.root.square().sum() - 2 * cross))


def _covariance(features: Tensor) -> Tensor:
    return features.T.cov().reshape(features.shape[1], features.shape[1])


def _root(covariance: Tensor) -> Tensor:
    """Symmetric square root of a covariance ``[width, width]``; negative eigenvalues, rounding errors, count as 0."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root


def _check(given: Tensor, name: str) -> None:
    if given.ndim != 2 or given.shape[0] < 2:
        raise ValueError(f"{name} must be [clips, width] with at least two clips, not {tuple(given.shape)}.")
    if not given.isfinite().all():
        raise ValueError(f"{name} holds values that are infinite or undefined.")
