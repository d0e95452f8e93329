"""One measured row, with everything needed to measure it again.

A file of records holds one JSON object per line. It is strict JSON: numbers are finite, an infinite PSNR is null.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from disca.errors import nearest
from disca.files import write_text_atomic
from disca.provenance import command_line, hardware, now, versions

__all__ = ["SCHEMA", "Record", "command_line", "hardware", "now", "read", "versions", "write"]

SCHEMA = 1
"""Raised when the meaning of a field changes; a reader refuses other numbers."""

_INTERVAL = "_interval"
_WHOLE = ("steps", "transformer_evaluations")
_NUMBERS = (
    *("seconds", "seconds_end_to_end", "speedup", "flops", "peak_memory", "bytes_held"),
    *("psnr", "ssim", "lpips", "relative_l2", "latent_l2", "motion", "flicker", "semantic_accuracy", "frechet"),
)
_TEXT = ("name", "policy", "command", "date")
_LISTS = ("full_steps", "seeds", "prompts")
_MAPPINGS = ("intervals", "versions", "hardware", "extra")


@dataclass(frozen=True, kw_only=True)
class Record:
    """One row of a comparison. What was not measured is None.

    Raises:
        ValueError: a field has another type than its annotation, a number is not finite (an infinite ``psnr`` is taken
            as None), or the schedule does not fit ``steps``.
    """

    name: str
    """Fixed name of the row, such as ``base_50``, ``student_8`` or ``disca_8_4``."""
    policy: str = "none"
    """The caching policy written out, such as ``taylor(full_steps=(0, 2, 4, 7), order=1)``."""
    steps: int
    """Number of sampling steps."""
    full_steps: tuple[int, ...]
    """Steps at which the whole transformer was evaluated, in order, from 0."""
    transformer_evaluations: int
    """Full evaluations of the transformer for one clip, over all branches."""
    seconds: float | None = None
    """Wall-clock of the sampling loop for one clip, the median over turns."""
    seconds_end_to_end: float | None = None
    """Wall-clock of one clip from its prompt to its pixels: with the text encoder and the codec."""
    speedup: float | None = None
    """Seconds of the row ``speedup_over`` divided by the seconds of this one, the median over turns of one run."""
    speedup_over: str | None = None
    """Name of the row that ``speedup`` compares with."""
    flops: float | None = None
    """Floating-point operations of the sampling loop for one clip, counted."""
    peak_memory: float | None = None
    """Most bytes at once; ``extra["peak_memory_of"]`` says of what."""
    bytes_held: float | None = None
    """Most bytes that the cache kept between steps."""
    reference: str | None = None
    """Which run ``psnr`` and ``relative_l2`` measure the distance to: the name of a row, or words."""
    psnr: float | None = None
    """Mean peak signal-to-noise ratio to the reference in dB; None where infinite."""
    ssim: float | None = None
    """Mean structural similarity to the reference."""
    lpips: float | None = None
    """Mean learned perceptual distance to the reference."""
    relative_l2: float | None = None
    """Mean over clips of the norm of the difference to the reference divided by the norm of the reference."""
    latent_l2: float | None = None
    """The same for the latents at the end of the sampling loop."""
    motion: float | None = None
    """Motion over the reference's: 1 is the reference, 0 is frozen, see :func:`disca.metrics.temporal.motion`."""
    flicker: float | None = None
    """Change of the deviation between frames over the reference's motion: 0 is the reference, 1 is frozen, see
    :func:`disca.metrics.temporal.flicker`."""
    semantic_accuracy: float | None = None
    """Share of clips that show what the prompt says, in [0, 1]."""
    frechet: float | None = None
    """Frechet distance to real clips, in the features that ``extra`` or the report names."""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """95 % intervals by the name of the number; in the file each is a field of its own, ``NAME_interval``."""
    seeds: tuple[int, ...] = ()
    """Seed of each clip."""
    prompts: tuple[str, ...] = ()
    """Prompt of each clip."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of what ran, see :func:`disca.provenance.versions`."""
    hardware: Mapping[str, Any] = field(default_factory=dict)
    """What it ran on, see :func:`disca.provenance.hardware`."""
    command: str = ""
    """The command that measures this row again."""
    date: str = ""
    """When it was measured, ISO 8601."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """What one kind of measurement adds, such as ``predictor_share`` or ``label`` (the row's name for readers)."""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.psnr == math.inf:
            object.__setattr__(self, "psnr", None)
        for name in _LISTS:
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for problem in _problems(self):
            raise ValueError(f"Record {self.name!r}: {problem}")

    def to_dict(self) -> dict[str, Any]:
        """The record as the JSON object of its line; ``intervals`` become ``NAME_interval`` fields."""
        values: dict[str, Any] = {"schema": self.schema}
        for name in _FIELDS:
            values[name] = getattr(self, name)
            if name in self.intervals:
                values[name + _INTERVAL] = list(self.intervals[name])
        others = {key + _INTERVAL: list(pair) for key, pair in self.intervals.items() if key not in _FIELDS}
        return values | others | {"extra": dict(self.extra)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Record:
        """The inverse of :meth:`to_dict`.

        Raises:
            ValueError: a field is missing, unknown or of the wrong type, or the schema is another one.
        """
        given = dict(values)
        if given.get("schema") != SCHEMA:
            raise ValueError(f"This version reads schema {SCHEMA}, the record has {given.get('schema')!r}.")
        pairs = {name: given.pop(name) for name in list(given) if name.endswith(_INTERVAL)}
        _check_names(given)
        given |= {name: _tuple(name, given[name]) for name in _LISTS if name in given}
        intervals = {name.removesuffix(_INTERVAL): _tuple(name, pair) for name, pair in pairs.items()}
        return cls(**given, intervals=intervals)


_KNOWN = tuple(item.name for item in fields(Record) if item.name != "intervals")
_FIELDS = tuple(name for name in _KNOWN if name not in ("schema", "extra"))
_REQUIRED = ("name", "steps", "full_steps", "transformer_evaluations")


def write(path: str | Path, records: Iterable[Record]) -> None:
    """Write records to a file, one JSON object per line, whole or not at all."""
    lines = [json.dumps(record.to_dict(), ensure_ascii=False, allow_nan=False) for record in records]
    write_text_atomic(path, "".join(line + "\n" for line in lines))


def read(path: str | Path) -> list[Record]:
    """Read the records of a file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is no valid record; the message names the file and the line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no records file {path}. `disca lab show` writes one into its output folder.")
    lines = enumerate(path.read_text(encoding="utf-8").split("\n"), start=1)
    return [_parse(line, f"{path}, line {number}") for number, line in lines if line.strip()]


def _parse(line: str, place: str) -> Record:
    try:
        values = json.loads(line, parse_constant=_refuse_constant)
        if not isinstance(values, dict):
            raise ValueError(f"A record is a JSON object, this line holds {type(values).__name__}.")
        return Record.from_dict(values)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON. A number is finite; what has no finite value is null.")


def _check_names(given: Mapping[str, Any]) -> None:
    for name in given:
        if name not in _KNOWN:
            near = nearest(name, _KNOWN)
            hint = f"Did you mean {near!r}?" if near else "What a record has no field for goes into 'extra'."
            raise ValueError(f"A record has no field {name!r}. {hint}")
    missing = [name for name in _REQUIRED if name not in given]
    if missing:
        raise ValueError(f"The record lacks {', '.join(missing)}.")


def _tuple(name: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{name} is a list, not {value!r}.")
    return tuple(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _problems(record: Record) -> Iterable[str]:
    """What is wrong with a record, as sentences."""
    yield from _wrong_types(record)
    if record.steps < 1 or record.transformer_evaluations < 0:
        yield f"{record.steps} steps with {record.transformer_evaluations} evaluations cannot be: at least 1 and 0."
    if any(not _is_whole(step) for step in record.full_steps):
        yield f"full_steps are whole numbers, not {record.full_steps!r}."
    if list(record.full_steps) != sorted({step for step in record.full_steps if 0 <= step < record.steps}):
        yield f"full_steps must rise from 0 to at most {record.steps - 1}, not {list(record.full_steps)}."
    for name, pair in record.intervals.items():
        if len(pair) != 2 or not all(map(_is_finite, pair)) or pair[0] > pair[1]:
            yield f"{name}{_INTERVAL} must be [low, high] of finite numbers, not {pair!r}."


def _wrong_types(record: Record) -> Iterable[str]:
    for name in _TEXT:
        if not isinstance(getattr(record, name), str):
            yield f"{name} is text, not {getattr(record, name)!r}."
    for name in _WHOLE:
        if not _is_whole(getattr(record, name)):
            yield f"{name} is a whole number, not {getattr(record, name)!r}."
    for name in _NUMBERS:
        value = getattr(record, name)
        if value is not None and not _is_finite(value):
            yield f"{name} is a finite number or None, not {value!r}."
    for name in _MAPPINGS:
        if not isinstance(getattr(record, name), Mapping):
            yield f"{name} is a mapping, not {getattr(record, name)!r}."
