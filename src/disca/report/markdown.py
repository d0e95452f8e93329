"""The same page as Markdown, with its pictures as files beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from disca.files import check_writable, write_text_atomic
from disca.records import Record
from disca.report.clips import Clip
from disca.report.columns import Column, columns, label, note
from disca.report.frontier import charts
from disca.report.page import origin, references

STYLE = (
    "<style>text{font:12px sans-serif;fill:#555}.grid{stroke:#ddd}.best{fill:none;stroke:#1f6f6b;opacity:.5}"
    ".point circle{fill:#fff;stroke:#a9aaa6;stroke-width:2}.leading circle{fill:#1f6f6b;stroke:#1f6f6b}</style>"
    '<rect width="100%" height="100%" fill="#fff"/>'
)
"""What a picture needs where no page gives it colours."""


def write_markdown(
    path: str | Path, records: Sequence[Record], clips: Sequence[Clip] = (), *, title: str = "Comparison"
) -> None:
    """Write a Markdown file, and beside it an SVG file for each picture, named after it.

    Args:
        path: where to; existing files are replaced, each whole or not at all.
        records: rows of the table, in order.
        clips: clips to show side by side, linked where they lie; GIFs, WebPs and PNGs show in most readers.
        title: heading of the page.

    Raises:
        ValueError: there are no records.
        OSError: the folder cannot be written.
    """
    if not records:
        raise ValueError("There is nothing to report: the records are empty.")
    path = Path(path)
    check_writable(path.parent)
    parts = [f"# {title}", table(records), *references(records), *_pictures(path, records)]
    parts += [*_gallery(path, records, clips), *_origin(records)]
    write_text_atomic(path, "\n\n".join(parts) + "\n")


def table(records: Sequence[Record]) -> str:
    """The table of some records."""
    shown = columns(records)
    head = ["method", *(column.title for column in shown)]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * len(shown)]
    for record in records:
        cells = [_name(record), *(_cell(column, record) for column in shown)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _name(record: Record) -> str:
    below = note(record)
    return _plain(label(record)) + (f"<br><sub>{_plain(below)}</sub>" if below else "")


def _cell(column: Column, record: Record) -> str:
    spread = column.spread(record)
    return column.text(record) + (f"<br><sub>{spread}</sub>" if spread else "")


def _pictures(path: Path, records: Sequence[Record]) -> list[str]:
    drawn = [(name, picture) for name, pictures in charts(records) for picture in pictures]
    lines = ["## Cost and closeness"] if drawn else []
    for number, (name, picture) in enumerate(drawn, start=1):
        file = path.with_name(f"{path.stem}_{number}.svg")
        write_picture(file, picture)
        lines.append(f"![{_plain(name) or 'frontier'}]({file.name})")
    return lines


def write_picture(file: Path, picture: str) -> None:
    """Write a picture that was drawn for a page as a file of its own."""
    head, _, rest = picture.partition(">")
    write_text_atomic(file, f'{head} xmlns="http://www.w3.org/2000/svg">{STYLE}{rest}\n')


def _gallery(path: Path, records: Sequence[Record], clips: Sequence[Clip]) -> list[str]:
    names = {record.name: label(record) for record in records}
    lines = ["## Side by side"] if clips else []
    for (prompt, seed), group in groupby(clips, key=lambda clip: (clip.prompt, clip.seed)):
        row = list(group)
        heads = [_plain(names.get(clip.name, clip.name)) for clip in row]
        shown = [f"![{_plain(clip.note or clip.name)}]({_link(clip.path, path)})" for clip in row]
        said = prompt if seed is None else f"{prompt}, seed {seed}"
        grid = ("| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(row), shown))
        lines += [f"**{_plain(said)}**", "\n".join(grid)]
    return lines


def _link(clip: Path, page: Path) -> str:
    return Path(os.path.relpath(clip, page.parent)).as_posix().replace(" ", "%20")


def _origin(records: Sequence[Record]) -> list[str]:
    facts = [f"- {name}: {_plain('; '.join(values))}" for name, values in origin(records)]
    return ["## Where this comes from", "\n".join(facts)] if facts else []


def _plain(text: str) -> str:
    """Text that no reader takes for markup."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("*", "\\*")
    return " ".join(text.split())
