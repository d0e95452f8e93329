"""What attaching costs: `python benchmarks/overhead.py`. About a minute; leave the machine alone meanwhile.

Writes benchmarks/records/overhead.json: the seconds of a run with every step full through `disca.attach` over those of
the plain run, and the share of a forecast step spent neither in the predictor nor in the host's embedders and final
layer. Medians; runs that are compared take turns.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

import disca
from disca.files import write_text_atomic
from disca.flow.path import sigmas
from disca.lab import weights
from disca.lab.words import EXAMPLE
from disca.provenance import command_line, hardware, now, versions

FILE = Path(__file__).parent / "records" / "overhead.json"
PAIRS, STEPS = 10, 8
BATCHES = (1, 8)


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
def heard(modules: list[nn.Module]) -> Iterator[list[Callable[[], Any]]]:
    """Collects the calls of ``modules``, to be made again."""
    calls: list[Callable[[], Any]] = []

    def hear(module: nn.Module, args: Any, kwargs: Any) -> None:
        calls.append(lambda: module.forward(*args, **kwargs))

    handles = [module.register_forward_pre_hook(hear, with_kwargs=True) for module in modules]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def outside_share(pipe: Any, predictor: Any, batch: int) -> list[float]:
    """Shares of forecast calls of the transformer spent elsewhere than in the predictor and the host's embedders
    and final layer: the seconds of a call, and of these parts called again by themselves with the same inputs."""
    host, second = pipe.transformer, pipe.second_time
    stacks = ("transformer_blocks", "single_transformer_blocks")
    parts = [predictor, *(module for name, module in host.named_children() if name not in stacks)]
    cond = pipe.encode_prompt([EXAMPLE] * batch)
    x = torch.randn(
        batch, host.config.in_channels, *pipe.codec.latent_shape, generator=torch.Generator().manual_seed(0)
    )
    timesteps = (1000 * sigmas(STEPS, pipe.scheduler.config.shift)[:-1]).tolist()
    shares = []
    with second.attach(host):
        for _ in range(PAIRS):
            with disca.attach(host, disca.disca(predictor, full_steps=(0,)), timesteps=timesteps):

                def call(timestep: float) -> Any:
                    given = {"timestep": torch.full((batch,), timestep), "guidance": torch.full((batch,), 3000.0)}
                    return host(hidden_states=x, return_dict=False, **given, **cond)

                call(timesteps[0])
                for timestep in timesteps[1:]:
                    with heard(parts) as calls:
                        call(timestep)
                    whole = min(seconds(lambda timestep=timestep: call(timestep)) for _ in range(3))
                    own = min(seconds(lambda calls=calls: [again() for again in calls]) for _ in range(3))
                    shares.append(1 - own / whole)
    return shares


def main() -> None:
    pipe, predictor = weights.pipeline("student"), weights.predictor()
    ratios = full_over_plain(pipe)
    found = {"full_over_plain": {"median": statistics.median(ratios), "pairs": ratios, "steps": STEPS, "batch": 1}}
    for batch in BATCHES:
        shares = outside_share(pipe, predictor, batch)
        found[f"forecast_outside_batch_{batch}"] = {"median": statistics.median(shares), "calls": shares}
    about = {"versions": versions(), "hardware": hardware(), "command": command_line(), "date": now(), "seed": 0}
    write_text_atomic(FILE, json.dumps({**found, **about}, indent=1) + "\n")
    Console().print({name: round(value["median"], 4) for name, value in found.items()})


if __name__ == "__main__":
    main()
