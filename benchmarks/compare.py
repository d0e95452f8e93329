"""Every published cache on the lab, side by side: `python benchmarks/compare.py`.

First the constants and thresholds of the methods that need some are measured on training prompts, into
benchmarks/calibrations (what is there is kept); then the grid is written to benchmarks/grids/lab.toml; then
`disca bench` runs it into the folder that --output names, and the records are copied to
benchmarks/records/lab_bench.jsonl. Interrupted, it goes on where it was.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import torch
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from disca.bench.calibrate import calibrate, load
from disca.cli import main as command
from disca.files import write_text_atomic
from disca.lab import weights
from disca.lab.words import TRAINING, sample

HERE = Path(__file__).parent
CALIBRATIONS = HERE / "calibrations"
GRID = HERE / "grids" / "lab.toml"
RECORDS = HERE / "records" / "lab_bench.jsonl"
PROMPTS = 4
"""Training prompts of a calibration; no method gets more."""
PAIRS = 100
BATCH = 10
MODELS = {"base": (50,), "student": (20, 8)}
WANTED = {50: (15, 10), 20: (10, 7), 8: (4,)}
"""Full steps that thresholds are looked for, by the steps of a run."""
EVERY = {50: (3, 5), 20: (2, 3), 8: (2, 3)}
"""Intervals of the methods that count."""
LISTS = {20: (0, 1, 2, 5, 9, 13, 17, 19), 8: (0, 2, 4, 7)}
"""The full steps of DisCa's authors."""
LIMITS: dict[int, dict[str, dict[str, Any]]] = {
    50: {"speca": {"fewest": 1, "floor": 0.0}, "magcache": {"skips": 8, "retention": 0.1}},
    20: {"speca": {"fewest": 1, "floor": 0.0}, "magcache": {"skips": 4}, "easycache": {"warmup": 3}},
    8: {
        "speca": {"fewest": 1, "floor": 0.0},
        "magcache": {"skips": 3, "retention": 0.0},
        "easycache": {"warmup": 2},
    },
}
GATED = ("teacache", "magcache", "first_block_cache", "easycache", "speca", "rfc")
COUNTED: dict[str, dict[str, Any]] = {
    "reuse": {},
    "repeat_change": {},
    "taylor": {},
    "fora": {},
    "taylorseer": {},
    "taylorseer_lite": {"order": 1, "warmup": 1},
    "hicache": {"warmup": 1},
    "freqca": {"warmup": 1},
    "rfc": {},
    "toca": {"ratio": 0.1},
    "duca": {"ratio": 0.1},
}
"""Methods that count steps, and what they are given besides."""


def calibrations() -> None:
    """Measure what is not there yet."""
    CALIBRATIONS.mkdir(exist_ok=True)
    todo = [
        (stage, steps, method, wanted)
        for stage, counts in MODELS.items()
        for steps in counts
        for method in GATED
        for wanted in WANTED[steps]
        if not _file(stage, steps, method, wanted).exists()
    ]
    prompts = [str(prompt) for prompt in sample(TRAINING, PROMPTS, 0)]
    with Progress(TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn()) as bar:
        line = bar.add_task("calibrations", total=len(todo))
        for stage, steps, method, wanted in todo:
            bar.update(line, description=f"{method}, {stage}, {wanted} of {steps}")
            pipe = weights.pipeline(stage)

            def run(index: int, pipe: Any = pipe, steps: int = steps) -> None:
                generator = torch.Generator().manual_seed(index)
                pipe(prompts[index], num_inference_steps=steps, generator=generator, output_type="latent")

            options = LIMITS[steps].get(method, {})
            try:
                found = calibrate(pipe, method, run, prompts, wanted=wanted, options=options)
                found.save(_file(stage, steps, method, wanted))
            except ValueError as error:
                bar.console.print(f"{method}, {stage}, {wanted} of {steps}: {error}")
            bar.advance(line)


def _file(stage: str, steps: int, method: str, wanted: int) -> Path:
    return CALIBRATIONS / f"{method}_{stage}_{steps}_{wanted}.json"


