"""Our implementations beside those of diffusers and cache-dit: `python benchmarks/peers.py`. A few minutes; leave the
machine alone meanwhile.

Writes benchmarks/records/peers.json: for each pair, on the lab's guidance-distilled model, the full steps of both, the
ratio of the seconds of our sampling run to theirs (runs take turns, the order alternates, median), and the largest
difference of the latents where algorithm and full steps are the same. Each pair says what differs otherwise.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track

import disca
from disca.bench.grid import write_method
from disca.bench.models import Model
from disca.bench.peers import PEERS, BlockCount
from disca.caching.methods import from_name
from disca.errors import unknown
from disca.files import write_text_atomic
from disca.lab import weights
from disca.lab.measure import GUIDANCE
from disca.lab.pipeline import LabPipeline
from disca.lab.words import HELD_OUT
from disca.metrics.intervals import bootstrap_statistic
from disca.provenance import command_line, hardware, now, versions

FILE = Path(__file__).parent / "records" / "peers.json"
STEPS, TURNS = 50, 15
DUAL, SINGLE = r"transformer_blocks\.\d+", r"single_transformer_blocks\.\d+"
LAYERS = {
    "cache_identifiers": [rf"{DUAL}\.(attn|ff|ff_context)", rf"{SINGLE}\.proj_out"],
    "skip_predict_identifiers": [rf"{SINGLE}\.(attn|proj_mlp)"],
}
"""The layers that ours forecasts, for diffusers, whose own choice is the attention alone."""
RATIOS = [1.0] + [1.01] * 24 + [0.99] * 25


class Theirs(LabPipeline):
    """A class of its own, because cache-dit changes the class of the pipeline it is given."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One of our methods, and what it is compared with."""

    ours: str
    options: Mapping[str, Any]
    peer: str
    theirs: Mapping[str, Any] = field(default_factory=dict)
    same: bool = True
    """Whether algorithm and full steps are the same, so that outputs have to be."""
    differs: str = ""


SCHEDULE = {"cache_interval": 5, "disable_cache_before_step": 1, "taylor_factors_dtype": torch.float32}
EVERY = {"every": 5, "phase": 2}
PAIRS = {
    "first_block_cache": Pair(
        ours="first_block_cache",
        options={"threshold": 0.1},
        peer="diffusers.first_block_cache",
        theirs={"threshold": 0.1},
    ),
    "taylorseer": Pair(
        ours="taylorseer",
        options={**EVERY, "order": 1},
        peer="diffusers.taylor_seer_cache",
        theirs={**SCHEDULE, **LAYERS, "max_order": 1},
    ),
    "taylorseer_lite": Pair(
        ours="taylorseer_lite",
        options={**EVERY, "warmup": 1, "order": 2},
        peer="diffusers.taylor_seer_cache",
        theirs={**SCHEDULE, "use_lite_mode": True, "max_order": 2},
    ),
    "fora": Pair(
        ours="fora",
        options=EVERY,
        peer="diffusers.taylor_seer_cache",
        theirs={**SCHEDULE, **LAYERS, "max_order": 0},
    ),
    "magcache": Pair(
        ours="magcache",
        options={"error": 0.12, "skips": 4, "constants": RATIOS},
        peer="diffusers.mag_cache",
        theirs={"threshold": 0.12, "max_skip_steps": 4, "retention_ratio": 0.2, "mag_ratios": RATIOS},
        differs="diffusers repeats the change of the video tokens only; ours that of the text tokens too, which the "
        "last projection does not see",
    ),
    "pab": Pair(
        ours="pab",
        options={"attention": 2},
        peer="diffusers.pyramid_attention_broadcast",
        theirs={"spatial_attention_block_skip_range": 2},
        differs="diffusers counts calls of each layer, ours steps of the run; where guidance takes two passes, theirs "
        "share one count and one cache",
    ),
    "first_block_cache_dit": Pair(
        ours="first_block_cache",
        options={"threshold": 0.1, "warmup": 8},
        peer="cache_dit.dbcache",
        theirs={"residual_diff_threshold": 0.1, "Fn_compute_blocks": 1, "Bn_compute_blocks": 0, "max_warmup_steps": 8},
        same=False,
        differs="cache-dit caches each list of blocks apart",
    ),
}


