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


def psnr(record: Record) -> float | None:
    """The PSNR, infinite where the clips equal their reference: there a record says null."""
    if record.psnr is None and record.relative_l2 == 0:
        return math.inf
    return record.psnr


def columns(records: Sequence[Record]) -> list[Column]:
    """The columns in which at least one of the records has something to say."""
    return [column for column in COLUMNS if any(column.value(record) is not None for record in records)]


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
        lambda row: row.transformer_evaluations,
        "{:.0f}".format,
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
)
