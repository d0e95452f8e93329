"""What a run knows about the sampling run that is under way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from disca.caching.summary import Ledger
from disca.features import Moment

Place = tuple[str, int]
"""A rule at work: the name of the transformer, and the rule's number in its policy."""

Site = tuple[Place, str, str]
"""A site at work: the rule, the branch, and the name of the site."""


BEFORE = Moment(step=-1, steps=0, t=1.0, r=1.0)
"""Before the first call of a run."""


@dataclass
class Progress:
    """Starts fresh with each sampling run."""

    run: object = None
    now: Moment = BEFORE
    """The moment of the call under way, or of the last one."""
    shape: torch.Size | None = None
    """Shape of the latents, and"""
    grid: tuple[int, int, int] | None = None
    """how the tokens that are made of them lie."""
    expert: str = ""
    """Name of the transformer that was called last."""
    branches: list[str] = field(default_factory=list)
    """Branches seen in the current step."""
    full: dict[Place, bool] = field(default_factory=dict)
    """What the gate of a rule said in the current step."""
    decided: dict[Site, bool] = field(default_factory=dict)
    """Whether a site is computed in full in the current call."""
    gates: dict[Place, Any] = field(default_factory=dict)
    """Memory of the gates, by rule."""
    forecasts: dict[Site, Any] = field(default_factory=dict)
    """Memory of the forecasts, by rule, branch and site."""
    ledger: Ledger = field(default_factory=Ledger)

    def step_to(self, moment: Moment, expert: str, branch: str | None) -> None:
        """A call of ``expert`` begins; branches without a name are counted within the step."""
        if self.now.step != moment.step:
            self.branches, self.full = [], {}
            if expert != self.expert:  # what another transformer knew is of no use to this one, and soon out of date
                self.forget()
        branch = str(len(self.branches)) if branch is None else branch
        self.branches.append(branch)
        self.expert, self.decided = expert, {}
        self.now = Moment(moment.step, moment.steps, moment.t, moment.r, branch, self.grid)

    def forget(self, branch: str | None = None) -> None:
        """Let go of the features of a branch that has taken its last step, or of everything that was remembered."""
        if branch is None:
            self.forecasts.clear()
            self.gates.clear()
        else:
            self.forecasts = {key: kept for key, kept in self.forecasts.items() if key[1] != branch}
            if not self.forecasts:
                self.gates.clear()