def sample(pipe: Any, batch: int, seed: int) -> tuple[torch.Tensor, float]:
    """Latents and seconds of one run."""
    noise = [torch.Generator().manual_seed(seed * batch + index) for index in range(batch)]
    prompts = [str(HELD_OUT[(seed * batch + index) % len(HELD_OUT)]) for index in range(batch)]
    start = time.perf_counter()
    found = pipe(
        prompts, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=noise, output_type="latent"
    ).frames
    return found, time.perf_counter() - start


def full_steps(pair: Pair, batch: int) -> tuple[list[int], list[int]]:
    """The full steps of both, of one run."""
    policy = from_name(pair.ours, **pair.options)
    with disca.attach(pipe := weights.pipeline("distilled"), policy) as run:
        sample(pipe, batch, 0)
        ours = list(run.summary().branches["cond"].full)
    model = theirs_model()
    with BlockCount.watching(model) as counter:
        off = PEERS[pair.peer].enable(model, STEPS, pair.theirs)
        sample(model.pipe, batch, 0)
        off()
    return ours, list(counter.summary().branches["0"].full)


def theirs_model() -> Model:
    """The same model in a pipeline that a peer may change."""
    pipe = Theirs(**weights.pipeline("distilled").components)
    pipe.set_progress_bar_config(disable=True)
    return Model(pipe=pipe)


def compare(name: str, pair: Pair, batch: int, turns: int) -> dict[str, Any]:
    """Ratios of the seconds of paired runs, and how far the latents are apart."""
    ours, theirs = full_steps(pair, batch)
    pipe, model = weights.pipeline("distilled"), theirs_model()
    ratios, differences = [], []
    with ExitStack() as undo:
        undo.enter_context(disca.attach(pipe, from_name(pair.ours, **pair.options)))
        undo.callback(PEERS[pair.peer].enable(model, STEPS, pair.theirs))
        for each in (pipe, model.pipe):
            sample(each, batch, 0)
        for turn in track(range(turns), description=name):
            order = (pipe, model.pipe) if turn % 2 else (model.pipe, pipe)
            found = {id(each): sample(each, batch, turn) for each in order}
            (a, mine), (b, other) = found[id(pipe)], found[id(model.pipe)]
            ratios.append(mine / other)
            differences.append(((a - b).abs().max() / b.abs().max()).item())
    interval = bootstrap_statistic(lambda rows: statistics.median(ratios[at] for at in rows), len(ratios))
    return {
        "ours": write_method(pair.ours, {key: value for key, value in pair.options.items() if key != "constants"}),
        "theirs": pair.peer,
        "full_steps": {"ours": ours, "theirs": theirs},
        "seconds_ratio": {"median": statistics.median(ratios), "interval": interval, "turns": ratios},
        "largest_difference": max(differences),
        "same_algorithm": pair.same,
        "differs": pair.differs,
    }


def main() -> None:
    """Compare the pairs that are asked for; the others in the file stay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", nargs="*", default=list(PAIRS), help=f"of {', '.join(PAIRS)}; all by default")
    parser.add_argument("--turns", type=int, default=TURNS)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--output", type=Path, default=FILE)
    asked = parser.parse_args()
    for name in asked.pairs:
        if name not in PAIRS:
            parser.error(unknown("pair", name, PAIRS))
    about = {"versions": versions(), "hardware": hardware(), "command": command_line(), "date": now()}
    found = json.loads(asked.output.read_text()) if asked.output.is_file() else {}
    for name in asked.pairs:
        try:
            row = compare(name, PAIRS[name], asked.batch, asked.turns)
        except Exception as error:  # a pair that cannot be compared is recorded as such
            row = {"error": f"{type(error).__name__}: {error}"}
        found[name] = {**row, "batch": asked.batch, "steps": STEPS, **about}
        write_text_atomic(asked.output, json.dumps(found, indent=1) + "\n")
        short = {key: row[key] for key in ("error", "largest_difference") if key in row}
        if "seconds_ratio" in row:
            short |= {"ratio": round(row["seconds_ratio"]["median"], 3)}
            short |= {"full": [len(steps) for steps in row["full_steps"].values()]}
        Console().print(name, short)


if __name__ == "__main__":
    main()
