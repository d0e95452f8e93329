"""How a policy's forecasts err at every step of full runs, from every pair of full steps that they could be made from.

Nothing is run twice but the forecasts. Within each call of the transformer the trunk is computed once, which is also
what the run goes on with; then the call is made again for each pair of full steps before it, with the forecast that
would follow them and the host's own last layers. So the states are those of the full run, and the times, the branches
and the conditioning those of the pipeline, whatever pipeline it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from disca import hooks
from disca.caching.forecasts import Forecast
from disca.caching.gates import Gate
from disca.caching.policy import Policy
from disca.caching.run import Run, attach
from disca.features import Call, Features, Moment
from disca.metrics.flops import counting
from disca.planning import NONE, Costs, Key

HOOK = "disca trying"
Past = tuple[int, ...]
"""Full steps that a forecast is made from, the last of them last."""


@dataclass
class _Asked:
    """What the sites are to do in the call under way: forecast from these full steps, or compute and take notes."""

    past: Past | None = None


@dataclass(frozen=True, eq=False)
class _WhenAsked(Gate):
    asked: _Asked

    def opens(self, memory: Any, moment: Moment, call: Call) -> bool:
        return self.asked.past is None


@dataclass
class _Notes:
    """What a site saw at each step: what a forecast's memory would have been told there, to be told again."""

    told: dict[int, list[Callable[[Any], None]]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Tried(Forecast[_Notes]):
    """A forecast that can be asked for any full steps it could have been made from."""

    how: Forecast[Any]
    asked: _Asked
    window: int | None

    @property
    def reads(self) -> frozenset[str]:
        return self.how.reads

    def start(self) -> _Notes:
        return _Notes()

    def observe(self, memory: _Notes, moment: Moment, call: Call, outputs: Features) -> None:
        self._note(memory, moment, lambda inner: self.how.observe(inner, moment, call, outputs))

    def observe_part(self, memory: _Notes, moment: Moment, part: str, call: Call, outputs: Features) -> None:
        self._note(memory, moment, lambda inner: self.how.observe_part(inner, moment, part, call, outputs))

    def predict(self, memory: _Notes, moment: Moment, call: Call) -> Features:
        return self.how.predict(self._remembered(memory), moment, call)

    def predict_part(self, memory: _Notes, moment: Moment, part: str, call: Call) -> Features:
        return self.how.predict_part(self._remembered(memory), moment, part, call)

    def held(self, memory: _Notes) -> tuple[Tensor, ...]:
        return ()

    def check(self, host: nn.Module) -> None:
        self.how.check(host)

    def join(self, host: nn.Module) -> Callable[[], None]:
        return self.how.join(host)

    def _note(self, memory: _Notes, moment: Moment, tell: Callable[[Any], None]) -> None:
        memory.told.setdefault(moment.step, []).append(tell)
        if self.window is not None:
            memory.told = {step: told for step, told in memory.told.items() if step >= moment.step - self.window}

    def _remembered(self, memory: _Notes) -> Any:
        inner = self.how.start()
        for step in self.asked.past or ():
            for tell in memory.told[step]:
                tell(inner)
        return inner


@dataclass
class Found:
    """What one clip gave."""

    times: dict[int, tuple[float, float]] = field(default_factory=dict)
    squares: dict[tuple[Key, int], list[float]] = field(default_factory=dict)
    """Mean square error of the velocity at a step, of each branch."""
    moved: dict[tuple[Key, int], list[float]] = field(default_factory=dict)
    """Mean square of what the latents have been moved by."""
    switches: list[int] = field(default_factory=list)
    """Steps at which another transformer took over."""

    def costs(self, history: int) -> Costs:
        """As a table."""
        ends = [self.times[step] for step in sorted(self.times)]
        times = (*(t for t, _ in ends), ends[-1][1])
        return Costs(times, self._rows(self.squares), self._rows(self.moved), history, tuple(self.switches))

    def _rows(self, values: Mapping[tuple[Key, int], list[float]]) -> dict[Key, tuple[float, ...]]:
        rows: dict[Key, list[float]] = {}
        for (key, _), squares in sorted(values.items()):
            rows.setdefault(key, []).append((sum(squares) / len(squares)) ** 0.5)
        return {key: tuple(row) for key, row in rows.items()}


class Trying:
    """Stands in for the transformers of a target and tries their forecasts. Get one from :func:`trying`."""

    def __init__(self, history: int, longest: int | None) -> None:
        self.history, self.longest = history, longest
        self.asked = _Asked()
        self.run: Run | None = None
        self.found = Found()
        self.flops: tuple[int, int] | None = None
        """Operations of a call that is full, and of one that is forecast, once both were counted."""
        self.step_done: Callable[[], None] = lambda: None
        self._since = 0  # the first step of the transformer that is at work
        self._host: Any = None
        self._moved: dict[tuple[str, Key], Tensor] = {}

    def clip(self) -> Costs:
        """What the run that has ended gave; the next one is another clip's."""
        found, self.found = self.found, Found()
        self._host, self._since, self._moved = None, 0, {}
        return found.costs(min(self.history, 2))

    def policy(self, policy: Policy) -> Policy:
        """The rules, to be asked for any full steps."""
        window = None if self.longest is None else self.history * self.longest
        return tuple(
            replace(rule, when=_WhenAsked(self.asked), how=_Tried(rule.how, self.asked, window)) for rule in policy
        )

    def call(self, host: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """In the place of the host's forward."""
        assert self.run is not None and self.run.moment is not None
        moment = self.run.moment
        self._enter(host, moment)
        output = self._forward(None, forward, args, kwargs)
        for key in self._keys(moment.step):
            self._note(key, moment, self._forward(self._past(key), forward, args, kwargs)[0] - output[0])
        if self.flops is None and moment.step == self._since + 1:
            self.flops = self._counted((self._since,), forward, args, kwargs)
        self.asked.past = None
        return output

    def _forward(self, past: Past | None, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        assert self.run is not None
        self.asked.past = past
        self.run.again()
        return forward(*args, **kwargs)

    def _enter(self, host: nn.Module, moment: Moment) -> None:
        if host is not self._host:
            if self._host is not None:
                self.found.switches.append(moment.step)
            self._host, self._since, self._moved = host, moment.step, {}
        if moment.step not in self.found.times:
            self.found.times[moment.step] = (moment.t, moment.r)
            self.step_done()

    def _keys(self, step: int) -> Iterator[Key]:
        """The pairs of full steps that a forecast of this step could be made from."""
        first = self._since if self.longest is None else max(self._since, step - self.longest + 1)
        for last in range(first, step):
            if self.history == 1 or last == self._since:
                yield (NONE, last)
                continue
            begin = self._since if self.longest is None else max(self._since, last - self.longest)
            yield from ((previous, last) for previous in range(begin, last))

    def _past(self, key: Key) -> Past:
        """The full steps of a pair, and where more are looked at, earlier ones as far apart."""
        previous, last = key
        past = [last]
        while len(past) < self.history and past[-1] > self._since and previous != NONE:
            past.append(max(self._since, past[-1] - (last - previous)))
        return tuple(reversed(past))

    def _note(self, key: Key, moment: Moment, error: Tensor) -> None:
        error = error.detach().float()
        moved = self._moved.get((moment.branch, key), 0.0) + (moment.t - moment.r) * error
        self._moved[moment.branch, key] = moved
        self.found.squares.setdefault((key, moment.step), []).append(float(error.square().mean()))
        self.found.moved.setdefault((key, moment.step), []).append(float(moved.square().mean()))
        if self.longest is not None:
            self._moved = {at: kept for at, kept in self._moved.items() if at[1][1] > moment.step - self.longest}

    def _counted(self, past: Past, forward: Callable[..., Any], args: Any, kwargs: Any) -> tuple[int, int]:
        assert self.run is not None
        counts = []
        for full in (True, False):
            with ExitStack() as inside:
                if full:
                    inside.enter_context(self.run.aside())
                so_far = inside.enter_context(_counting(self._host))
                self._forward(past, forward, args, kwargs)
                counts.append(so_far())
        return counts[0], counts[1]


@contextmanager
def _counting(host: Any) -> Iterator[Callable[[], int]]:
    """Counts operations. Attention as plain mathematics is for the CPU, whose kernels are not counted; on another
    device it could take more memory than there is."""
    if next(host.parameters()).device.type == "cpu":
        with counting() as so_far:
            yield so_far
        return
    with FlopCounterMode(display=False) as counter:
        yield lambda: int(counter.get_total_flops())


@contextmanager
def trying(target: Any, policy: Policy, *, longest: int | None = None) -> Iterator[Trying]:
    """While inside, each run of the target is a full one, at each step of which the policy's forecasts are tried.

    Args:
        longest: full steps that are farther apart, or farther back, are not tried.

    Raises:
        ValueError: a forecast that cannot be tried without consequence.
    """
    for rule in policy:
        if not rule.how.settled:
            raise ValueError(
                f"{rule.how} changes what it keeps whenever it forecasts, so what it errs depends on all steps since "
                "the last full one, and there is no table of costs. Choose its full steps by hand."
            )
    tried = Trying(max(rule.how.history for rule in policy), longest)
    rules = tried.policy(policy)
    with ExitStack() as undo:
        for name in ("transformer", "transformer_2"):
            host = getattr(target, name, None)
            if host is not None:  # inside of the run's own hook, which is to see one call
                host = getattr(host, "_orig_mod", host)
                undo.callback(hooks.stand_in(host, partial(tried.call, host), HOOK))
        tried.run = undo.enter_context(attach(target, rules))
        with torch.no_grad():
            yield tried
