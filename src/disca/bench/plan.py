"""From a grid to trials and rows: full runs, cached ones, and beside them their rivals of plain steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from disca.bench.grid import Grid, MethodEntry, ModelEntry, Options, PeerEntry, frozen, tag, write_method
from disca.bench.models import Model, Pairs
from disca.bench.peers import PEERS, PeerDriver, check_peer
from disca.bench.rows import AGAIN, Row
from disca.bench.sampling import Trial
from disca.caching.gates import Broadcast, Gate, Static
from disca.caching.methods import METHODS, from_name
from disca.caching.policy import Policy

AGAIN_EVERY = 4
"""Full runs are timed again in every so many turns, beside rivals that are known only later."""


@dataclass
class Cells:
    """The rows of a grid, and the trials that they share."""

    grid: Grid
    models: Mapping[str, Model]
    rows: list[Row] = field(default_factory=list)
    sampled: dict[str, Trial] = field(default_factory=dict)
    """Trials that took their turns already, before later rows were known."""

    @property
    def trials(self) -> list[Trial]:
        """Each once, with all the references that its rows name; peers' are sampled elsewhere."""
        found: dict[str, Trial] = {}
        for row in [row for row in self.rows if row.extra["kind"] != "peer"]:
            one = found.get(row.trial.name, row.trial)
            references = (*one.references, *([row.reference] if row.reference else []))
            found[one.name] = replace(one, references=tuple(dict.fromkeys(references)))
        return list(found.values())

    def add(self, row: Row) -> None:
        """A row, unless there is one of its name."""
        if row.name not in [other.name for other in self.rows]:
            self.rows.append(row)

    def full(self, entry: ModelEntry, steps: int, batch: int) -> str:
        """Name of the full run of a model, which gets a row."""
        trial = self._plain(entry, steps, "euler", batch)
        label = f"{entry.name}, {steps} steps" + ("" if batch == self.grid.batch else f", batch {batch}")
        self.add(Row(name=trial.name, label=label, trial=trial, extra={"kind": "full", "model": entry.name}))
        return trial.name

    def cached(self, entry: ModelEntry, steps: int, method: str, options: Options) -> None:
        """A row of a method, with its full run before it."""
        policy = policy_of(method, options, self.models[entry.name], steps)
        batch = 1 if any(decides(rule.when) for rule in policy) else self.grid.batch
        full = self.full(entry, steps, batch)
        written, told = write_method(method, options), tag(options)
        name = "_".join(filter(None, (method, entry.name, str(steps), told)))
        if any(row.name == name and row.policy != written for row in self.rows):  # another list of as many full steps
            told = tag(options, whole=True)
            name = f"{method}_{entry.name}_{steps}_{told}"
        trial = Trial(name=name, model=self.models[entry.name], steps=steps, policy=policy, batch=batch)
        label = f"{entry.name} + {written}, {steps} steps"
        extra = {"kind": "cached", "model": entry.name, "method": method, "options": dict(options)}
        extra["short"] = " ".join(filter(None, (method, told)))
        self.add(Row(name=name, label=label, trial=trial, policy=written, reference=full, over=full, extra=extra))

    def peer(self, entry: ModelEntry, steps: int, peer: str, options: Options) -> None:
        """A row of another library's method. Its process times the full run again, beside it."""
        batch = 1 if PEERS[peer].gated else self.grid.batch
        full = self.full(entry, steps, batch)
        name = "_".join(filter(None, (peer.replace(".", "_"), entry.name, str(steps), tag(options))))
        written = write_method(peer, options)
        driver = PeerDriver(peer, options)
        trial = Trial(name=name, model=self.models[entry.name], steps=steps, policy=driver, batch=batch)
        label = f"{entry.name} + {written}, {steps} steps"
        extra = {"kind": "peer", "model": entry.name, "method": peer, "options": dict(options), "short": peer}
        over = f"{full}{AGAIN}-{peer}"
        self.add(Row(name=name, label=label, trial=trial, policy=written, reference=full, over=over, extra=extra))

    def rivals(self, row: Row, count: int) -> list[str]:
        """Rows of ``count`` plain steps, compared with what ``row`` is compared with; their names."""
        entry = next(entry for entry in self.grid.models if entry.name == row.extra["model"])
        names = []
        for solver in self.grid.rivals:
            if (self.models[entry.name].student and solver != "euler") or not 0 < count < row.trial.steps:
                continue
            full = self.full(entry, row.trial.steps, self.grid.batch)
            trial = self._compared(self._plain(entry, count, solver, self.grid.batch), full)
            name = f"{entry.name}_{row.trial.steps}_plain_{count}{_suffix(solver)}"
            over = full if not self.sampled or trial.name in self.sampled else full + AGAIN
            label = f"{entry.name}, {count} plain steps by {_SOLVER_WORDS[solver]}"
            extra = {"kind": "rival", "model": entry.name, "short": f"{count} steps{_suffix(solver).replace('_', ' ')}"}
            self.add(Row(name=name, label=label, trial=trial, reference=full, over=over, extra=extra))
            names.append(name)
        return names

    def again(self) -> list[Trial]:
        """The trials that time full runs again, beside rivals that were known only later."""
        wanted = dict.fromkeys(row.over for row in self.rows if row.over and row.over.endswith(AGAIN))
        return [self.twin(name) for name in wanted]

    def twin(self, name: str) -> Trial:
        """A full run under another name, which only times it again."""
        full = next(row.trial for row in self.rows if row.trial.name == name.partition(AGAIN)[0])
        return replace(full, name=name, references=(), every=AGAIN_EVERY)

    def _compared(self, trial: Trial, full: str) -> Trial:
        """The trial, or a twin where it was sampled already without being compared with ``full``."""
        done = self.sampled.get(trial.name)
        return trial if done is None or full in done.references else replace(trial, name=f"{trial.name}_for_{full}")

    def _plain(self, entry: ModelEntry, steps: int, solver: str, batch: int) -> Trial:
        name = f"{entry.name}_{steps}{_suffix(solver)}" + ("" if batch == self.grid.batch else f"_batch{batch}")
        return Trial(name=name, model=self.models[entry.name], steps=steps, solver=solver, batch=batch)


