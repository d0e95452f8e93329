"""What the numbers of a measurement mean beside those of the plain model and of the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from disca.adapters import ADAPTERS
from disca.bench.around import TEXT, whole
from disca.bench.cost import PASSES, STEPS, HostCost
from disca.bench.loops import Sampled
from disca.bench.operations import flops
from disca.bench.sizes import feed_of
from disca.bench.subjects import ALTERNATE, DISCA_8, DISCA_20, Job
from disca.records import Record


def facts_of(sampled: Sampled) -> dict[str, Any]:
    """What a run says of itself."""
    return {
        "outcome": "measured",
        "seconds": sampled.seconds,
        "calls": sampled.calls,
        "peak_bytes": sampled.peak_bytes,
        "finite": sampled.finite,
    }


def medians(calls: Sequence[float], full: set[int], *, skip: bool) -> dict[str, float]:
    """Median seconds of full and of other steps; with ``skip`` the first of each only warms up."""
    kinds = {"full": [s for step, s in enumerate(calls) if step in full]}
    kinds["forecast"] = [s for step, s in enumerate(calls) if step not in full]
    counted = {kind: (seconds[1:] or seconds) if skip else seconds for kind, seconds in kinds.items()}
    return {f"seconds_{kind}": median(seconds) for kind, seconds in counted.items() if seconds}


def comparison(job: Job, facts: Mapping[str, Any], cost: HostCost | None, plain: Record | None) -> dict[str, Any]:
    """What the numbers mean beside the model's and the plain run's."""
    found: dict[str, Any] = {}
    if cost is not None:
        kinds = {"full": cost.full, "forecast": cost.forecast} if job.method == "disca" else {"full": cost.full}
        found["costs"] = {kind: vars(one) for kind, one in kinds.items()}
        found["parameter_bytes"] = cost.parameter_bytes
        if job.method == "disca":
            found["predictor_bytes"], found["flop_ratio"] = (
                cost.predictor_bytes,
                flops(cost.forecast) / flops(cost.full),
            )
    if "seconds_full" in facts and "seconds_forecast" in facts:
        found["ratio"] = facts["seconds_forecast"] / facts["seconds_full"]
    if plain is None or "seconds" not in facts or plain.extra.get("seconds_full") is None:
        return found
    if plain.extra.get("peak_bytes") and facts.get("peak_bytes"):
        found["extra_peak_bytes"] = facts["peak_bytes"] - plain.extra["peak_bytes"]
    if "waits" in facts and "waits" in plain.extra:
        found["waits_added"] = facts["waits"] - plain.extra["waits"]
    if job.schedule != ALTERNATE:
        each, feed = plain.extra["seconds_full"], feed_of(ADAPTERS[job.subject.host])
        speedup = STEPS * PASSES * each / facts["seconds"]
        found["fields"] = {
            "speedup": speedup,
            "speedup_over": f"{STEPS * PASSES} x the median full step of {plain.name}",
        }
        found["speedup_over_stock"] = feed.steps * feed.passes * each / facts["seconds"]
        if cost is not None:
            found["bound"] = cost.speedup(job.schedule, flops)
            found["share_of_bound"] = speedup / found["bound"]
    return found


def flops_of(cost: HostCost | None, steps: int, full: int) -> float | None:
    """Operations of ``steps`` steps of which so many are full."""
    if cost is None or not full:
        return None
    return float((full * cost.full + (steps - full) * cost.forecast).flops)


def find(before: Sequence[Record], job: Job, method: str) -> Record | None:
    """The record of another method at the same model, size and compilation."""
    wanted = replace(job, method=method, schedule=ALTERNATE).name
    return next((record for record in before if record.name == wanted), None)


def end_to_end(job: Job, decode: float, before: Sequence[Record]) -> dict[str, Any]:
    """Seconds from prompt to pixels and what they are less by than others: text encoders, loop and VAE, of the plain
    model's 50 steps of two passes, of what the stock pipeline does by default, and of each run with DisCa among
    ``before``. ``decode`` is what the VAE takes; nothing where text or plain model were not measured."""
    plain, text = find(before, job, "plain"), find(before, job, TEXT)
    each, encode = plain and plain.extra.get("seconds_full"), text and text.seconds
    if not each or not encode:
        return {}
    feed = feed_of(ADAPTERS[job.subject.host])
    base = whole(STEPS * PASSES * each, encode, decode, passes=PASSES)
    stock = whole(feed.steps * feed.passes * each, encode, decode, passes=feed.passes)
    found: dict[str, Any] = {"seconds_base": base, "seconds_stock": stock}
    for record in before:
        if record.seconds and record.name in _runs(job):
            run = whole(record.seconds, encode, decode)
            found[record.name] = {"seconds": run, "speedup": base / run, "speedup_over_stock": stock / run}
    return found


def _runs(job: Job) -> set[str]:
    """Names of the whole runs with DisCa at a job's model and size."""
    return {replace(job, method="disca", schedule=schedule).name for schedule in (DISCA_8, DISCA_20)}
