"""What steps and runs would take at true size, derived: `python benchmarks/real_size_derived.py`. Minutes, no GPU.

Writes benchmarks/records/real_size_derived.json, and the tables of docs/real_size.md from it; `--check` compares the
page with the record only. Operations and bytes are counted from configurations; seconds are those divided by what data
sheets say, at the efficiencies that `disca.bench.machines` assumes. Nothing here is measured.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from disca.adapters import ADAPTERS
from disca.bench.around import DECODE, TEXT, Plan, StageCost, cost_of_stage, whole
from disca.bench.cost import PASSES, STEPS, HostCost, cost_of
from disca.bench.machines import BANDWIDTH_EFFICIENCY, CARDS, EFFICIENCY, Machine, card
from disca.bench.operations import Cost
from disca.bench.predict import outlook_of
from disca.bench.shares import forecast_shares
from disca.bench.sizes import Size, feed_of
from disca.bench.subjects import DISCA_8, DISCA_20, SUBJECTS, Subject
from disca.files import write_text_atomic
from disca.provenance import command_line, now, versions

ROOT = Path(__file__).parents[1]
FILE, PAGE = ROOT / "benchmarks" / "records" / "real_size_derived.json", ROOT / "docs" / "real_size.md"
SCHEDULES = {"8_of_20": DISCA_20, "4_of_8": DISCA_8}
TEXT_OF = "hunyuan_video_15"  # the longest text
VAE_EFFICIENCIES = (0.5, 0.1)
"""Shares of a card's operations per second that a VAE's convolutions may achieve: as products do, and badly."""
PATTERN = re.compile(r"(<!-- derived: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def derive() -> list[dict[str, Any]]:
    """One row for each model and size."""
    return [row(subject, size) for subject in SUBJECTS for size in subject.sizes]


def row(subject: Subject, size: Size) -> dict[str, Any]:
    """A model at a size."""
    cost = cost_of(subject.host, subject.config, size)
    found = {name: outlook_of(subject.host, cost, size, one) for name, one in SCHEDULES.items()}
    first = next(iter(found.values()))
    return {
        "model": subject.name,
        "size": str(size),
        **asdict(cost),
        "stock": [first.stock_steps, first.stock_passes],
        "bounds": {name: one.bound for name, one in found.items()},
        "bounds_over_stock": {name: one.bound_over_stock for name, one in found.items()},
        "cards": {name: _on(card(name), found) for name in CARDS},
        "around": around(subject.host, size, cost),
        "text": text_shares(subject, size, cost.tokens) if subject.name == TEXT_OF else None,
    }


@cache
def stage(name: Any, host: str, size: Size) -> StageCost:
    """Of text encoders or VAE."""
    return cost_of_stage(Plan(name=name, host=host, size=size))


def around(host: str, size: Size, cost: HostCost) -> dict[str, Any]:
    """Text encoders and VAE, and by what the operations of whole runs are fewer with them."""
    text, vae = stage(TEXT, host, SUBJECTS[0].sizes[0]), stage(DECODE, host, size)  # text knows no size
    feed = feed_of(ADAPTERS[host])

    def operations(loop: float, passes: int) -> float:
        return whole(loop, text.cost.flops, vae.cost.flops, passes=passes)

    base = operations(STEPS * PASSES * cost.full.flops, PASSES)
    stock = operations(feed.steps * feed.passes * cost.full.flops, feed.passes)
    runs = {name: operations(cost.run(schedule).flops, 1) for name, schedule in SCHEDULES.items()}
    return {
        "text": asdict(text),
        "vae": asdict(vae),
        "runs": {name: {"over_base": base / run, "over_stock": stock / run} for name, run in runs.items()},
    }


def text_shares(subject: Subject, size: Size, tokens: tuple[int, ...]) -> dict[str, float]:
    """Of a forecast step's operations, what is done for text: outside the predictor, and in its last block, where what
    comes of it is thrown away by the host."""
    found = forecast_shares(subject.host, subject.config, size)
    last = "predictor.blocks.1"
    attention = found[f"{last}.attn"].attention * tokens[1] / sum(tokens)
    pieces = {
        "token refiner": found["host.context_embedder"].flops,
        "embedders of glyphs and picture": sum(
            found[f"host.{name}"].flops for name in ("context_embedder_2", "image_embedder")
        ),
        "last block: attention of the text to everything": attention,
        "last block: output projection and feed-forward of the text": sum(
            found[f"{last}.{name}"].flops for name in ("attn.to_add_out", "ff_context")
        ),
    }
    return {name: operations / found["step"].flops for name, operations in pieces.items()}


def _on(machine: Any, found: dict[str, Any]) -> dict[str, Any]:
    predictions = {name: one.on(machine) for name, one in found.items()}
    first = next(iter(predictions.values()))
    return {
        "seconds_full": first.seconds_full,
        "seconds_forecast": first.seconds_forecast,
        "runs": {name: {"seconds": p.seconds_run, "speedup": p.speedup} for name, p in predictions.items()},
    }


def steps_table(found: dict[str, Any]) -> str:
    """Operations and bytes."""
    lines = [
        "| model | clip | tokens | full step, TFLOP | of it attention | forecast step, TFLOP | share | weights, GB | "
        "predictor, GB | cache, GB | more at the peak, GB | 8 of 20 | 4 of 8 | stock default | 8 of 20 over it |",
        "|---|---|" + "--:|" * 13,
    ]
    for row in found["rows"]:
        full, forecast = row["full"], row["forecast"]
        stock = " x ".join(map(str, row["stock"]))
        more = row["predictor_bytes"] + row["extra_bytes"]
        lines.append(
            f"| {row['model']} | {row['size']} | {' + '.join(f'{n:,}' for n in row['tokens'])} | "
            f"{full['flops'] / 1e12:,.0f} | {full['attention'] / full['flops']:.0%} | "
            f"{forecast['flops'] / 1e12:,.0f} | "
            f"{forecast['flops'] / full['flops']:.2%} | {row['parameter_bytes'] / 1e9:.1f} | "
            f"{row['predictor_bytes'] / 1e9:.2f} | {row['cache_bytes'] / 1e9:.3f} | "
            f"{more / 1e9:.2f} | {row['bounds']['8_of_20']:.1f}x | "
            f"{row['bounds']['4_of_8']:.1f}x | {stock} | {row['bounds_over_stock']['8_of_20']:.1f}x |"
        )
    return "\n".join(lines)


def cards_table(found: dict[str, Any]) -> str:
    """Seconds by card, of the first model at its first size."""
    row = found["rows"][0]
    lines = [
        "| card (derived) | full step, s | forecast step, s | 50 steps x 2, s | 8 of 20, s | speed-up | 4 of 8, s | "
        "speed-up | weights, predictor and cache fit, a fifth to spare |",
        "|---|" + "--:|" * 7 + "---|",
    ]
    need = row["parameter_bytes"] + row["predictor_bytes"] + row["cache_bytes"]
    for name, one in row["cards"].items():
        runs = [one["runs"][schedule] for schedule in SCHEDULES]
        cells = [f"{run['seconds']:,.0f} | {run['speedup']:.1f}x" for run in runs]
        fits = "yes" if 1.25 * need < CARDS[name].memory_bytes else "no: offload or quantise"
        lines.append(
            f"| {name} | {one['seconds_full']:.1f} | {one['seconds_forecast']:.2f} | "
            f"{100 * one['seconds_full']:,.0f} | "
            f"{' | '.join(cells)} | {fits} |"
        )
    return "\n".join(lines)


def around_table(found: dict[str, Any]) -> str:
    """Text encoders, VAE, and operations of whole runs with them."""
    lines = [
        "| model | clip | text encoders, TFLOP a prompt | their weights, GB | VAE, TFLOP | of a full step | "
        "VAE moves, GB | VAE needs, GB | 8 of 20 | over the stock default | 4 of 8 | over the stock default |",
        "|---|---|" + "--:|" * 10,
    ]
    for row in found["rows"]:
        text, vae, runs = (row["around"][name] for name in ("text", "vae", "runs"))
        speedups = [f"{runs[name][over]:.1f}x" for name in SCHEDULES for over in ("over_base", "over_stock")]
        need = vae["parameter_bytes"] + vae["tensor_bytes"]
        lines.append(
            f"| {row['model']} | {row['size']} | {text['cost']['flops'] / 1e12:.1f} | "
            f"{text['parameter_bytes'] / 1e9:.1f} | {vae['cost']['flops'] / 1e12:,.0f} | "
            f"{vae['cost']['flops'] / row['full']['flops']:.0%} | "
            f"{vae['cost']['bytes'] / 1e9:,.0f} | {need / 1e9:.1f} | "
            f"{' | '.join(speedups)} |"
        )
    return "\n".join(lines)


def whole_table(found: dict[str, Any]) -> str:
    """Seconds from prompt to pixels by card, of the first model at its first size."""
    row = found["rows"][0]
    lines = [
        "| card (derived) | text, s | VAE at half of the operations, s | 8 of 20, s | speed-up | over the "
        "stock default | VAE at a tenth, s | 8 of 20, s | speed-up | over the stock default |",
        "|---|" + "--:|" * 9,
    ]
    for name in found["cards"]:
        cells = [cell for efficiency in VAE_EFFICIENCIES for cell in _whole_cells(found, row, name, efficiency)]
        text = _seconds(found, name, row["around"]["text"]["cost"], found["efficiency"])
        lines.append(f"| {name} | {text:.2f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _whole_cells(found: dict[str, Any], row: dict[str, Any], card: str, efficiency: float) -> list[str]:
    text = _seconds(found, card, row["around"]["text"]["cost"], found["efficiency"])
    vae = _seconds(found, card, row["around"]["vae"]["cost"], efficiency)
    steps, each = row["cards"][card], row["cards"][card]["seconds_full"]
    run = whole(steps["runs"]["8_of_20"]["seconds"], text, vae)
    counts = [(STEPS, PASSES), tuple(row["stock"])]
    others = [whole(count * passes * each, text, vae, passes=passes) for count, passes in counts]
    return [f"{vae:.1f}", f"{run:,.0f}", *(f"{other / run:.1f}x" for other in others)]


def _seconds(found: dict[str, Any], card: str, cost: dict[str, int], efficiency: float) -> float:
    sheet = found["cards"][card]
    flops, moved = efficiency * sheet["flops_per_second"], found["bandwidth_efficiency"] * sheet["bytes_per_second"]
    return Machine(card, flops, moved, derived=True).seconds(Cost(**cost))


def text_table(found: dict[str, Any]) -> str:
    """What a forecast step of HunyuanVideo-1.5 does for text."""
    rows = [row for row in found["rows"] if row["text"]]
    lines = [f"| share of a forecast step of {rows[0]['model']} | {' | '.join(row['size'] for row in rows)} |"]
    lines += ["|---|" + "--:|" * len(rows)]
    for name in rows[0]["text"]:
        cells = [f"{row['text'][name]:.2%}" for row in rows]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "steps": steps_table,
    "around": around_table,
    "text": text_table,
    "cards": cards_table,
    "whole": whole_table,
}


def fill(page: str, found: dict[str, Any]) -> str:
    """The page with its tables written anew."""
    return PATTERN.sub(lambda part: f"{part[1]}{TABLES[part[2]](found)}\n{part[3]}", page)


def main() -> None:
    """Derive, write, fill in."""
    if "--check" not in sys.argv:
        about = {"versions": versions(), "command": command_line(), "date": now(), "derived": True}
        assumed = {"efficiency": EFFICIENCY, "bandwidth_efficiency": BANDWIDTH_EFFICIENCY}
        cards = {name: asdict(sheet) for name, sheet in CARDS.items()}
        write_text_atomic(FILE, json.dumps({**about, **assumed, "cards": cards, "rows": derive()}, indent=1) + "\n")
    page = PAGE.read_text()
    filled = fill(page, json.loads(FILE.read_text()))
    if filled != page and "--check" in sys.argv:
        raise SystemExit("docs/real_size.md is older than its record: run python benchmarks/real_size_derived.py.")
    write_text_atomic(PAGE, filled)


if __name__ == "__main__":
    main()
