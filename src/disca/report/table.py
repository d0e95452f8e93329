"""The table of a comparison in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box, get_console
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from disca.records import Record
from disca.report.columns import Column, columns, label, note

ROOMY = 130
"""Characters from which on every column and every interval is shown."""


def table(records: Sequence[Record], *, title: str | None = None, roomy: bool = True) -> Table:
    """Records as a table for a terminal, one row each, columns without any value left out.

    Without room it keeps the columns that have a short heading, and of the intervals that of the semantics.
    """
    shown = [column for column in columns(records) if not column.page_only and (roomy or column.short)]
    result = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    result.title_justify, result.title_style = "left", "bold"
    result.add_column("method", overflow="fold")
    for column in shown:
        result.add_column(column.title if roomy else column.short, justify="right", no_wrap=True)
    for record in records:
        cells = (_cell(column, record, roomy or column.interval == "semantic_accuracy") for column in shown)
        result.add_row(_name(record), *cells)
    result.caption, result.caption_justify = _caption(records), "left"
    return result


def print_table(records: Sequence[Record], *, title: str | None = None, console: Console | None = None) -> None:
    """Print the table of some records, in the room that the terminal has."""
    console = console or get_console()
    console.print(table(records, title=title, roomy=console.width >= ROOMY))


def _name(record: Record) -> str:
    below = note(record)
    return escape(label(record)) + (f"\n[dim]{escape(below)}[/dim]" if below else "")


def _cell(column: Column, record: Record, with_spread: bool) -> str:
    spread = column.spread(record) if with_spread else ""
    return f"{column.text(record)}\n[dim]{spread}[/dim]" if spread else column.text(record)


def _caption(records: Sequence[Record]) -> str:
    """What speed-ups and distances are measured against."""
    over = dict.fromkeys(record.speedup_over for record in records if record.speedup_over)
    references = dict.fromkeys(record.reference for record in records if record.reference)
    parts = [f"speed-up over {', '.join(over)}"] if over else []
    parts += [f"PSNR and relative L2 to {', '.join(references)}"] if references else []
    return escape("; ".join(parts))