_SOLVER_WORDS = {"euler": "Euler", "ab2": "Adams-Bashforth 2", "unipc": "UniPC"}


def _suffix(solver: str) -> str:
    return "" if solver == "euler" else f"_{solver}"


def cells_of(grid: Grid, models: Mapping[str, Model]) -> Cells:
    """All rows that can be known before anything is sampled. Rivals of rows that decide while they run come later.

    Raises:
        ValueError: an unknown method or option, options that cannot be or do not fit a step count, no rows.
    """
    cells = Cells(grid, models)
    for entry in grid.models:
        for steps in entry.steps:
            cells.full(entry, steps, grid.batch)
            for method, options in settings(grid.methods, entry, steps):
                cells.cached(entry, steps, method, options)
            for peer, options in settings(grid.peers, entry, steps):
                check_peer(peer, options)
                cells.peer(entry, steps, peer, options)
    for row in [row for row in cells.rows if row.extra["kind"] == "cached"]:
        assert isinstance(row.trial.policy, tuple)
        known = full_steps(row.trial.policy, row.trial.steps)
        if known is not None:
            cells.rivals(row, len(known))
    return cells


def settings(
    entries: Iterable[MethodEntry | PeerEntry], model: ModelEntry, steps: int
) -> Iterable[tuple[str, dict[str, Any]]]:
    """Name and options of everything that the entries want of a model at a step count."""
    for entry in entries:
        if (entry.models and model.name not in entry.models) or (entry.steps and steps not in entry.steps):
            continue
        for options in entry.settings:
            yield entry.method if isinstance(entry, MethodEntry) else entry.peer, frozen(options)


def policy_of(method: str, options: Options, model: Model, steps: int) -> Policy:
    """The policy of a method for a model.

    Raises:
        ValueError: as :func:`disca.caching.methods.from_name`; a schedule that does not fit the steps; an interval
            longer than the run.
    """
    given = dict(options)
    if method in METHODS and "predictor" in METHODS[method].options and model.predictor is not None:
        given.setdefault("predictor", model.predictor)
    policy = from_name(method, **given)
    every = options.get("every")
    if isinstance(every, int) and every > steps:
        raise ValueError(
            f"{write_method(method, options)} computes every {every} steps in full, but the run has {steps}. Choose "
            f"every below {steps}, or sample more steps."
        )
    full_steps(policy, steps)
    return policy


def full_steps(policy: Policy, steps: int) -> tuple[int, ...] | None:
    """The steps that a policy computes wholly, or None where it decides while it runs.

    Raises:
        ValueError: a schedule that does not fit the number of steps.
    """
    gates = [rule.when for rule in policy]
    plans = [set(gate.schedule(steps).full_steps) for gate in gates if isinstance(gate, Static)]
    if len(plans) < len(gates):
        return None
    return tuple(sorted(set.intersection(*plans))) if plans else tuple(range(steps))


def decides(gate: Gate) -> bool:
    """Whether a gate decides by what it sees, for a whole batch at once."""
    return not isinstance(gate, Static | Broadcast)


def pairs_of(grid: Grid, models: Iterable[Model]) -> Pairs:
    """The pairs that every trial samples.

    Raises:
        ValueError: the grid has no prompts, and the models have none of their own.
    """
    if grid.prompts:
        chosen = [(prompt, seed) for prompt in grid.prompts for seed in grid.seeds]
        return Pairs(tuple(prompt for prompt, _ in chosen), tuple(seed for _, seed in chosen))
    own = next((model.prompts for model in models if model.prompts), ())
    if not own or not grid.pairs:
        more = ", or how many pairs of the model's own prompts." if own else "; the models have none of their own."
        raise ValueError(f"The grid {grid.name!r} has no rows to sample: give prompts and seeds{more}")
    seeds = tuple(range(grid.seed * 1_000_000, grid.seed * 1_000_000 + grid.pairs))
    return Pairs(_choose(own, grid.pairs, grid.seed), seeds)


def _choose(prompts: Sequence[str], count: int, seed: int) -> tuple[str, ...]:
    """``count`` prompts, each as often as any other up to one, in an order given by the seed."""
    from random import Random

    draw = Random(seed)
    chosen: list[str] = []
    while len(chosen) < count:
        chosen += draw.sample(list(prompts), len(prompts))
    return tuple(chosen[:count])
