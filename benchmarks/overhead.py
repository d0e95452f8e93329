"""What attaching costs: `python benchmarks/overhead.py`. About a minute; leave the machine alone meanwhile.

Writes benchmarks/records/overhead.json: the seconds of a run with every step full through `disca.attach` over those of
the plain run, and `outside`, the share of a forecast step (the transformer's call, in a run of the pipeline) spent
neither in the predictor nor in the host's embedders and final layer. The second time of the lab's student is one of
the embedders: it works inside the host's own. Of that share, `host` is what the host spends by itself on masks, shapes
and calls: what its embedders and final layer leave where no block runs and no policy is attached. Runs that are
compared take turns; all are medians over such pairs.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

import disca
from disca import hooks
from disca.files import write_text_atomic
from disca.lab import weights
from disca.lab.words import EXAMPLE
from disca.provenance import command_line, hardware, now, versions

FILE = Path(__file__).parent / "records" / "overhead.json"
PAIRS, STEPS = 100, 8
BATCHES = (1, 8)
STACKS = ("transformer_blocks", "single_transformer_blocks")


def sample(pipe: Any, batch: int = 1) -> None:
    """A sampling run, up to its latents."""
    pipe([EXAMPLE] * batch, num_inference_steps=STEPS, generator=torch.Generator().manual_seed(0), output_type="latent")


def seconds(work: Callable[[], Any]) -> float:
    """Wall-clock of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def full_over_plain(pipe: Any) -> list[float]:
    """Ratios of pairs of runs, the order of which alternates."""

    def plain() -> None:
        sample(pipe)

    def attached() -> None:
        with disca.attach(pipe):
            sample(pipe)

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


def split(pipe: Any, batch: int, parts: Sequence[nn.Module], first: int) -> list[tuple[float, float]]:
    """Seconds of a call of the host, and of ``parts`` within it, over the calls of a sampling run but the first, in
    which ``first`` parts run. Measured in pairs of runs, since listening takes time too."""
    pairs = []
    for _ in range(PAIRS):
        with heard([pipe.transformer]) as whole:
            sample(pipe, batch)
        with heard(parts) as own:
            sample(pipe, batch)
        pairs.append((sum(whole[1:]) / (STEPS - 1), sum(own[first:]) / (STEPS - 1)))
    return pairs


def outside_share(pipe: Any, predictor: Any, batch: int) -> dict[str, Any]:
    """What a forecast call of the transformer spends elsewhere than in the predictor and the host's embedders and final
    layer, and what the host by itself does, as shares of the call."""
    host = pipe.transformer
    parts = [module for name, module in host.named_children() if name not in STACKS]
    with disca.attach(pipe, disca.disca(predictor, full_steps=(0,))):
        sample(pipe, batch)
        forecast = split(pipe, batch, [predictor, *parts], len(parts))
    with without_blocks(host):
        bare = split(pipe, batch, parts, len(parts))
    call = statistics.median(whole for whole, _ in forecast)
    outside = [1 - own / whole for whole, own in forecast]
    return {
        "outside": statistics.median(outside),
        "host": statistics.median(whole - own for whole, own in bare) / call,
        "seconds": call,
        "pairs": outside,
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
