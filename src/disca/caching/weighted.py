"""How: past full outputs with weights of their own for each step, in closed form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from disca.caching.forecasts import Forecast, detached
from disca.caching.polynomials import Terms, weighted_sum
from disca.features import Call, Features, Moment
from disca.schedules import Schedule


@dataclass(frozen=True)
class Weighted(Forecast[Terms]):
    """A weighted sum of the last full outputs, newest first, with weights for each step of one schedule: the fit by
    least squares that a network has to beat (L2P-Cache, arXiv 2604.26365, learns such weights). Where fewer full
    steps are known than there are weights, such as after the switch to another transformer, the newest is used again.
    """

    weights: Mapping[int, tuple[float, ...]]

    @property
    def history(self) -> int:
        return max(map(len, self.weights.values()), default=1)

    def start(self) -> Terms:
        return Terms()

    def observe(self, memory: Terms, moment: Moment, call: Call, outputs: Features) -> None:
        again = memory.at[:1] == [moment.step]
        before = slice(again, self.history - 1 + again)
        memory.features = [detached(outputs), *memory.features[before]]
        memory.at = [moment.step, *memory.at[before]]

    def predict(self, memory: Terms, moment: Moment, call: Call) -> Features:
        weights = self.weights.get(moment.step)
        if weights is None:
            raise ValueError(
                f"No weights were fitted for step {moment.step}; there are some for {sorted(self.weights)}."
            )
        if len(weights) > len(memory.features):
            return memory.features[0]
        return weighted_sum(weights, memory.features[: len(weights)])

    def held(self, memory: Terms) -> tuple[Tensor, ...]:
        return tuple(tensor for features in memory.features for tensor in features)

    def __hash__(self) -> int:
        return hash(tuple(sorted(self.weights.items())))


def fitted(runs: Sequence[Sequence[Features]], schedule: Schedule, *, terms: int = 2) -> Weighted:
    """The weights that forecast recorded runs best along a schedule.

    For each forecast step they minimise the squared distance, over all runs, tokens and channels, of the outputs from
    the weighted sum of those of the last ``terms`` full steps, or as many as there were. A stream counts as much as it
    has numbers.

    Args:
        runs: outputs of every step of a run with every step full, a set of features each.
        schedule: which of the steps will be full.
        terms: how many full steps a forecast is made of.

    Raises:
        ValueError: no runs, or runs of another length.
    """
    if not runs or any(len(run) != schedule.steps for run in runs):
        raise ValueError(
            f"Weights for {schedule.steps} steps are fitted to runs of as many; given {list(map(len, runs))}."
        )
    weights = {}
    for step in schedule.forecast_steps:
        past = [full for full in schedule.full_steps if full < step][::-1][:terms]
        weights[step] = _least_squares([(run[step], [run[full] for full in past]) for run in runs])
    return Weighted(weights)


def _least_squares(pairs: Sequence[tuple[Features, list[Features]]]) -> tuple[float, ...]:
    """Weights by the normal equations, summed up in float64 run by run, so that no matrix of all runs is made."""
    products = torch.zeros(len(pairs[0][1]), len(pairs[0][1]), dtype=torch.float64)
    with_target = torch.zeros(len(pairs[0][1]), dtype=torch.float64)
    for target, past in pairs:
        for stream, wanted in enumerate(target):
            known = torch.stack([features[stream].flatten().double() for features in past])
            products += (known @ known.T).cpu()
            with_target += (known @ wanted.flatten().double()).cpu()
    return tuple(torch.linalg.lstsq(products, with_target[:, None], driver="gelsd").solution[:, 0].tolist())
