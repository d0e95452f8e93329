"""A caching method: where it intervenes, when it computes in full, and how it does without."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from disca.caching.forecasts import Forecast
from disca.caching.gates import Gate
from disca.caching.sites import Where


@dataclass(frozen=True)
class Rule:
    """One where x when x how."""

    where: Where
    when: Gate
    how: Forecast[Any]

    @property
    def reads(self) -> frozenset[str]:
        """Signals that gate and forecast read beside the inputs of the sites."""
        return self.when.reads | self.how.reads


Policy = tuple[Rule, ...]
"""Rules for different sites. A value: it can be printed, compared, and used by two pipelines at once."""


def check_policy(policy: Iterable[Rule]) -> Policy:
    """The rules as a policy.

    Raises:
        ValueError: something else than rules, or two rules for one site.
    """
    if isinstance(policy, str):
        raise ValueError(
            f"A policy is what disca.{policy}(...) gives, not its name; or use disca.from_name({policy!r})."
        )
    rules = tuple(policy) if isinstance(policy, Iterable) else (policy,)
    for rule in rules:
        if not isinstance(rule, Rule):
            raise ValueError(f"A policy is a tuple of rules, such as disca.taylor(every=4) gives; given {rule!r}.")
    for rule in rules:
        if missing := sorted(rule.reads - rule.where.signals):
            raise ValueError(f"{rule.when} and {rule.how} read {missing[0]}, which is not to be had at {rule.where}.")
    if len({rule.where for rule in rules}) < len(rules):
        raise ValueError(f"Two rules of the policy are for one site: {', '.join(str(rule.where) for rule in rules)}.")
    return rules
