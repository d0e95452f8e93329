"""Write the tables of README and docs from the records: `python benchmarks/tables.py`, or `--check` to compare only.

A table stands between `<!-- records: FILE COLUMN... -->` and `<!-- end -->`; FILE is in benchmarks/records, or in
benchmarks/paper. `FILE:RUN`
takes the rows that are compared with that full run, ordered by what they cost. `<!-- seeds: FILE:RUN COLUMN... -->`
makes one row of those that differ in their training seed only: mean and standard deviation over the seeds.
`<!-- measured: FILE TABLE -->` is one of `MEASURED`, of steps and runs at true size.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

from disca.bench.peers import PEERS
from disca.caching.methods import METHODS
from disca.records import Record, read

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/results.md", "docs/comparison.md", "docs/real_size.md", "benchmarks/paper/README.md")
FOLDERS = ("records", "paper")
PATTERN = re.compile(r"(<!-- (records|seeds|measured): (\S+) (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def spread(record: Record, name: str, digits: int, scale: float = 1.0) -> str:
    """A number and its interval."""
    value = getattr(record, name)
    if value is None:
        return "∞" if name == "psnr" and record.relative_l2 == 0 else ""
    text = f"{scale * value:.{digits}f}"
    if name not in record.intervals:
        return text
    low, high = (scale * end for end in record.intervals[name])
    return f"{text} ({low:.{digits}f}–{high:.{digits}f})"


def label(record: Record) -> str:
    """What a row is called; measured constants by three digits, and their file, which the record names, left out."""
    text = re.sub(r", constants='[^']*'", "", record.extra.get("label", record.name))
    return re.sub(r"\d+\.\d{4,}", lambda found: f"{float(found[0]):.3g}", text)


COLUMNS = {
    "method": ("", label),
    "full": ("full steps", lambda r: " ".join(map(str, r.full_steps)) if len(r.full_steps) < r.steps else "all"),
    "evaluations": ("evaluations", lambda r: str(r.transformer_evaluations)),
    "seconds": ("s / clip", lambda r: f"{r.seconds:.3f}" if r.seconds else ""),
    "speedup": ("speed-up", lambda r: f"{r.speedup:.1f}×" if r.speedup else ""),
    "gflops": ("GFLOP", lambda r: f"{r.flops / 1e9:.1f}" if r.flops else ""),
    "psnr": ("PSNR, dB", lambda r: spread(r, "psnr", 1)),
    "l2": ("relative L2", lambda r: spread(r, "relative_l2", 3)),
    "semantics": ("all three right, %", lambda r: spread(r, "semantic_accuracy", 1, 100)),
    "frechet": ("Fréchet", lambda r: f"{r.frechet:.2f}" if r.frechet is not None else ""),
    "mean": ("full steps", lambda r: f"{r.extra.get('mean_full_steps', len(r.full_steps)):.3g}"),
    "held": ("held, kB", lambda r: f"{r.bytes_held / 1000:.0f}" if r.bytes_held is not None else ""),
    "ssim": ("SSIM", lambda r: spread(r, "ssim", 3)),
    "moves": ("motion", lambda r: spread(r, "motion", 2)),
    "flicker": ("flicker", lambda r: spread(r, "flicker", 2)),
    "error": ("failed", lambda r: str(r.extra.get("error", ""))[:80]),
    "motion": ("motion, px", lambda r: f"{r.extra['amplitude']:.2f}"),
}


SEEDED = {
    "l2": ("relative L2", 3, lambda r: r.relative_l2),
    "psnr": ("PSNR, dB", 1, lambda r: r.psnr),
    "semantics": ("all three right, %", 1, lambda r: 100 * r.semantic_accuracy),
    "frechet": ("Fréchet", 2, lambda r: r.frechet),
    "motion": ("motion, px", 2, lambda r: r.extra["amplitude"]),
    "gflops": ("GFLOP", 1, lambda r: r.flops / 1e9),
}


def rows_of(file: str, run: str) -> list[Record]:
    """Rows of a file; only those that are compared with a full run, and that run, where one is named."""
    rows = read(place(file))
    if not run:
        return rows
    own = [row for row in rows if run in (row.name, row.reference) or f"{run}_batch1" in (row.name, row.reference)]
    return sorted(own, key=lambda row: (-row.transformer_evaluations, row.relative_l2 or 0.0))


def table(file: str, columns: list[str]) -> str:
    """One table in Markdown, with a link to its records."""
    rows = rows_of(*file.split(":"), *[""] * (":" not in file))
    lines = [
        "| " + " | ".join(COLUMNS[name][0] for name in columns) + " |",
        "|" + "---|" + "--:|" * (len(columns) - 1),
        *("| " + " | ".join(COLUMNS[name][1](row) for name in columns) + " |" for row in rows),
    ]
    return "\n".join([*lines, "", about(rows, file.partition(":")[0])]) + "\n"


def seeds(file: str, columns: list[str]) -> str:
    """One table in which a row is all seeds of a variant."""
    rows = rows_of(*file.split(":"), *[""] * (":" not in file))
    rows = [row for row in rows if row.reference]
    rows = [row for row in rows if row.reference == file.partition(":")[2]] or rows
    groups: dict[tuple[str, int], list[Record]] = {}
    for row in rows:
        name = row.extra.get("variant") or re.sub(r",? \d+ (plain |full )?steps$", "", label(row))
        groups.setdefault((name, row.steps), []).append(row)
    lines = [
        "| | steps | " + " | ".join(SEEDED[name][0] for name in columns) + " |",
        "|---|" + "--:|" * (len(columns) + 1),
    ]
    for (name, steps), found in groups.items():
        cells = [over_seeds([SEEDED[column][2](row) for row in found], SEEDED[column][1]) for column in columns]
        lines.append(f"| {name} | {steps} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", about(rows, file.partition(":")[0])]) + "\n"


def measured(file: str, names: list[str]) -> str:
    """Tables of what was measured at true size."""
    rows = read(place(file))
    (card,) = {row.hardware["gpu"] for row in rows}
    lines = [line for name in names for line in MEASURED[name]({row.name: row for row in rows})]
    return "\n".join([*lines, "", f"One {card}, bfloat16, torch {rows[0].versions['torch']}. {source(file)}"]) + "\n"


def runs(rows: dict[str, Record]) -> list[str]:
    """Steps and runs of the transformer, plain and with DisCa."""
    heads = (
        "full step, s | forecast step, s | share | by operations | 50 steps x 2, s | 8 of 20, s | speed-up | bound | "
        "4 of 8, s | speed-up | bound | memory, GB | more with DisCa, GB | waits added"
    )

    def cells(name: str) -> list[str]:
        plain, own = rows[f"{name}/plain"].extra, rows[f"{name}/disca"].extra
        share = own["seconds_forecast"] / plain["seconds_full"]
        found = [f"{plain['seconds_full']:.3f}", f"{own['seconds_forecast']:.3f}", f"{share:.2%}"]
        found += [f"{own['flop_ratio']:.2%}", f"{100 * plain['seconds_full']:,.0f}"]
        for run in (rows[f"{name}/disca/{schedule}"] for schedule in ("8_of_20", "4_of_8")):
            found += [f"{run.seconds:.1f}", f"{run.speedup:.2f}x", f"{run.extra['bound']:.2f}x"]
        return [
            *found,
            f"{plain['peak_bytes'] / 1e9:.1f}",
            f"{own['extra_peak_bytes'] / 1e9:.2f}",
            f"{own['waits_added']}",
        ]

    return by_model(rows, "/plain", heads, cells)


def pixels(rows: dict[str, Record]) -> list[str]:
    """From prompt to pixels."""
    heads = (
        "text, s | VAE, s | 50 steps x 2, s | 8 of 20, s | speed-up | over the stock default | 4 of 8, s | speed-up | "
        "over the stock default"
    )

    def cells(name: str) -> list[str]:
        text, vae = rows[f"{name}/text_encoders"], rows[f"{name}/vae"]
        whole = vae.extra["end_to_end"]
        found = [f"{text.seconds:.2f}", f"{vae.seconds:.1f}", f"{whole['seconds_base']:,.0f}"]
        for run in (whole[f"{name}/disca/{schedule}"] for schedule in ("8_of_20", "4_of_8")):
            found += [f"{run['seconds']:.1f}", f"{run['speedup']:.1f}x", f"{run['speedup_over_stock']:.1f}x"]
        return found

    return by_model(rows, "/vae", heads, cells)


def by_model(rows: dict[str, Record], last: str, heads: str, cells: Callable[[str], list[str]]) -> list[str]:
    """A line for each model and clip that has a row whose name ends so."""
    names = [name.removesuffix(last) for name in rows if name.endswith(last)]
    lines = [f"| {name.replace('/', ' | ')} | {' | '.join(cells(name))} |" for name in names]
    return [f"| model | clip | {heads} |", "|---|---|" + "--:|" * len(heads.split(" | ")), *lines]


def methods(rows: dict[str, Record]) -> list[str]:
    """What every cache's steps take on the model that most of them were measured on."""
    model = {name: row for name, row in rows.items() if name.startswith("wan_1.3b/") and row.steps == 6}
    own = {name.rpartition("/")[2]: row for name, row in model.items()}
    plain = own["plain"].extra["seconds_full"]
    lines = ["| | full step, s | forecast step, s | of a plain step | more memory, GB |", "|---|--:|--:|--:|--:|"]
    for name in (*METHODS, *PEERS):
        if name in own and (forecast := own[name].extra.get("seconds_forecast")) is not None:
            lines.append(
                f"| {name} | {own[name].extra['seconds_full']:.3f} | {forecast:.4f} | "
                f"{forecast / plain:.1%} | {own[name].extra['extra_peak_bytes'] / 1e9:.2f} |"
            )
    return lines


