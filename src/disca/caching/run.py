"""Attach a policy to a live model, and remember what it has seen of one sampling run after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Any

from torch import Tensor, nn

from disca import hooks
from disca.adapters import Adapter, adapter_for
from disca.caching.forecasts import Nothing
from disca.caching.gates import Always
from disca.caching.policy import Policy, Rule, check_policy
from disca.caching.sites import Trunk
from disca.caching.summary import Ledger, Summary
from disca.clock import Clock, clock_for
from disca.features import Call, Features, Moment
from disca.meanflow.euler import require_euler
from disca.meanflow.second_time import SecondTime

HOOK = "disca_run"
"""Name of the run's hook on the transformer."""

MEASURE: Policy = (Rule(Trunk(), Always(), Nothing()),)
"""Computes every step and counts."""


def attach(
    target: Any, policy: Iterable[Rule] | None = (), *, timesteps: Sequence[float] | Tensor | None = None
) -> Run:
    """Attach a policy to a pipeline, or to a bare transformer with its timesteps.

    It is attached from here on until ``run.detach()``, or the end of a ``with`` block, also after an exception; then
    the model is as it was. A policy of no rules measures only. Each sampling run starts fresh.

    Args:
        target: a diffusers pipeline with a transformer and a scheduler, or the transformer.
        policy: what ``disca.reuse``, ``disca.taylor`` and the other methods give.
        timesteps: for a bare transformer, the N decreasing values that it will be called with, in its own units
            (1000 is noise for most), without the final 0. A repeated timestep is the next branch of the same step.

    Raises:
        ValueError: nobody described this transformer; something is attached to it already; a policy that does not
            fit it; timesteps missing, or given for a pipeline; a MeanFlow student under a scheduler it is not exact
            under.

    A transformer with a second time installed takes it from the moment of each call.
    """
    transformer = getattr(target, "transformer", target) if hasattr(target, "scheduler") else target
    transformer = getattr(transformer, "_orig_mod", transformer)  # what torch.compile(transformer) wraps
    adapter = adapter_for(transformer)
    if hasattr(target, "scheduler") and SecondTime.of(transformer) is not None:
        require_euler(target.scheduler)
    run = Run(transformer, policy, clock=clock_for(target, timesteps, scale=adapter.time_scale), adapter=adapter)
    run._attach()
    return run


@dataclass
class _Progress:
    """What a run knows about the sampling run that is under way; a new one starts fresh."""

    run: object = None
    moment: Moment | None = None
    branches: list[str] = field(default_factory=list)
    """Branches seen in the current step."""
    full: dict[tuple[int, str], bool] = field(default_factory=dict)
    """What the gate of a rule said to a branch in the current step."""
    gates: dict[tuple[int, str], Any] = field(default_factory=dict)
    """Memory of the gates, by rule and branch."""
    forecasts: dict[tuple[int, str, str], Any] = field(default_factory=dict)
    """Memory of the forecasts, by rule, branch and site."""
    ledger: Ledger = field(default_factory=Ledger)


