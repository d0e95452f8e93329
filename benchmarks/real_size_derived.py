"""What steps and runs would take at true size, derived: `python benchmarks/real_size_derived.py`. A minute, no GPU.

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
from pathlib import Path
from typing import Any

from disca.bench.machines import BANDWIDTH_EFFICIENCY, CARDS, EFFICIENCY, card
from disca.bench.predict import outlook
from disca.bench.subjects import DISCA_8, DISCA_20, SUBJECTS
from disca.files import write_text_atomic
from disca.provenance import command_line, now, versions

ROOT = Path(__file__).parents[1]
FILE, PAGE = ROOT / "benchmarks" / "records" / "real_size_derived.json", ROOT / "docs" / "real_size.md"
SCHEDULES = {"8_of_20": DISCA_20, "4_of_8": DISCA_8}
PATTERN = re.compile(r"(<!-- derived: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def derive() -> list[dict[str, Any]]:
    """One row for each model and size."""
    rows = []
    for subject in SUBJECTS:
        for size in subject.sizes:
            found = {name: outlook(subject.host, subject.config, size, one) for name, one in SCHEDULES.items()}
            first = next(iter(found.values()))
            rows.append(
                {
                    "model": subject.name,
                    "size": str(size),
                    **asdict(first.cost),
                    "stock": [first.stock_steps, first.stock_passes],
                    "bounds": {name: one.bound for name, one in found.items()},
                    "bounds_over_stock": {name: one.bound_over_stock for name, one in found.items()},
                    "cards": {name: _on(card(name), found) for name in CARDS},
                }
            )
    return rows


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
        "predictor, GB | cache, GB | 8 of 20 | 4 of 8 | stock default | 8 of 20 over it |",
        "|---|---|" + "--:|" * 12,
    ]
    for row in found["rows"]:
        full, forecast = row["full"], row["forecast"]
        stock = " x ".join(map(str, row["stock"]))
        lines.append(
            f"| {row['model']} | {row['size']} | {' + '.join(f'{n:,}' for n in row['tokens'])} | "
            f"{full['flops'] / 1e12:,.0f} | {full['attention'] / full['flops']:.0%} | "
            f"{forecast['flops'] / 1e12:,.0f} | "
            f"{forecast['flops'] / full['flops']:.2%} | {row['parameter_bytes'] / 1e9:.1f} | "
            f"{row['predictor_bytes'] / 1e9:.2f} | {row['cache_bytes'] / 1e9:.3f} | {row['bounds']['8_of_20']:.1f}x | "
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


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {"steps": steps_table, "cards": cards_table}


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
