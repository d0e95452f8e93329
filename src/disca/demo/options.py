"""The options of the caching methods as a page asks for them: read off the one table of methods."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from inspect import signature
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from docstring_parser import parse_from_object

from disca.caching.constants import MAGNITUDES, POLYNOMIALS
from disca.caching.methods import METHODS
from disca.cli.methods import MethodOptions
from disca.errors import unknown

Kind = Literal["whole", "number", "pair", "choice", "switch"]
LARGEST = 1e6
"""No number of an option is larger, or smaller than its negative."""
PUBLISHED: Mapping[str, Iterable[str]] = {"teacache": POLYNOMIALS, "magcache": MAGNITUDES}
"""Names of constants that come with the package. Files are named when the page is started, never on it."""
START: Mapping[str, Mapping[str, Any]] = {
    "delta_dit": {"every": 2},
    "pab": {"attention": 2},
    "teacache": {"threshold": 0.2},
    "toca": {"ratio": 0.3},
    "duca": {"ratio": 0.3},
    "speca": {"threshold": 0.3, "floor": 0.0, "fewest": 1, "most": 3},
    "magcache": {"error": 0.24, "skips": 3},
    "easycache": {"threshold": 0.5, "warmup": 2},
    "first_block_cache": {"threshold": 0.3},
}
"""Values to begin with, for options that have no default one would defend."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option of a method."""

    name: str
    kind: Kind
    help: str
    choices: tuple[str, ...] = ()
    default: Any = None
    """The method's own; None where it decides by itself, or where the option is asked for."""
    start: Any = None
    """What a control shows at first: a pair as words."""
    required: bool = False


def options_of(method: str, files: Mapping[str, Path] | None = None) -> tuple[Option, ...]:
    """The options of a method but for its full steps, which are chosen on the timeline, and its predictor.

    Args:
        files: files of constants by the names that the page shows.

    Raises:
        ValueError: nobody knows the method.
    """
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(unknown("method", str(method)[:40], METHODS))
    known = {field.name for field in fields(MethodOptions)} - {"full_steps"}
    return tuple(_option(method, name, files or {}) for name in METHODS[method].options if name in known)


def all_names() -> tuple[str, ...]:
    """Names of the options of all methods, those first that most methods ask for."""
    every = [option for method in METHODS for option in options_of(method)]
    return tuple(dict.fromkeys(option.name for option in sorted(every, key=lambda option: not option.required)))


def given(method: str, values: Mapping[str, Any], files: Mapping[str, Path] | None = None) -> dict[str, Any]:
    """What a method is called with, from the values of the page's controls; an empty one is left to the method.

    Raises:
        ValueError: a value of another kind, out of all bounds, or none of the choices.
    """
    found = {}
    for option in options_of(method, files):
        value = values.get(option.name)
        if value is None or value == "" or read(option, value) == option.default:
            continue
        found[option.name] = read(option, value)
        if option.name == "constants" and files and found[option.name] in files:
            found[option.name] = files[found[option.name]]
    return found


def read(option: Option, value: Any) -> Any:
    """One value of a control as the method takes it.

    Raises:
        ValueError: as :func:`given`.
    """
    if option.kind == "switch":
        return bool(value)
    if option.kind == "choice":
        if value not in option.choices:
            raise ValueError(unknown(option.name.replace("_", " "), str(value)[:40], option.choices))
        return value
    if option.kind == "pair":
        words = str(value)[:80].replace(",", " ").split()
        if len(words) != 2:
            raise ValueError(f"{option.name} is two numbers, such as 0.1 0.8; given {str(value)[:40]!r}.")
        return tuple(_number(option, word) for word in words)
    return _number(option, value)


def _number(option: Option, value: Any) -> int | float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    whole = option.kind == "whole"
    if not abs(number) <= LARGEST or (whole and number != int(number)):
        kind = "a whole number" if whole else "a number"
        raise ValueError(f"{option.name} is {kind} of at most {LARGEST:,.0f}; given {str(value)[:40]!r}.")
    return int(number) if whole else number


def _option(method: str, name: str, files: Mapping[str, Path]) -> Option:
    function = METHODS[method].function
    parameter = signature(function).parameters[name]
    kind, choices = _kind(get_type_hints(function)[name])
    if name == "constants":
        kind, choices = "choice", (*PUBLISHED[method], *files)
    required = parameter.default is parameter.empty
    default = None if required else parameter.default
    start = START.get(method, {}).get(name, _shown(default))
    return Option(
        name=name, kind=kind, help=_HELP[name], choices=choices, default=default, start=start, required=required
    )


def _shown(value: Any) -> Any:
    return " ".join(f"{one:g}" for one in value) if isinstance(value, tuple) else value


def _kind(hint: Any) -> tuple[Kind, tuple[str, ...]]:
    """The kind of control for an annotation."""
    if get_origin(hint) in (Union, UnionType):
        hint = next(one for one in get_args(hint) if one is not type(None))
    if get_origin(hint) is Literal:
        return "choice", get_args(hint)
    if get_origin(hint) is tuple:
        return "pair", ()
    kinds: dict[Any, Kind] = {bool: "switch", int: "whole"}
    return kinds.get(hint, "number"), ()


def _helps() -> dict[str, str]:
    """What each option means, in the words of the command line, without the methods that they name first."""
    said = {item.arg_name: item.description or "" for item in parse_from_object(MethodOptions).params}
    return {name: _without_methods(" ".join(text.split())) for name, text in said.items()}


def _without_methods(text: str) -> str:
    before, colon, after = text.partition(": ")
    named = colon and all(word.strip() in METHODS for word in before.split(","))
    text = after if named else text
    return text[:1].upper() + text[1:]


_HELP = _helps()
