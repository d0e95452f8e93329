"""`disca report`: a page from records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional


@dataclass(frozen=True, kw_only=True)
class Report:
    """Print the table of some records and write a page with it, the frontier, and the clips that lie beside.

    disca report quickstart/records.jsonl

    disca report quickstart/records.jsonl --output comparison.html --title "Seven ways to sample"
    """

    records: Positional[Path]
    """A file of records, such as quickstart/records.jsonl; clips are found through clips.json beside it."""
    output: Path | None = None
    """The page; index.html beside the records when left out."""
    title: str = "Comparison"
    """Heading of the page."""


def report(options: Report) -> None:
    """Print a table, write a page and say where it is."""
    from disca import records
    from disca.report.clips import read_index
    from disca.report.page import write_page
    from disca.report.table import print_table

    rows = records.read(options.records)
    page = options.output or options.records.parent / "index.html"
    write_page(page, rows, read_index(options.records.parent), title=options.title)
    print_table(rows)
    print(f"Wrote {page}")