class Run:
    """A policy at work on one transformer. Get one from :func:`attach`."""

    def __init__(
        self, transformer: nn.Module, policy: Iterable[Rule] | None, *, clock: Clock, adapter: Adapter
    ) -> None:
        self.transformer = transformer
        self.policy = check_policy(policy or ()) or MEASURE
        self._clock, self._adapter = clock, adapter
        self._undo = ExitStack()
        self._progress = _Progress()
        self._under_way = False
        self._aside = False

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()

    def detach(self) -> None:
        """Leave the model as it was, and let go of what was remembered. The summary stays."""
        self._undo.close()
        self.reset()

    def restart(self) -> None:
        """Forget everything: the next call begins a sampling run.

        Needed only for a bare transformer whose loop was given up within its first step and whose branches have no
        names; all other beginnings are noticed.
        """
        self._progress = _Progress()

    def summary(self) -> Summary:
        """What the last sampling run did."""
        return self._progress.ledger.summary()

    def _now(self) -> Moment:
        assert self._progress.moment is not None, "the transformer was called while nothing watched"
        return self._progress.moment

    @property
    def moment(self) -> Moment | None:
        """The moment of the call under way, or of the last one."""
        return self._progress.moment

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Calls inside are computed in full and leave no trace: how fitting asks what the whole model says."""
        self._aside = True
        try:
            yield
        finally:
            self._aside = False

    def visit(self, index: int, site: str, call: Call) -> Features:
        """A site of rule ``index`` is about to be evaluated: compute it and learn, or forecast it."""
        if self._aside:
            return call.compute(*call.inputs)
        rule, moment, ledger = self.policy[index], self._progress.moment, self._progress.ledger
        assert moment is not None, "a site was visited outside of a call of the transformer"
        key = (index, moment.branch, site)
        full = self._is_full(index, rule, moment, call) or key not in self._progress.forecasts
        with ledger.taking(full=full, moment=moment, device=call.inputs[0].device):
            if not full:
                return rule.how.predict(self._progress.forecasts[key], moment, call)
            outputs = call.compute(*call.inputs)
            memory = self._progress.forecasts.setdefault(key, rule.how.start())
            rule.how.observe(memory, moment, call, outputs)
        return outputs

    def _is_full(self, index: int, rule: Rule, moment: Moment, call: Call) -> bool:
        """What the gate says, asked once per step and branch."""
        key, progress = (index, moment.branch), self._progress
        if key not in progress.full:
            memory = progress.gates.setdefault(key, rule.when.start())
            progress.full[key] = rule.when.opens(memory, moment, call)
        return progress.full[key]

    def before(self, timestep: Any, branch: str | None) -> None:
        """A call of the transformer begins."""
        if self._aside:
            return
        moment = self._clock.moment(timestep)
        if self._begins(moment, branch):
            self.restart()
        progress = self._progress
        if progress.moment is None or progress.moment.step != moment.step:
            progress.branches, progress.full = [], {}
        branch = str(len(progress.branches)) if branch is None else branch
        progress.branches.append(branch)
        progress.run, progress.moment = self._clock.run, replace(moment, branch=branch)
        self._under_way = True

    def after(self) -> None:
        """The call is done. After the last step nothing needs to be remembered."""
        if self._aside:
            return
        self._under_way = False
        progress, moment = self._progress, self._progress.moment
        progress.ledger.bytes_held = max(progress.ledger.bytes_held, self.bytes_held())
        if moment is not None and moment.step == moment.steps - 1:
            progress.forecasts = {key: kept for key, kept in progress.forecasts.items() if key[1] != moment.branch}

    def reset(self) -> None:
        """The pipeline is done: let go of what was remembered."""
        self._progress.forecasts.clear()
        self._progress.gates.clear()

    def bytes_held(self) -> int:
        """Bytes of the tensors that are remembered now."""
        memories = self._progress.forecasts.items()
        tensors = (tensor for (index, _, _), memory in memories for tensor in self.policy[index].how.held(memory))
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def _begins(self, moment: Moment, branch: str | None) -> bool:
        """Whether a call is the first of a sampling run: the scheduler was set anew, the last call did not end, the
        step went back, or a branch comes a second time in a step."""
        last = self._progress.moment
        if last is None or self._under_way or self._clock.run is not self._progress.run:
            return True
        return moment.step < last.step or (moment.step == last.step and branch in self._progress.branches)

    def _attach(self) -> None:
        host = self.transformer
        if hooks.is_installed(host, HOOK):
            raise ValueError(
                f"A policy is attached to this {type(host).__name__} already. Call detach() on its run, or leave its "
                "with block, first."
            )
        for rule in self.policy:
            rule.how.check(host)
        with ExitStack() as undo:
            hooks.install(host, hooks.Watch(self, self._adapter.timestep), HOOK)
            undo.callback(hooks.remove, host, HOOK)
            second = SecondTime.of(host)
            if second is not None:
                undo.enter_context(second.told_by(self._now))
            for index, rule in enumerate(self.policy):
                rule.where.install(host, self._adapter, partial(self.visit, index), undo)
            self._undo = undo.pop_all()
