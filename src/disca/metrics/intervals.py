"""How sure a number is: an interval for a mean and one for a share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Interval(NamedTuple):
    """Both ends of an interval; a plain pair where one is wanted."""

    low: float
    high: float


def bootstrap(
    values: Sequence[float] | NDArray[np.floating], *, level: float = 0.95, resamples: int = 4000, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of a mean (Efron and Tibshirani 1993, section 13.3); equal seeds give equal ends.

    Args:
        values: one finite number per clip.
        level: how often the interval should cover the true mean.
        resamples: how many times the clips are drawn anew, with replacement.
        seed: of the drawing.

    Raises:
        ValueError: there are no values, or one is not finite (an infinite PSNR has no mean).
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"An interval of a mean needs a row of finite values, not {_describe(array)}.")
    return _ends(array[_draw(array.size, resamples, seed)].mean(axis=1).tolist(), level)


def bootstrap_ratio(
    values: Sequence[float] | NDArray[np.floating],
    over: Sequence[float] | NDArray[np.floating],
    *,
    level: float = 0.95,
    resamples: int = 4000,
    seed: int = 0,
) -> Interval:
    """The same for a ratio of means, where both values of a clip are drawn together.

    Raises:
        ValueError: the lengths differ, or the values are not finite, or those of ``over`` not positive on the whole.
    """
    first, second = np.asarray(values, dtype=np.float64), np.asarray(over, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or not np.isfinite(first + second).all() or second.sum() <= 0:
        raise ValueError(f"A ratio of means needs two equal rows of finite values, not {first} over {second}.")
    rows = _draw(first.size, resamples, seed)
    below = second[rows].mean(axis=1)
    return _ends((first[rows].mean(axis=1)[below > 0] / below[below > 0]).tolist(), level)


def bootstrap_seeds(
    values: Sequence[Sequence[float]],
    over: Sequence[Sequence[float]],
    *,
    level: float = 0.95,
    resamples: int = 4000,
    seed: int = 0,
) -> tuple[float, Interval]:
    """A ratio of means over training seeds and clips, and its interval: seeds and clips are both drawn anew, each by
    itself (the pigeonhole bootstrap, Owen 2007), since clips are the same for all seeds.

    Args:
        values: ``[seeds][clips]``; ``over`` likewise, with the same seeds and clips.

    Raises:
        ValueError: the shapes differ, or the values are not finite, or those of ``over`` not positive on the whole.
    """
    first, second = np.asarray(values, dtype=np.float64), np.asarray(over, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 2 or not np.isfinite(first + second).all() or second.sum() <= 0:
        raise ValueError("A ratio over seeds needs two equal tables of finite values, a row for each seed.")
    draw = np.random.default_rng(seed)
    seeds, clips = first.shape
    ratios = []
    for _ in range(resamples):
        drawn = np.ix_(draw.integers(seeds, size=seeds), draw.integers(clips, size=clips))
        ratios.append(float(first[drawn].sum() / second[drawn].sum()))
    return float(first.sum() / second.sum()), _ends(ratios, level)


def bootstrap_statistic(
    statistic: Callable[[NDArray[np.intp]], float],
    size: int,
    *,
    level: float = 0.95,
    resamples: int = 200,
    seed: int = 0,
) -> Interval:
    """The same for any number: ``statistic`` gets the indices of the clips that were drawn.

    Drawing clips twice biases some numbers by itself, Frechet distances upward; the interval is shifted back by this
    bias, the mean of the drawings minus the number itself.

    Raises:
        ValueError: there are fewer than two clips.
    """
    if size < 2:
        raise ValueError(f"A bootstrap of a statistic needs at least two clips, not {size}.")
    values = np.asarray([statistic(rows) for rows in _draw(size, resamples, seed)])
    bias = values.mean() - statistic(np.arange(size))
    return _ends((values - bias).tolist(), level)


@lru_cache(maxsize=4)
def _draw(size: int, resamples: int, seed: int) -> NDArray[np.intp]:
    """Indices ``[resamples, size]``; every number of a table is drawn by the same."""
    draw = np.random.default_rng(seed)
    return np.stack([draw.integers(size, size=size) for _ in range(resamples)])


def _ends(values: Sequence[float], level: float) -> Interval:
    _check_level(level)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def wilson(successes: int, trials: int, *, level: float = 0.95) -> Interval:
    """Wilson's score interval of a share (Wilson 1927, as in Brown, Cai and DasGupta 2001, equation 4).

    Unlike the textbook interval it stays inside [0, 1] and says something at 0 and at 100 %.

    Raises:
        ValueError: the counts cannot be.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} successes in {trials} trials cannot be.")
    _check_level(level)
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    reach = z / (1 + z**2 / trials) * sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    low = 0.0 if successes == 0 else centre - reach  # exact there, where rounding would miss the share
    high = 1.0 if successes == trials else centre + reach
    return Interval(low, high)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level is a probability between 0 and 1, such as 0.95, not {level}.")


def _describe(array: NDArray[np.float64]) -> str:
    if array.ndim != 1 or array.size == 0:
        return f"an array of shape {array.shape}"
    return f"{int((~np.isfinite(array)).sum())} infinite or undefined ones among {array.size}"
