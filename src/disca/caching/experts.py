"""The transformers of what is attached to: most targets have one, Wan 2.2 has two that take turns within a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from disca import hooks
from disca.adapters import Adapter, adapter_for
from disca.caching.forecasts import Nothing
from disca.caching.gates import Always
from disca.caching.policy import Policy, Rule, check_policy
from disca.caching.sites import Trunk
from disca.clock import Clock, SchedulerClock, clock_for
from disca.errors import unknown
from disca.features import Moment
from disca.meanflow.euler import require_euler
from disca.meanflow.second_time import SecondTime

HOOK = "disca_run"
"""Name of a run's hook on a transformer."""

NAMES = ("transformer", "transformer_2")
"""Components of a pipeline that denoise, in the order in which they take their turns."""

MEASURE: Policy = (Rule(Trunk(), Always(), Nothing()),)
"""Computes every step and counts."""

Policies = Iterable[Rule] | Mapping[str, Iterable[Rule]] | None
"""A policy for all transformers of a target, or one for each by its name."""


@dataclass(frozen=True)
class Expert:
    """One transformer, and what is done to it."""

    name: str
    transformer: nn.Module
    adapter: Adapter
    policy: Policy

    @property
    def is_student(self) -> bool:
        """Whether it gives mean velocities: it has a second time, or takes one by itself."""
        return SecondTime.of(self.transformer) is not None or self.adapter.takes_second_time(self.transformer)

    def check(self) -> None:
        """Raise ValueError where something is attached already, or the policy does not fit."""
        host = self.transformer
        if hooks.is_installed(host, HOOK):
            raise ValueError(
                f"A policy is attached to this {type(host).__name__} already. Call detach() on its run, or leave its "
                "with block, first."
            )
        self.adapter.check(host)
        for rule in self.policy:
            rule.how.check(host)
            if rule.when.made_for is not None:
                rule.when.made_for.check(type(host).__name__, len(self.adapter.blocks(host)))

    def check_arguments(self, arguments: Mapping[str, Any]) -> None:
        """Raise ValueError where a call has what the trunk as one would leave out."""
        for name in self.adapter.between_blocks:
            if arguments.get(name) is not None and any(rule.where.holds_blocks for rule in self.policy):
                raise ValueError(
                    f"The transformer is called with {name}, which it adds between its blocks. It cannot while a "
                    "policy holds all blocks as one. Detach, or sample without it."
                )

    @cached_property
    def _config(self) -> Any:
        return self.transformer.config

    def grid(self, arguments: Mapping[str, Any]) -> tuple[int, int, int] | None:
        """Frames, rows and columns of the video tokens in a call, where the host says."""
        return self.adapter.grid(self._config, arguments)

    def second_timestep(self, arguments: Mapping[str, Any], now: Callable[[], Moment]) -> dict[str, Tensor]:
        """r by the name of the host's own input for it, where it has one that the call leaves empty. In float32, also
        where the call rounded t."""
        name, adapter = self.adapter.second_timestep, self.adapter
        if name is None or not adapter.takes_second_time(self.transformer) or arguments.get(name) is not None:
            return {}
        t = torch.as_tensor(arguments[adapter.timestep])
        return {name: torch.full(t.shape, adapter.timestep_at(now().r), dtype=torch.float32, device=t.device)}


def experts_of(target: Any, policy: Policies) -> list[Expert]:
    """The transformers of a pipeline, or a bare one, with the policy of each.

    Raises:
        ValueError: nobody described a transformer; a policy that is none, or for a transformer that is not there.
    """
    transformers = _transformers(target)
    policies = _policies(policy, transformers)
    return [Expert(name, host, adapter_for(host), policies[name]) for name, host in transformers.items()]


def clock_of(target: Any, experts: Sequence[Expert], timesteps: Sequence[float] | Tensor | None) -> Clock:
    """The clock of all experts, which share a scheduler; one that keeps to Euler steps where there is a student."""
    adapter = experts[0].adapter
    clock = clock_for(target, timesteps, scale=adapter.time_scale, ascends=adapter.time_ascends)
    if not (isinstance(clock, SchedulerClock) and any(expert.is_student for expert in experts)):
        return clock
    check = partial(require_euler, ascends=adapter.time_ascends)
    check(target.scheduler)
    return SchedulerClock(lambda: target.scheduler, ascends=adapter.time_ascends, check=check)


def _transformers(target: Any) -> dict[str, nn.Module]:
    """What denoises, by name; without the wrapping of ``torch.compile(transformer)``."""
    found = {"transformer": target}
    if hasattr(target, "scheduler"):
        found = {name: getattr(target, name, None) for name in NAMES}
    return {name: getattr(host, "_orig_mod", host) for name, host in found.items() if host is not None}


def _policies(policy: Policies, transformers: Mapping[str, nn.Module]) -> dict[str, Policy]:
    given = policy if isinstance(policy, Mapping) else dict.fromkeys(transformers, policy or ())
    for name in given:
        if name not in transformers:
            raise ValueError(unknown("transformer", name, transformers))
    return {name: check_policy(given.get(name) or ()) or MEASURE for name in transformers}
