"""What attaching costs: `python benchmarks/overhead.py`. About a minute; leave the machine alone meanwhile.

Writes benchmarks/records/overhead.json: the seconds of a run with every step full through `disca.attach` over those of
the plain run, and `outside`, the share of a forecast step spent neither in the predictor nor in the host's embedders
and final layer. The second time of the lab's student is one of the embedders: it works inside the host's own. Of that
share, `host` is what the host spends by itself on masks, shapes and calls: what its embedders and final layer leave
where no block runs and no policy is attached. Medians; runs that are compared take turns.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

import disca
from disca import hooks
from disca.files import write_text_atomic
from disca.flow.path import sigmas
from disca.lab import weights
from disca.lab.words import EXAMPLE
from disca.provenance import command_line, hardware, now, versions

FILE = Path(__file__).parent / "records" / "overhead.json"
PAIRS, STEPS = 40, 8
BATCHES = (1, 8)
STACKS = ("transformer_blocks", "single_transformer_blocks")


def seconds(work: Callable[[], Any]) -> float:
    """Wall-clock of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def full_over_plain(pipe: Any) -> list[float]:
    """Ratios of pairs of runs, the order of which alternates."""

    def plain() -> None:
        pipe(EXAMPLE, num_inference_steps=STEPS, generator=torch.Generator().manual_seed(0), output_type="latent")

    def attached() -> None:
        with disca.attach(pipe):
            plain()

    for work in (plain, attached):
        work()
    ratios = []
    for pair in range(PAIRS):
        order = (plain, attached) if pair % 2 else (attached, plain)
        found = {work: seconds(work) for work in order}
        ratios.append(found[attached] / found[plain])
    return ratios


@contextmanager
def heard(modules: Sequence[nn.Module]) -> Iterator[list[float]]:
    """The seconds that each call of ``modules`` inside takes."""
    spent: list[float] = []

    def begin(*_: Any) -> None:
        spent.append(-time.perf_counter())

    def end(*_: Any) -> None:
        spent[-1] += time.perf_counter()

    handles = [one for m in modules for one in (m.register_forward_pre_hook(begin), m.register_forward_hook(end))]
    try:
        yield spent
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def without_blocks(host: Any) -> Iterator[None]:
    """No block runs inside."""
    for stack in STACKS:
        hooks.hold(host, stack, dict.fromkeys(range(len(getattr(host, stack)))))
    try:
        yield
    finally:
        for stack in STACKS:
            hooks.let_go(host, stack)


def split(run: Sequence[Callable[[], Any]], parts: Sequence[nn.Module]) -> tuple[list[float], list[float]]:
    """Seconds of the calls of a sampling run but the first, and of ``parts`` within these calls. They are measured in
    runs that take turns, since listening takes time too."""
    whole, own = [], []
    for _ in range(PAIRS):
        run[0]()
        whole += [seconds(call) for call in run[1:]]
        run[0]()
        for call in run[1:]:
            with heard(parts) as spent:
                call()
            own.append(sum(spent))
    return whole, own


@torch.no_grad()
def outside_share(pipe: Any, predictor: Any, batch: int) -> dict[str, Any]:
    """What a forecast call of the transformer spends elsewhere than in the predictor and the host's embedders and final
    layer, and what the host by itself does, as shares of the call. A run takes each of its steps once: a repeated
    timestep would be another branch, full at first."""
    host, second = pipe.transformer, pipe.second_time
    parts = [module for name, module in host.named_children() if name not in STACKS]
    cond = pipe.encode_prompt([EXAMPLE] * batch)
    x = torch.randn(
        batch, host.config.in_channels, *pipe.codec.latent_shape, generator=torch.Generator().manual_seed(0)
    )
    guidance = torch.full((batch,), 3000.0)
    times = sigmas(STEPS, pipe.scheduler.config.shift)
    timesteps = (1000 * times[:-1]).tolist()
    given = {"hidden_states": x, "guidance": guidance, "return_dict": False, **cond}
    run = [partial(host, timestep=torch.full((batch,), timestep), **given) for timestep in timesteps]
    with second.attach(host):
        with disca.attach(host, disca.disca(predictor, full_steps=(0,)), timesteps=timesteps):
            whole, own = split(run, [predictor, *parts])
        with second.at(times[:1], times[1:2]), without_blocks(host):
            bare = split(run, parts)
    medians = [statistics.median(one) for one in (whole, own, *bare)]
    return {
        "outside": 1 - medians[1] / medians[0],
        "host": (medians[2] - medians[3]) / medians[0],
        "seconds": {"call": whole, "parts": own, "host_call": bare[0], "host_parts": bare[1]},
    }


def main() -> None:
    pipe, predictor = weights.pipeline("student"), weights.predictor()
    ratios = full_over_plain(pipe)
    found: dict[str, Any] = {
        "full_over_plain": {"median": statistics.median(ratios), "pairs": ratios, "steps": STEPS, "batch": 1},
        **{f"forecast_batch_{batch}": outside_share(pipe, predictor, batch) for batch in BATCHES},
    }
    about = {"versions": versions(), "hardware": hardware(), "command": command_line(), "date": now(), "seed": 0}
    write_text_atomic(FILE, json.dumps({**found, **about}, indent=1) + "\n")
    shown = {
        f"{name} {kind}": round(values[kind], 4)
        for name, values in found.items()
        for kind in ("median", "outside", "host")
        if kind in values
    }
    Console().print(shown)


if __name__ == "__main__":
    main()
