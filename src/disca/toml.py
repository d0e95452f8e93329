"""Frozen dataclasses from TOML, strictly: what recipes and grids are read with."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from disca.errors import unknown

T = TypeVar("T")


def read(path: str | Path) -> dict[str, Any]:
    """The table of a TOML file.

    Raises:
        ValueError: it is not valid TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not valid TOML: {error}.") from error


def parse(cls: type[T], table: Mapping[str, Any], *, where: str) -> T:
    """A dataclass from a table; ``where`` is what an error calls the table.

    Raises:
        ValueError: an unknown key (names the nearest valid one), a value of another type, a missing key.
    """
    hints = get_type_hints(cls)
    names = [item.name for item in fields(cls)]  # type: ignore[arg-type]
    for key in table:
        if key not in names:
            raise ValueError(f"{where}: {unknown('key', key, names)}")
    values = {key: _value(hints[key], value, where=f"{where}: {key}") for key, value in table.items()}
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {str(error).rstrip('.')}.") from error


def _value(hint: Any, value: Any, *, where: str) -> Any:
    if is_dataclass(hint):
        return parse(hint, value, where=where)  # type: ignore[arg-type]
    if get_origin(hint) is tuple:
        return _tuple(get_args(hint), value, where=where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    plain = get_origin(hint) or hint
    if isinstance(plain, type) and plain in (int, float, str, bool) and type(value) is not plain:
        raise ValueError(f"{where} is {value!r}; {plain.__name__} is expected.")
    return value


def _tuple(kinds: tuple[Any, ...], value: Any, *, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where} is {value!r}; a list is expected.")
    kinds = (kinds[0],) * len(value) if kinds[-1] is Ellipsis else kinds
    if len(kinds) != len(value):
        raise ValueError(f"{where} is {value!r}; {len(kinds)} values are expected.")
    return tuple(_value(kind, item, where=where) for kind, item in zip(kinds, value, strict=True))
