"""What is to be encoded: videos with their captions, or prompts alone."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from disca.data.videos import SUFFIXES

FILE = ("file", "video", "file_name", "path")
TEXT = ("caption", "text", "prompt")
IMAGE = ("image", "first_frame")
"""Names of columns, the first that a table has is used."""


@dataclass(frozen=True)
class Item:
    """A clip to be made."""

    name: str
    """Unique in its set: a video's path inside its folder, or a prompt's number."""
    text: str
    path: Path | None = None
    """The video, or the picture that a prompt begins with."""


def videos(folder: Path, captions: Path | None = None) -> tuple[list[Item], dict[str, str]]:
    """Videos of a folder and of those inside, in the order of their names, with captions from a table (``captions``, or
    the one ``.jsonl`` or ``.csv`` in the folder) and else from a text file beside each; and what has none, with why.

    Raises:
        FileNotFoundError: no such folder or table.
        ValueError: no videos, several tables, a table that cannot be read.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}. Give the folder that the videos are in.")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise ValueError(f"There are no videos in {folder}. Files that end in {', '.join(SUFFIXES)} are read.")
    table = captions or _only_table(folder)
    texts = _captions(table) if table else {}
    names = {path.relative_to(folder).as_posix(): path for path in found}
    known = {name: texts.get(name) or texts.get(path.name) or _beside(path) for name, path in names.items()}
    items = [Item(name, text, names[name]) for name, text in known.items() if text]
    left = {name: "it has no caption" for name, text in known.items() if not text}
    absent = {name: "the file is not there" for name in texts if name not in names and not _is_name(name, found)}
    if not items:
        raise ValueError(
            f"None of the {len(found)} videos in {folder} has a caption. Put a text file of the same name beside each, "
            f"or a .jsonl or .csv with the columns {FILE[0]} and {TEXT[0]}."
        )
    return items, left | absent


def prompts(path: Path, *, repeats: int = 1) -> list[Item]:
    """Prompts of a file: a line each (``.txt``), or the rows of a ``.jsonl`` or ``.csv``, with ``image`` where the
    model begins with one; each ``repeats`` times.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file without prompts, or one that cannot be read.
    """
    if path.suffix == ".txt":
        rows: list[tuple[str, Path | None]] = [
            (line.strip(), None) for line in _text(path).splitlines() if line.strip()
        ]
    else:
        rows = [(text_of(row, TEXT, where), _image(row, path)) for where, row in table_rows(path)]
    if not rows:
        raise ValueError(f"{path} holds no prompts. Write one a line, or rows with the column {TEXT[0]!r}.")
    numbered = [(number, *row) for number, row in enumerate(rows)]
    return [
        Item(f"prompt-{number:06d}.{turn}", text, image) for number, text, image in numbered for turn in range(repeats)
    ]


def _image(row: Mapping[str, Any], path: Path) -> Path | None:
    given = next((row[name] for name in IMAGE if row.get(name)), None)
    return path.parent / str(given) if given else None


def _is_name(name: str, found: list[Path]) -> bool:
    return any(path.name == name for path in found)


def _only_table(folder: Path) -> Path | None:
    tables = sorted(path for path in folder.iterdir() if path.suffix in (".jsonl", ".csv"))
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise ValueError(f"There are several tables in {folder}: {names}. Say with --captions which has the captions.")
    return tables[0] if tables else None


def _captions(path: Path) -> dict[str, str]:
    return {Path(text_of(row, FILE, where)).as_posix(): text_of(row, TEXT, where) for where, row in table_rows(path)}


def _beside(path: Path) -> str | None:
    text = path.with_suffix(".txt")
    return (_text(text).strip() or None) if text.is_file() else None


def table_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of a .jsonl or .csv, each with where it stands.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another suffix, no UTF-8, or a line that is no JSON object.
    """
    if path.suffix == ".csv":
        table = csv.DictReader(StringIO(_text(path), newline=""))
        for row in table:
            yield f"{path}, line {table.line_num}", row
    elif path.suffix == ".jsonl":
        for number, line in enumerate(_text(path).split("\n"), start=1):
            if line.strip():
                yield f"{path}, line {number}", _object(line, f"{path}, line {number}")
    else:
        raise ValueError(f"{path} is neither .jsonl nor .csv.")


def _object(line: str, where: str) -> Mapping[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where} is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise ValueError(f'{where} is no JSON object, such as {{"{FILE[0]}": ..., "{TEXT[0]}": ...}}.')
    return value


def text_of(row: Mapping[str, Any], names: tuple[str, ...], where: str) -> str:
    """The text under the first of ``names`` that a row has.

    Raises:
        ValueError: none is there, or it is empty.
    """
    value = next((row[name] for name in names if row.get(name)), None)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(
            f"{where} has no text under {' or '.join(map(repr, names))}. It has: {', '.join(map(str, row))}."
        )
    return value.strip()


def _text(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason}). Save it as UTF-8.") from error
