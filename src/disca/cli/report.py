"""`disca report`: a page from records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from disca.cli.printing import Printing, say


@dataclass(frozen=True, kw_only=True)
class Report:
    """Print the table of some records and write a page with it, the frontier, and the clips that lie beside.

    disca report quickstart/records.jsonl

    disca report quickstart/records.jsonl --output comparison.html --title "Seven ways to sample"

    disca report runs/lab/records.jsonl --output docs/lab_methods.md
    """

    records: Positional[Path]
    """A file of records, such as quickstart/records.jsonl; clips.json and trajectories.json beside it are shown too."""
    output: Path | None = None
    """The page, .html or .md; index.html beside the records when left out."""
    title: str = "Comparison"
    """Heading of the page."""
    printing: Printing = Printing()


def report(options: Report) -> dict[str, Any]:
    """Print a table, write a page and say where it is."""
    from disca import records, trajectories
    from disca.report.clips import read_index
    from disca.report.markdown import write_markdown
    from disca.report.page import write_page
    from disca.report.table import print_table

    page = options.output or options.records.parent / "index.html"
    if page.suffix.lower() not in (".html", ".md"):
        raise ValueError(f"A page is written as .html or .md; the name {str(page)!r} ends in neither.")
    rows = records.read(options.records)
    folder = options.records.parent
    clips, paths = read_index(folder), trajectories.read(folder)
    if page.suffix.lower() == ".md":
        write_markdown(page, rows, clips, title=options.title)
    else:
        write_page(page, rows, clips, title=options.title, trajectories=paths)
    print_table(rows)
    say(f"Wrote {page}")
    return {"page": str(page), "records": [row.to_dict() for row in rows]}
