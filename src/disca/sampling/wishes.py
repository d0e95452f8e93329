"""What is to be sampled: a prompt and a seed for each clip, from a file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disca.data.captions import IMAGE, TEXT, table_rows, text_of
from disca.errors import nearest

COLUMNS = (*TEXT, *IMAGE, "seed", "name")
LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class Wish:
    """One clip to be sampled."""

    name: str
    """Of its file, without a suffix; unique in its list."""
    prompt: str
    seed: int
    image: Path | None = None
    """The picture that it begins with, for pipelines that take one."""


def read(path: str | Path, *, seed: int = 0) -> list[Wish]:
    """The wishes of a file: a prompt a line (``.txt``), or the rows of a ``.jsonl`` or ``.csv`` with the column
    ``prompt`` and, where wanted, ``seed``, ``name`` and ``image`` (beside the file).

    Without a name, clips are called by their number from 0; without a seed, they have ``seed`` plus that number.

    Raises:
        FileNotFoundError: no such file, or no such image.
        ValueError: no prompts, a row that cannot be read, a seed that is none, names that are taken or no file names.
    """
    path = Path(path)
    if path.suffix.lower() not in (".txt", ".jsonl", ".csv"):
        raise ValueError(f"Prompts are read from .txt, .jsonl or .csv; the name {str(path)!r} ends in none of them.")
    found = _lines(path) if path.suffix.lower() == ".txt" else list(table_rows(path))
    if not found:
        raise ValueError(f"{path} holds no prompts. Write one a line, or rows with the column {TEXT[0]!r}.")
    _check_columns(path, found[0][1])
    width = max(4, len(str(len(found) - 1)))
    wishes = [
        Wish(
            name=_name(row, f"{number:0{width}d}", where),
            prompt=text_of(row, TEXT, where),
            seed=_seed(row, seed + number, where),
            image=_image(row, path, where),
        )
        for number, (where, row) in enumerate(found)
    ]
    _check_names(path, wishes)
    return wishes


def _lines(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason}). Save it as UTF-8.") from error
    stripped = ((number, line.strip()) for number, line in enumerate(lines, start=1))
    return [(f"{path}, line {number}", {TEXT[0]: line}) for number, line in stripped if line]


def _check_columns(path: Path, row: Mapping[str, Any]) -> None:
    """Other columns are left alone, but not one that is nearly ours, since its values would be missed."""
    for column in row:
        near = nearest(str(column), COLUMNS)
        if column not in COLUMNS and near and near not in row and abs(len(near) - len(str(column))) < 2:
            raise ValueError(f"{path} has a column {column!r}. Did you mean {near!r}?")


def _name(row: Mapping[str, Any], default: str, where: str) -> str:
    given = row.get("name")
    if given is None or given == "":
        return default
    name = str(given)
    if not re.fullmatch(r"[^\W_][\w .+-]*", name) or len(name.encode()) > 200 or name != name.strip():
        raise ValueError(
            f"{where}: {name!r} cannot be the name of a file everywhere. Begin with a letter or a digit, and use "
            "letters, digits, spaces and . _ + - only, at most 200 bytes."
        )
    return name


def _seed(row: Mapping[str, Any], default: int, where: str) -> int:
    given = row.get("seed")
    if given is None or given == "":
        return default
    text = str(given).strip()
    if isinstance(given, bool) or not re.fullmatch(r"\d+", text) or int(text) > LARGEST_SEED:
        raise ValueError(f"{where}: a seed is a whole number from 0 to {LARGEST_SEED}, not {given!r}.")
    return int(text)


def _image(row: Mapping[str, Any], path: Path, where: str) -> Path | None:
    given = next((row[name] for name in IMAGE if row.get(name)), None)
    if given is None:
        return None
    image = path.parent / str(given)
    if not image.is_file():
        raise FileNotFoundError(f"{where}: there is no image {image}.")
    return image


def _check_names(path: Path, wishes: Sequence[Wish]) -> None:
    taken = [name for name, count in Counter(wish.name.lower() for wish in wishes).items() if count > 1]
    if taken:
        raise ValueError(
            f"{path}: each clip needs a name of its own, upper case or not; taken twice: {', '.join(taken)}."
        )
