"""What steps and runs take at the size that people use: true sizes, random weights, one record for each measurement.

Weights do not matter for seconds and bytes. Records are written as they are measured, and what a file has already is
not measured again, so a run that was killed goes on where it was.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch._subclasses.fake_tensor import DataDependentOutputException

import disca
from disca import records
from disca.bench.around import DECODE, STAGES, Plan, cost_of_stage, measured
from disca.bench.cost import HostCost, cost_of
from disca.bench.findings import comparison, end_to_end, facts_of, find, flops_of, medians
from disca.bench.loops import Sampler, built, waits
from disca.bench.machines import Machine, fit
from disca.bench.models import Model
from disca.bench.operations import Cost
from disca.bench.peers import PEERS, PeerDriver
from disca.bench.sizes import Size
from disca.bench.subjects import ALTERNATE, SETTINGS, Job
from disca.caching.methods import METHODS, from_name
from disca.caching.policy import Policy
from disca.provenance import command_line, hardware, now, versions
from disca.records import Record
from disca.schedules import Schedule

BRIEF = Schedule(2, (0,))
"""Warms up, and compiles."""


class Bench:
    """Measures jobs on a device. It holds one model at a time."""

    def __init__(self, device: torch.device, dtype: torch.dtype = torch.bfloat16, *, small: bool = False) -> None:
        self.device, self.dtype, self.small = device, dtype, small
        self._held: tuple[Any, Any] = (None, None)
        self._costs: dict[tuple[str, Size], HostCost] = {}

    def measure(self, job: Job, before: Sequence[Record] = ()) -> Record:
        """A record of the job. What could not run is recorded too, with why; ``before`` are records that it is compared
        with."""
        try:
            facts = self._facts(job, before)
        except torch.OutOfMemoryError:
            facts = {"outcome": "out of memory", "need_bytes": self._need(job, before)}
        except (ValueError, ImportError, NotImplementedError) as error:
            facts = {"outcome": f"not for this model: {error}".splitlines()[0]}
        finally:
            self._collect()
        return self._record(job, facts, before)

    def _facts(self, job: Job, before: Sequence[Record]) -> dict[str, Any]:
        if job.method in STAGES:
            return self._stage(job, before)
        return self._peer(job) if job.method in PEERS else self._method(job)

    def _sampler(self, job: Job) -> Sampler:
        """The model, kept as long as jobs are about it."""
        key = (job.subject.name, job.compiled)
        if self._held[0] != key:
            self._held = (None, None)
            self._collect()
            sampler = Sampler(job.subject.host, self.config(job), self.device, self.dtype)
            if job.compiled:
                sampler.transformer.compile_repeated_blocks(fullgraph=True)
            self._held = (key, sampler)
        found: Sampler = self._held[1]
        return found

    def _predictor(self, job: Job, sampler: Sampler) -> Any:
        """One for as long as the job takes, so that others' memory is without it; None where there is no need."""
        if "predictor" not in _options(job):
            return None
        predictor = built(lambda: disca.Predictor.from_host(sampler.transformer), self.device, self.dtype)
        if job.compiled:
            predictor.compile_repeated_blocks(fullgraph=True)
        return predictor

    def config(self, job: Job) -> dict[str, Any]:
        """The configuration of the job's model, at the bench's size."""
        return {**job.subject.config, **(job.subject.small if self.small else {})}

    def _method(self, job: Job) -> dict[str, Any]:
        sampler = self._sampler(job)
        predictor = self._predictor(job, sampler)
        policy = _policy(job, predictor)
        if job.schedule != ALTERNATE or job.compiled:  # otherwise the first steps warm up
            with disca.attach(sampler, _policy(replace(job, schedule=BRIEF), predictor)):
                sampler.sample(job.size, BRIEF.steps)
        counted = {"waits": self._waits(job, sampler, predictor)} if self._is_profiled(job) else {}
        with disca.attach(sampler, policy) as run:
            sampled = sampler.sample(job.size, job.schedule.steps)
            summary = run.summary()
        full = {step for steps in summary.branches.values() for step in steps.full}
        return {
            **facts_of(sampled),
            "policy": _written(policy),
            "full_steps": tuple(sorted(full)),
            **medians(sampled.calls, full, skip=job.schedule == ALTERNATE),
            "cache_bytes": summary.bytes_held,
            **counted,
        }

    @staticmethod
    def _is_profiled(job: Job) -> bool:
        return job.method in ("plain", "disca") and job.schedule == ALTERNATE and not job.compiled

    def _waits(self, job: Job, sampler: Sampler, predictor: Any) -> int:
        """Of a run of its own, since the profiler takes time."""
        with disca.attach(sampler, _policy(replace(job, schedule=BRIEF), predictor)):
            return waits(lambda: sampler.sample(job.size, BRIEF.steps), self.device)

    def _peer(self, job: Job) -> dict[str, Any]:
        """Which steps were full is counted by the layers that ran."""
        sampler, steps = self._sampler(job), job.schedule.steps
        with PeerDriver(job.method, SETTINGS[job.method]).attach(Model(pipe=sampler), steps) as counter:
            sampled = sampler.sample(job.size, steps)
            (branch,) = counter.summary().branches.values()
        return {**facts_of(sampled), "full_steps": branch.full, **medians(sampled.calls, set(branch.full), skip=True)}

    def _stage(self, job: Job, before: Sequence[Record]) -> dict[str, Any]:
        """Alone on the device, as where a pipeline offloads each model that has done its work."""
        self._held = (None, None)
        self._collect()
        found = measured(self._plan(job), self.device)
        facts = {**facts_of(found), "seconds": median(found.calls)}
        if job.method == DECODE:
            facts["end_to_end"] = end_to_end(job, facts["seconds"], before)
        return facts

    def _plan(self, job: Job) -> Plan:
        return Plan(name=job.method, host=job.subject.host, size=job.size, dtype=self.dtype, small=self.small)

    def cost(self, job: Job) -> HostCost:
        """Of the job's model under DisCa, by its configuration alone."""
        key = (job.subject.name, job.size)
        if key not in self._costs:
            self._costs[key] = cost_of(job.subject.host, self.config(job), job.size, dtype=self.dtype)
        return self._costs[key]

    def _need(self, job: Job, before: Sequence[Record]) -> int | None:
        """Bytes that a job would have taken: what the plain model took, and what the method keeps."""
        if job.method in STAGES:
            return cost_of_stage(self._plan(job)).peak_bytes
        plain = find(before, job, "plain")
        if plain is None or plain.extra.get("peak_bytes") is None or job.method in PEERS:
            return None
        cost = self.cost(job)
        if job.method != "disca":
            method, steps = lambda host: _policy(replace(job, schedule=ALTERNATE), None), ALTERNATE.steps
            config = self.config(job)
            try:
                cost = cost_of(job.subject.host, config, job.size, policy=method, steps=steps, dtype=self.dtype)
            except DataDependentOutputException:  # it decides by what it reads
                return None
        return int(plain.extra["peak_bytes"]) + cost.predictor_bytes + cost.cache_bytes

    def _record(self, job: Job, facts: dict[str, Any], before: Sequence[Record]) -> Record:
        stage, full = job.method in STAGES, facts.pop("full_steps", ())
        steps = 1 if stage else job.schedule.steps
        cost = self.cost(job) if job.method in ("plain", "disca") else None
        compared = {} if stage else comparison(job, facts, cost, find(before, job, "plain"))
        return Record(
            name=job.name,
            policy=facts.pop("policy", "none"),
            steps=steps,
            full_steps=full,
            transformer_evaluations=len(full),
            seconds=facts.pop("seconds", None),
            flops=flops_of(cost, steps, len(full)),
            versions=versions(),
            hardware=hardware(),
            command=command_line(),
            date=now(),
            seeds=(0,),
            **compared.pop("fields", {}),
            extra={"small": self.small, "dtype": str(self.dtype).removeprefix("torch."), **facts, **compared},
        )

    def _collect(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def run(
    file: str | Path,
    planned: Sequence[Job],
    bench: Bench,
    *,
    minutes: float | None = None,
    report: Callable[[Record, int, int], None] = lambda record, done, all: None,
) -> list[Record]:
    """Measure what ``file`` does not have yet, in order, and write each record as it comes; no new one is begun after
    ``minutes``. ``report(record, done, all)`` hears of each."""
    path, start = Path(file), time.monotonic()
    found = records.read(path) if path.is_file() else []
    missing = [job for job in planned if job.name not in {record.name for record in found}]
    path.parent.mkdir(parents=True, exist_ok=True)
    for done, job in enumerate(missing, start=1):
        if minutes is not None and time.monotonic() - start > 60 * minutes:
            break
        found = [*found, bench.measure(job, found)]
        records.write(path, found)
        report(found[-1], done, len(missing))
    return found


def fitted(found: Sequence[Record]) -> tuple[Machine, dict[str, float]]:
    """Two constants from the measured steps of models that were not compiled, and by how much each step's seconds are
    predicted too high (above 0) or too low, as a share of what was measured.

    Raises:
        ValueError: too few measurements.
    """
    measured = {}
    for record in found:
        for kind, cost in (record.extra.get("costs") or {}).items():
            seconds = record.extra.get(f"seconds_{kind}")
            if seconds and "/compiled" not in record.name:
                measured[f"{record.name}: {kind}"] = Cost(**cost), seconds
    costs, seconds = [cost for cost, _ in measured.values()], [one for _, one in measured.values()]
    machine = fit("measured", costs, seconds)
    return machine, {name: machine.seconds(cost) / one - 1 for name, (cost, one) in measured.items()}


def _policy(job: Job, predictor: Any) -> Policy:
    """The job's method, with full steps as in its schedule, or as many of them at equal distances."""
    if job.method == "plain":
        return ()
    every = job.schedule.steps // len(job.schedule.full_steps)
    options: dict[str, Any] = {"full_steps": job.schedule.full_steps, "every": every, "predictor": predictor}
    return from_name(job.method, **SETTINGS.get(job.method) or {name: options[name] for name in _options(job)})


def _options(job: Job) -> list[str]:
    """What the job's method is given that has no settings: full steps where it takes them, or how often."""
    known = METHODS[job.method].options if job.method in METHODS else ()
    decides = [name for name in ("full_steps", "every") if name in known][:1]
    return decides + (["predictor"] if "predictor" in known else [])


def _written(policy: Policy) -> str:
    """A policy without the layers of its predictor."""
    return " ".join(f"{r.where} x {type(r.when).__name__} x {type(r.how).__name__}" for r in policy) or "none"
