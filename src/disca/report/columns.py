"""What a table of records shows, for the terminal and for the page alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from disca.records import Record


@dataclass(frozen=True)
class Column:
    """One column: a heading, what it means, the number to sort by and the words to show."""

    title: str
    meaning: str
    value: Callable[[Record], float | None]
    words: Callable[[float], str]
    interval: str = ""
    """Name of the number whose interval belongs here."""
    short: str = ""
    """Heading where there is little room; a column without one is left out there."""
    page_only: bool = False
    """Left out of terminals, however wide."""

    def text(self, record: Record) -> str:
        """The cell without its interval; empty where nothing was measured."""
        value = self.value(record)
        return "" if value is None else self.words(value)

    def spread(self, record: Record) -> str:
        """The interval in the words of the cell, or nothing."""
        pair = record.intervals.get(self.interval)
        return "" if pair is None or pair[0] == pair[1] else f"{self.words(pair[0])} – {self.words(pair[1])}"


def label(record: Record) -> str:
    """The row's name for readers."""
    return str(record.extra.get("label") or record.name)


def full_steps(record: Record) -> str:
    """Which steps were computed in full: ``all``, or their indices."""
    if len(record.full_steps) == record.steps:
        return "all"
    return " ".join(map(str, record.full_steps))


def note(record: Record) -> str:
    """What stands below the row's name: why it failed, or its full steps."""
    if "error" in record.extra:
        return f"failed: {record.extra['error']}"
    steps = full_steps(record)
    mean = record.extra.get("mean_full_steps")
    return "" if steps == "all" else f"full: {steps}" + ("" if mean is None else f"; {mean:.1f} on average")


def psnr(record: Record) -> float | None:
    """The PSNR, infinite where the clips equal their reference: there a record says null."""
    if record.psnr is None and record.relative_l2 == 0:
        return math.inf
    return record.psnr


def columns(records: Sequence[Record]) -> list[Column]:
    """The columns in which at least one of the records has something to say."""
    known = (*COLUMNS, *_vbench(records))
    return [column for column in known if any(column.value(record) is not None for record in records)]


def _vbench(records: Sequence[Record]) -> list[Column]:
    """A column for each score of VBench that a record has."""
    names = dict.fromkeys(name for record in records for name in record.extra.get("vbench", {}))
    return [
        Column(
            f"VBench {name.replace('_', ' ')}",
            "Score of the VBench tool; higher is better",
            lambda row, name=name: row.extra.get("vbench", {}).get(name),  # type: ignore[misc]
            "{:.4f}".format,
            f"vbench_{name}",
            page_only=True,
        )
        for name in names
    ]


def _measured(record: Record, value: float | None) -> float | None:
    """The value, unless the row failed."""
    return None if "error" in record.extra else value


def _bytes(value: float) -> str:
    return _operations(value) + "B" if value else "0"


def _significant(value: float) -> str:
    return f"{value:#.3g}".rstrip(".") if abs(value) < 1000 else f"{value:,.0f}"


def _operations(value: float) -> str:
    for size, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{_significant(value / size)} {unit}"
    return f"{value:,.0f}"


def _decibels(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.1f}"


COLUMNS = (
    Column("steps", "Sampling steps", lambda row: row.steps, "{:.0f}".format),
    Column(
        "evaluations",
        "Full evaluations of the transformer for one clip",
        lambda row: _measured(row, row.extra.get("mean_evaluations", row.transformer_evaluations)),
        lambda count: f"{count:.1f}".removesuffix(".0"),
        short="evals",
    ),
    Column("FLOPs", "Floating-point operations for one clip", lambda row: row.flops, _operations, "flops"),
    Column(
        "seconds",
        "Sampling loop of one clip, wall-clock",
        lambda row: row.seconds,
        _significant,
        "seconds",
        short="seconds",
    ),
    Column(
        "end to end",
        "One clip with text encoder and codec, wall-clock, seconds",
        lambda row: row.seconds_end_to_end,
        _significant,
        page_only=True,
    ),
    Column("speed-up", "Times faster, in this run", lambda row: row.speedup, "{:.1f}×".format, "speedup", "speed"),
    Column("PSNR, dB", "Closeness to the reference run; higher is closer", psnr, _decibels, "psnr", "PSNR"),
    Column(
        "relative L2",
        "Distance to the reference run; lower is closer",
        lambda row: row.relative_l2,
        "{:.3f}".format,
        "relative_l2",
        "rel. L2",
    ),
    Column(
        "latent L2",
        "Distance of the last latents to the reference run's; lower is closer",
        lambda row: row.latent_l2,
        "{:.3f}".format,
        "latent_l2",
        page_only=True,
    ),
    Column(
        "SSIM",
        "Structural similarity to the reference run; higher is closer",
        lambda row: row.ssim,
        "{:.3f}".format,
        "ssim",
        page_only=True,
    ),
    Column(
        "LPIPS",
        "Learned perceptual distance to the reference run; lower is closer",
        lambda row: row.lpips,
        "{:.3f}".format,
        "lpips",
        page_only=True,
    ),
    Column(
        "motion",
        "Motion over the reference's: 1 is as much, 0 is frozen",
        lambda row: row.motion,
        "{:.2f}".format,
        "motion",
        page_only=True,
    ),
    Column(
        "flicker",
        "How the deviation changes between frames, over the reference's motion: 0 is none, 1 is a frozen clip",
        lambda row: row.flicker,
        "{:.3f}".format,
        "flicker",
        page_only=True,
    ),
    Column(
        "semantics, %",
        "Clips that show what their prompt says",
        lambda row: row.semantic_accuracy,
        lambda share: f"{100 * share:.1f}",
        "semantic_accuracy",
        "right, %",
    ),
    Column(
        "Fréchet",
        "Distance to real clips as a set; lower is closer",
        lambda row: row.frechet,
        "{:.2f}".format,
        "frechet",
    ),
    Column("peak memory", "Most bytes at once", lambda row: row.peak_memory, _bytes, page_only=True),
    Column("held", "Most bytes that the cache kept between steps", lambda row: row.bytes_held, _bytes, page_only=True),
    Column("batch", "Clips of one call", lambda row: row.extra.get("batch"), "{:.0f}".format, page_only=True),
)