def grid() -> str:
    """The grid as TOML."""
    lines = [
        "# Written by benchmarks/compare.py: every published cache on the lab, beside plain steps and other libraries.",
        'name = "lab"',
        f"pairs = {PAIRS}",
        "seed = 21",
        f"batch = {BATCH}",
        f"turn = {BATCH}",
        "clips = 3",
        "",
    ]
    for stage, counts in MODELS.items():
        lines += ["[[models]]", f'name = "{stage}"', f'source = "lab-{stage}"', f"steps = {list(counts)}", ""]
    for stage, counts in MODELS.items():
        for steps in counts:
            for method, settings in _methods(stage, steps).items():
                lines += _entry("methods", "method", method, settings, stage, steps)
            for peer, settings in _peers(stage, steps).items():
                lines += _entry("peers", "peer", peer, settings, stage, steps)
    return "\n".join(lines)


def _entry(table: str, key: str, name: str, settings: list[dict[str, Any]], stage: str, steps: int) -> list[str]:
    return [
        f"[[{table}]]", f'{key} = "{name}"', f'models = ["{stage}"]', f"steps = [{steps}]", "settings = [",
        *(f"  {_toml(one)}," for one in settings), "]", "",
    ]  # fmt: skip


def _methods(stage: str, steps: int) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for method, more in COUNTED.items():
        listed = [] if steps not in LISTS else [{"full_steps": list(LISTS[steps]), **_but_warmup(more)}]
        found[method] = [*listed, *({"every": every, **more} for every in EVERY[steps])]
    found["delta_dit"] = [{"every": every} for every in EVERY[steps]]
    found["pab"] = [{"attention": every, "window": [0.0, 1.0]} for every in EVERY[steps]]
    for method in GATED:
        found[method] = found.get(method, []) + [
            _calibrated(stage, steps, method, wanted)
            for wanted in WANTED[steps]
            if _file(stage, steps, method, wanted).exists()
        ]
    if stage == "student":
        found["disca"] = [{"full_steps": list(LISTS[steps])}, *({"every": every} for every in EVERY[steps])]
    return found


def _but_warmup(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "warmup"}


def _calibrated(stage: str, steps: int, method: str, wanted: int) -> dict[str, Any]:
    """Options that a calibration found; constants are read from its file."""
    path = _file(stage, steps, method, wanted)
    constants = {"constants": f"benchmarks/calibrations/{path.name}"} if method in ("teacache", "magcache") else {}
    return {**load(path).options, **constants}


def _peers(stage: str, steps: int) -> dict[str, list[dict[str, Any]]]:
    thresholds = [
        {"threshold": load(path).options["threshold"]}
        for wanted in WANTED[steps]
        if (path := _file(stage, steps, "first_block_cache", wanted)).exists()
    ]
    every = EVERY[steps][-1]
    return {
        "diffusers.first_block_cache": thresholds[-1:],
        "diffusers.taylor_seer_cache": [{"cache_interval": every, "disable_cache_before_step": 1, "max_order": 1}],
        "diffusers.pyramid_attention_broadcast": [{"spatial_attention_block_skip_range": every}],
        "cache_dit.dbcache": [
            {"residual_diff_threshold": one["threshold"], "Fn_compute_blocks": 1} for one in thresholds[-1:]
        ],
    }


def _toml(options: dict[str, Any]) -> str:
    words = (f"{name} = {_value(value)}" for name, value in options.items())
    return "{ " + ", ".join(words) + " }"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def main() -> None:
    """Calibrate, write the grid, run it, keep its records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("runs/compare"))
    parser.add_argument("--only-grid", action="store_true", help="stop when the grid is written")
    asked = parser.parse_args()
    calibrations()
    write_text_atomic(GRID, grid())
    if asked.only_grid:
        return
    code = command(["bench", "--grid", str(GRID), "--output", str(asked.output)])
    if code:
        raise SystemExit(code)
    shutil.copy(asked.output / "records.jsonl", RECORDS)


if __name__ == "__main__":
    main()
