"""Whether a forecast step takes its share: `python benchmarks/step_ratio.py`. A minute; leave the machine alone.

Writes benchmarks/records/step_ratio.json: seconds of a forecast step over those of a full step in one run of a tiny
HunyuanVideo of 30 blocks on the CPU, beside the ratio of their operations.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import torch
from rich.console import Console

import disca
from disca.bench.cost import cost_of
from disca.bench.loops import Sampler
from disca.bench.sizes import Size
from disca.files import write_text_atomic
from disca.provenance import command_line, hardware, now, versions

FILE = Path(__file__).parent / "records" / "step_ratio.json"
HOST = "HunyuanVideoTransformer3DModel"
CONFIG = {
    "num_attention_heads": 4,
    "num_layers": 10,
    "num_single_layers": 20,
    "num_refiner_layers": 1,
    "guidance_embeds": True,
}
SIZE, STEPS = Size(256, 256, 17), 16


def main() -> None:
    """Measure both kinds of step in one run, in turns."""
    cost = cost_of(HOST, CONFIG, SIZE, dtype=torch.float32)
    sampler = Sampler(HOST, CONFIG, torch.device("cpu"), torch.float32)
    policy = disca.disca(disca.Predictor.from_host(sampler.transformer).requires_grad_(False), every=2)
    with disca.attach(sampler, policy):
        calls = sampler.sample(SIZE, STEPS).calls
    full, forecast = statistics.median(calls[2::2]), statistics.median(calls[3::2])
    operations = cost.forecast.flops / cost.full.flops
    found = {
        "seconds_full": full,
        "seconds_forecast": forecast,
        "ratio": forecast / full,
        "flop_ratio": operations,
        "ratio_over_flop_ratio": forecast / full / operations,
        "calls": calls,
        "tokens": cost.tokens,
        "blocks": CONFIG["num_layers"] + CONFIG["num_single_layers"],
    }
    about = {"versions": versions(), "hardware": hardware(), "command": command_line(), "date": now(), "seed": 0}
    write_text_atomic(FILE, json.dumps({**found, **about}, indent=1) + "\n")
    Console().print({name: found[name] for name in list(found)[:5]})


if __name__ == "__main__":
    main()
