"""Record where the features of the trunk go along a run, full and forecast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from disca.bench.models import Model, Pairs
from disca.bench.sampling import Trial, sample
from disca.caching.forecasts import Forecast, Nothing
from disca.caching.gates import Every
from disca.caching.policy import Policy, Rule
from disca.caching.sites import Trunk
from disca.features import Call, Features, Moment
from disca.trajectories import Trajectories, Trajectory

LEAST = 3
"""Steps of a run that has two principal components."""
TOKENS = 256
"""Of the video's, evenly spaced, so many are looked at: the features of 50 steps of a large model fill a disk."""


@dataclass(frozen=True)
class Seen:
    """What a site gave at one step."""

    step: int
    branch: str
    full: bool
    features: Tensor
    """``[tokens, width]`` of the first clip."""


@dataclass(frozen=True)
class Watched(Forecast[Any]):
    """Another forecast, and a list of what its site gave."""

    how: Forecast[Any]
    seen: list[Seen]

    @property
    def reads(self) -> frozenset[str]:
        return self.how.reads

    def start(self) -> Any:
        return self.how.start()

    def observe(self, memory: Any, moment: Moment, call: Call, outputs: Features) -> None:
        self.how.observe(memory, moment, call, outputs)
        self._see(moment, outputs, full=True)

    def predict(self, memory: Any, moment: Moment, call: Call) -> Features:
        outputs = self.how.predict(memory, moment, call)
        self._see(moment, outputs, full=False)
        return outputs

    def held(self, memory: Any) -> tuple[Tensor, ...]:
        return self.how.held(memory)

    def check(self, host: nn.Module) -> None:
        self.how.check(host)

    def join(self, host: nn.Module) -> Callable[[], None]:
        return self.how.join(host)

    def _see(self, moment: Moment, outputs: Features, *, full: bool) -> None:
        tokens = outputs[0][0].detach()
        chosen = torch.linspace(0, len(tokens) - 1, min(TOKENS, len(tokens)), device=tokens.device).round().long()
        self.seen.append(Seen(moment.step, moment.branch, full, tokens[chosen].float().cpu()))


def of_the_trunk(policy: Policy) -> bool:
    """Whether a policy is one rule for all blocks, whose features these are."""
    return len(policy) == 1 and policy[0].where == Trunk()


def record(
    model: Model, policies: Mapping[str, Policy], *, reference: str, prompt: str, seed: int, steps: int
) -> Trajectories:
    """Sample one clip with each policy and in full, and see the trunk's features after each step.

    Args:
        policies: of the trunk, by the names of their records; see :func:`of_the_trunk`.
        reference: name of the full run's record.

    Raises:
        ValueError: a policy that is not one rule of the trunk, or fewer than three steps.
    """
    if steps < LEAST:
        raise ValueError(f"A trajectory in two dimensions needs at least three steps, not {steps}.")
    for name, policy in policies.items():
        if not of_the_trunk(policy):
            raise ValueError(
                f"The policy of {name} is not one rule for all blocks, so it caches no features of the trunk."
            )
    rules = {reference: Rule(Trunk(), Every(1), Nothing())} | {name: policy[0] for name, policy in policies.items()}
    seen = {name: _run(model, name, rule, Pairs((prompt,), (seed,)), steps) for name, rule in rules.items()}
    whole = torch.stack([one.features.flatten() for one in seen[reference]])
    axes, explained = principal(whole)
    return Trajectories(
        prompt=prompt,
        seed=seed,
        reference=reference,
        explained=explained,
        tokens=len(seen[reference][0].features),
        runs=tuple(_trajectory(name, found, whole, axes) for name, found in seen.items()),
    )


def principal(features: Tensor) -> tuple[Tensor, tuple[float, float]]:
    """The first two principal components ``[2, size]`` of some features ``[steps, size]``, turned so that a run goes to
    the right, and the shares of the variance along them."""
    centred = features - features.mean(dim=0)
    _, lengths, axes = torch.linalg.svd(centred, full_matrices=False)
    first, second = (float(share) for share in (lengths**2 / (lengths**2).sum().clamp(min=1e-30))[:2])
    signs = torch.sign(axes[:2] @ (centred[-1] - centred[0]))
    return axes[:2] * torch.where(signs == 0, 1.0, signs)[:, None], (first, second)


def _run(model: Model, name: str, rule: Rule, pairs: Pairs, steps: int) -> list[Seen]:
    """What the trunk gave at each step, in the branch that comes first."""
    seen: list[Seen] = []
    watched = replace(rule, how=Watched(rule.how, seen))
    sample(Trial(name=name, model=model, steps=steps, policy=(watched,)), pairs)
    return [one for one in seen if one.branch == seen[0].branch]


def _trajectory(name: str, seen: list[Seen], whole: Tensor, axes: Tensor) -> Trajectory:
    features = torch.stack([one.features.flatten() for one in seen])
    points = (features - whole.mean(dim=0)) @ axes.T
    distance = (features - whole).norm(dim=1) / whole.norm(dim=1)
    return Trajectory(
        name=name,
        points=tuple((x, y) for x, y in points.tolist()),
        full=tuple(one.full for one in seen),
        distance=tuple(distance.tolist()),
    )
