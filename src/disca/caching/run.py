"""Attach policies to live models, and remember what they have seen of one sampling run after another."""

from __future__ import annotations

import warnings
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
from disca.caching.progress import BEFORE, Place, Progress, Site
from disca.caching.summary import Mark, Summary, mark_now
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
        self._rules = {(one.name, index): rule for one in self.experts for index, rule in enumerate(one.policy)}
        self._clock = clock
        self._undo = ExitStack()
        self._progress = Progress()
        self._under_way = False
        self._aside = False
        self._learned = False  # whether something was observed in the call under way,
        self._partial = False  # forecast,
        self._rejected = False  # or found wrong
        self._mark: Mark = 0.0

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
        return None if self._progress.now is BEFORE else self._progress.now

    def _now(self) -> Moment:
        if self._progress.now is BEFORE:
            raise RuntimeError(
                "A student was called aside before the first call of the run, so nobody knows where its step begins "
                "and ends. Call it in the run first."
            )
        return self._progress.now

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Calls inside are computed in full and leave no trace: how fitting asks what the whole model says."""
        before, self._aside = self._aside, True
        try:
            yield
        finally:
            self._aside = before

    def again(self) -> None:
        """Ask the gates anew in the call under way: how a step is tried in several ways."""
        self._progress.full, self._progress.decided = {}, {}

    def visit(self, rule: Rule, place: Place, site: str, call: Call) -> Features:
        """A site of ``rule`` is about to be evaluated: compute it and learn, or forecast it."""
        if self._aside:
            return call.compute(*call.inputs)
        progress = self._progress
        moment = progress.now
        key = (place, moment.branch, site)
        if not self._decided(rule, key, call):
            return rule.how.predict(progress.forecasts[key], moment, call)
        outputs = call.compute(*call.inputs)
        if not rule.when.observes(moment):
            progress.forecasts.pop(key, None)
            return outputs
        rule.how.observe(progress.forecasts.setdefault(key, rule.how.start()), moment, call, outputs)
        if moment.branch == progress.branches[0]:
            rule.when.observe(progress.gates[place], moment, call, outputs)
        self._learned = True
        return outputs

    def is_full(self, rule: Rule, place: Place, site: str, call: Call) -> bool:
        """Whether a site is computed in full: what the gate said in this step, and where nothing is known in any
        case."""
        return self._aside or self._decided(rule, (place, self._progress.now.branch, site), call)

    def _decided(self, rule: Rule, key: Site, call: Call) -> bool:
        """The same, remembered for the call under way. The gate is asked once per step."""
        progress = self._progress
        full = progress.decided.get(key)
        if full is not None:
            return full
        place, moment = key[0], progress.now
        if place not in progress.full:
            if place not in progress.gates:
                _warn_where_made_for_another(rule, moment)
                progress.gates[place] = rule.when.start()
            progress.full[place] = rule.when.opens(progress.gates[place], moment, call)
        full = progress.decided[key] = progress.full[place] or key not in progress.forecasts
        self._partial |= not full
        return full

    def part(self, rule: Rule, place: Place, site: str, name: str, call: Call) -> Features:
        """Something that runs only for a site is about to be evaluated, ahead of it."""
        if self._aside:
            return call.compute(*call.inputs)
        full, moment = self.is_full(rule, place, site, call), self._progress.now
        memory = self._progress.forecasts.setdefault((place, moment.branch, site), rule.how.start())
        if not full:
            return rule.how.predict_part(memory, moment, name, call)
        outputs = call.compute(*call.inputs)
        rule.how.observe_part(memory, moment, name, call, outputs)
        return outputs

    def check(self, rule: Rule, place: Place, drafted: Features, exact: Callable[[], Features], ranks: Any) -> None:
        """The last block gave ``drafted``: let the gate compare, where there were forecasts and it wants to. Where it
        decides about this very step, the first branch decides for all."""
        progress, moment = self._progress, self._progress.now
        memory = progress.gates.get(place)
        later = "same_step" in rule.reads and moment.branch != progress.branches[0]
        if self._aside or later or progress.full.get(place, True) or not rule.when.wants_check(memory, moment):
            return
        with self.aside():
            truth = exact()
        self._rejected = rule.when.check(memory, moment, drafted, truth, ranks)

    def rejected(self, place: Place) -> bool:
        """Whether the last check made this step a full one; from here on it is."""
        if not self._rejected:
            return False
        self._rejected = self._partial = False
        self._progress.full[place], self._progress.decided = True, {}
        return True

    def before(self, expert: Expert, arguments: Mapping[str, Any], branch: str | None) -> Mapping[str, Any]:
        """A call of a transformer begins; gives what it is to receive besides."""
        adapter = expert.adapter
        if adapter.between_blocks:
            expert.check_arguments(arguments)
        if not self._aside:
            moment, latents = self._clock.moment(arguments[adapter.timestep]), arguments[adapter.latents]
            if self._begins(moment, branch):
                self.restart()
            progress = self._progress
            if progress.shape != latents.shape:
                progress.shape, progress.grid = latents.shape, expert.grid(arguments)
            progress.step_to(moment, expert.name, branch)
            progress.run = self._clock.run
            self._under_way, self._partial, self._rejected = True, False, False
            self._mark = mark_now(latents)
        return expert.second_timestep(arguments, self._now) if adapter.second_timestep else {}

    def after(self) -> None:
        """The call is done. After the last step nothing needs to be remembered."""
        if self._aside:
            return
        self._under_way = False
        progress, moment = self._progress, self._progress.now
        progress.ledger.enter(moment, self._mark, full=not self._partial)
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
        rules, progress = self._rules, self._progress
        held = [rules[place].how.held(memory) for (place, _, _), memory in progress.forecasts.items()]
        held += [rules[place].when.held(memory) for place, memory in progress.gates.items()]
        tensors = {(t.untyped_storage()._cdata, t.storage_offset(), t.numel()): t for some in held for t in some}
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())

    def _begins(self, moment: Moment, branch: str | None) -> bool:
        """Whether a call is the first of a sampling run: the scheduler was set anew, the last call did not end, the
        step went back, or a branch comes a second time in a step."""
        last = self._progress.now
        if last is BEFORE or self._under_way or self._clock.run is not self._progress.run:
            return True
        return moment.step < last.step or (moment.step == last.step and branch in self._progress.branches)

    def _install(self, expert: Expert, undo: ExitStack) -> None:
        host = expert.transformer
        for index, rule in enumerate(expert.policy):
            undo.callback(rule.how.join(host))
            rule.where.install(host, expert.adapter, _Visitor(self, rule, (expert.name, index)), undo)
        hooks.install(host, hooks.Watch(_Ear(partial(self.before, expert), self.after, self.reset)), HOOK)
        undo.callback(hooks.remove, host, HOOK)
        second = SecondTime.of(host)
        if second is not None:
            undo.enter_context(second.told_by(self._now))


def _warn_where_made_for_another(rule: Rule, moment: Moment) -> None:
    differs = None if rule.when.made_for is None else rule.when.made_for.differs(moment)
    if differs:
        warnings.warn(
            f"The constants of this policy were measured on {differs}. Measure them again with disca calibrate.",
            stacklevel=2,
        )


@dataclass(frozen=True, eq=False)
class _Visitor:
    """What the sites of a rule ask."""

    run: Run
    rule: Rule
    place: Place

    @property
    def reads(self) -> frozenset[str]:
        return self.rule.reads

    def __call__(self, site: str, call: Call) -> Features:
        return self.run.visit(self.rule, self.place, site, call)

    def at(self, site: str) -> Callable[[Call], Features]:
        return partial(self.run.visit, self.rule, self.place, site)

    def is_full(self, site: str, call: Call) -> bool:
        return self.run.is_full(self.rule, self.place, site, call)

    def part(self, site: str, name: str, call: Call) -> Features:
        return self.run.part(self.rule, self.place, site, name, call)

    def check(self, drafted: Features, exact: Callable[[], Features], ranks: Any = None) -> None:
        self.run.check(self.rule, self.place, drafted, exact, ranks)

    def rejected(self) -> bool:
        return self.run.rejected(self.place)


@dataclass(frozen=True)
class _Ear:
    """What the run wants to know about one transformer."""

    before: Callable[..., Mapping[str, Any]]
    after: Callable[[], None]
    reset: Callable[[], None]
