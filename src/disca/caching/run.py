"""Attach policies to live models, and remember what they have seen of one sampling run after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any

from torch import Tensor

from disca import hooks
from disca.caching.experts import HOOK, Expert, Policies, clock_of, experts_of
from disca.caching.policy import Rule
from disca.caching.progress import Place, Progress
from disca.caching.summary import Summary
from disca.clock import Clock
from disca.features import Call, Features, Moment
from disca.meanflow.second_time import SecondTime


def attach(target: Any, policy: Policies = (), *, timesteps: Sequence[float] | Tensor | None = None) -> Run:
    """Attach a policy to a pipeline, or to a bare transformer with its timesteps.

    It is attached from here on until ``run.detach()``, or the end of a ``with`` block, also after an exception; then
    the model is as it was. A policy of no rules measures only. Each sampling run starts fresh.

    A transformer that gives mean velocities is told where each step goes: through the second time installed in it, or
    its own input for r where the call leaves that empty.

    Args:
        target: a diffusers pipeline with a transformer and a scheduler, or the transformer.
        policy: what ``disca.reuse``, ``disca.taylor`` and the other methods give. A pipeline with two transformers that
            take turns (Wan 2.2) gets it for both, each with a memory of its own; or one policy for each, as
            ``{"transformer": ..., "transformer_2": ...}``, where one left out is only measured.
        timesteps: for a bare transformer, the N values that it will be called with, in its own units and order (for
            most, decreasing from 1000), without the final one. A repeated timestep is the next branch of the same step.

    Raises:
        ValueError: nobody described this transformer; something is attached to it already; a policy that does not
            fit it; timesteps missing, or given for a pipeline; a MeanFlow student under a scheduler it is not exact
            under.
    """
    experts = experts_of(target, policy)
    return Run(experts, clock=clock_of(target, experts, timesteps)).attach()


class Run:
    """Policies at work on the transformers of one target. Get one from :func:`disca.attach`."""

    def __init__(self, experts: Sequence[Expert], *, clock: Clock) -> None:
        self.experts = tuple(experts)
        self._clock = clock
        self._undo = ExitStack()
        self._progress = Progress()
        self._under_way = False
        self._aside = False
        self._learned = False  # whether something was observed in the call under way

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()

    def attach(self) -> Run:
        """From here on until :meth:`detach`. Where it is refused, nothing was touched."""
        for expert in self.experts:
            expert.check()
        with ExitStack() as undo:
            for expert in self.experts:
                self._install(expert, undo)
            self._undo = undo.pop_all()
        return self

    def detach(self) -> None:
        """Leave the model as it was, and let go of what was remembered. The summary stays."""
        self._undo.close()
        self.reset()

    def restart(self) -> None:
        """Forget everything: the next call begins a sampling run.

        Needed only for a bare transformer whose loop was given up within its first step and whose branches have no
        names; all other beginnings are noticed.
        """
        self._progress = Progress()

    def summary(self) -> Summary:
        """What the last sampling run did."""
        return self._progress.ledger.summary()

    @property
    def moment(self) -> Moment | None:
        """The moment of the call under way, or of the last one."""
        return self._progress.moment

    def _now(self) -> Moment:
        assert self._progress.moment is not None, "the transformer was called while nothing watched"
        return self._progress.moment

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Calls inside are computed in full and leave no trace: how fitting asks what the whole model says."""
        self._aside = True
        try:
            yield
        finally:
            self._aside = False

    def visit(self, rule: Rule, place: Place, site: str, call: Call) -> Features:
        """A site of ``rule`` is about to be evaluated: compute it and learn, or forecast it."""
        if self._aside:
            return call.compute(*call.inputs)
        moment, progress = self._now(), self._progress
        key = (place, moment.branch, site)
        full = self._is_full(rule, place, moment, call) or key not in progress.forecasts
        ledger, device = progress.ledger, call.inputs[0].device
        mark = ledger.watches[full].start(device)
        if full:
            outputs = call.compute(*call.inputs)
            memory = progress.forecasts.setdefault(key, rule.how.start())
            rule.how.observe(memory, moment, call, outputs)
            self._learned = True
        else:
            outputs = rule.how.predict(progress.forecasts[key], moment, call)
        ledger.watches[full].stop(mark, device)
        ledger.enter(moment, full=full)
        return outputs

    def _is_full(self, rule: Rule, place: Place, moment: Moment, call: Call) -> bool:
        """What the gate says, asked once per step and branch."""
        key, progress = (place, moment.branch), self._progress
        if key not in progress.full:
            memory = progress.gates.setdefault(key, rule.when.start())
            progress.full[key] = rule.when.opens(memory, moment, call)
        return progress.full[key]

    def before(self, expert: Expert, arguments: Mapping[str, Any], branch: str | None) -> Mapping[str, Any]:
        """A call of a transformer begins; gives what it is to receive besides."""
        expert.check_arguments(arguments)
        if not self._aside:
            moment = self._clock.moment(arguments[expert.adapter.timestep])
            if self._begins(moment, branch):
                self.restart()
            self._progress.step_to(moment, expert.name, branch)
            self._progress.run = self._clock.run
            self._under_way = True
        return expert.second_timestep(arguments, self._now)

    def after(self) -> None:
        """The call is done. After the last step nothing needs to be remembered."""
        if self._aside:
            return
        self._under_way = False
        progress, moment = self._progress, self._now()
        if self._learned:
            progress.ledger.bytes_held = max(progress.ledger.bytes_held, self.bytes_held())
            self._learned = False
        if moment.step == moment.steps - 1:
            progress.forget(moment.branch)

    def reset(self) -> None:
        """The pipeline is done: let go of what was remembered."""
        self._progress.forget()

    def bytes_held(self) -> int:
        """Bytes of the tensors that are remembered now."""
        rules = {(expert.name, index): rule for expert in self.experts for index, rule in enumerate(expert.policy)}
        memories = self._progress.forecasts.items()
        tensors = (tensor for (place, _, _), memory in memories for tensor in rules[place].how.held(memory))
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def _begins(self, moment: Moment, branch: str | None) -> bool:
        """Whether a call is the first of a sampling run: the scheduler was set anew, the last call did not end, the
        step went back, or a branch comes a second time in a step."""
        last = self._progress.moment
        if last is None or self._under_way or self._clock.run is not self._progress.run:
            return True
        return moment.step < last.step or (moment.step == last.step and branch in self._progress.branches)

    def _install(self, expert: Expert, undo: ExitStack) -> None:
        host = expert.transformer
        hooks.install(host, hooks.Watch(_Ear(partial(self.before, expert), self.after, self.reset)), HOOK)
        undo.callback(hooks.remove, host, HOOK)
        second = SecondTime.of(host)
        if second is not None:
            undo.enter_context(second.told_by(self._now))
        for index, rule in enumerate(expert.policy):
            undo.callback(rule.how.join(host))
            rule.where.install(host, expert.adapter, partial(self.visit, rule, (expert.name, index)), undo)


@dataclass(frozen=True)
class _Ear:
    """What the run wants to know about one transformer."""

    before: Callable[..., Mapping[str, Any]]
    after: Callable[[], None]
    reset: Callable[[], None]