def compiled(rows: dict[str, Record]) -> list[str]:
    """What compiled blocks make of a step."""
    heads = "full step, s | of eager | forecast step, s | of eager"
    lines = [f"| model | clip | | {heads} |", "|---|---|---|--:|--:|--:|--:|"]
    for name in (name for name in rows if name.endswith("/compiled")):
        eager, now = rows[name.removesuffix("/compiled")].extra, rows[name].extra
        cells = []
        for kind in ("seconds_full", "seconds_forecast"):
            cells += [f"{now[kind]:.3g}", f"{now[kind] / eager[kind]:.0%}"] if kind in now else ["", ""]
        lines.append(f"| {' | '.join([*name.split('/')[:-1], *cells])} |")
    return lines


MEASURED = {"runs": runs, "pixels": pixels, "methods": methods, "compiled": compiled}


def over_seeds(values: list[float | None], digits: int) -> str:
    """Mean and standard deviation, or the one value."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    text = f"{mean(known):.{digits}f}"
    return text if len(known) == 1 else f"{text} ± {stdev(known):.{digits}f}"


def about(rows: list[Record], file: str) -> str:
    """What stands below a table."""
    said = f"{len(rows[0].seeds)} pairs of held-out prompt and noise"
    references = dict.fromkeys(row.reference for row in rows if row.reference)
    said += f"; PSNR and relative L2 to {', '.join(f'`{name}`' for name in references)}" if references else ""
    return f"{said}. {source(file)}"


def source(file: str) -> str:
    """Where the records are."""
    return f"Records: [{file}]({{link}}{place(file).parent.name}/{file})."


def place(file: str) -> Path:
    """Where a file of records is."""
    found = (ROOT / "benchmarks" / folder / file for folder in FOLDERS)
    return next(path for path in found if path.is_file())


def fill(text: str, page: str) -> str:
    """A page with its tables written anew."""
    link = {"README.md": "benchmarks/", "benchmarks/paper/README.md": "../"}.get(page, "../benchmarks/")

    def replace(found: re.Match[str]) -> str:
        written = {"records": table, "seeds": seeds, "measured": measured}[found[2]](found[3], found[4].split())
        return found[1] + written.replace("{link}", link) + found[5]

    return PATTERN.sub(replace, text)


def main() -> None:
    """Write, or compare."""
    stale = []
    for page in PAGES:
        path = ROOT / page
        old = path.read_text()
        new = fill(old, page)
        if new != old:
            stale.append(page)
            if "--check" not in sys.argv:
                path.write_text(new)
    if stale and "--check" in sys.argv:
        raise SystemExit(f"Tables are older than their records in {', '.join(stale)}: run python benchmarks/tables.py.")


if __name__ == "__main__":
    main()
