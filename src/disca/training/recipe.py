"""Everything that determines a training run, as a plain value read from TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from disca.toml import parse, read


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """AdamW with a linear warm-up, a constant part and a cosine to the end."""

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    clip: float = 1.0
    """Largest norm of the gradient."""
    warmup: int = 100
    """Iterations."""
    hold: float = 0.3
    """Share of the run at the full rate, warm-up included, before the cosine begins."""
    floor: float = 0.0
    """Rate at the end, as a share of ``lr``."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One run of one stage."""

    name: str
    stage: str
    """Which objective: a name in :data:`disca.training.stages.STAGES`, or ``package.module:Name`` of one's own; its
    options stand in the table ``objective``."""
    source: str
    """``package.module:name`` of the source of models and clips; see :class:`disca.training.clips.Source`."""
    start: str = ""
    """Model to start from, as the source names it; a folder of an earlier run, or empty for a fresh one."""
    seed: int = 0
    iterations: int
    batch: int = 32
    ema: float = 0.999
    """Decay of the average of the weights; it starts lower, see :class:`disca.training.average.Average`."""
    compile: bool = False
    """Compile the transformer's blocks; needs a C++ compiler on a CPU."""
    log_every: int = 20
    validate_every: int = 500
    checkpoint_every: int = 250
    optimiser: Optimiser = field(default_factory=Optimiser)
    objective: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, the same shape as the TOML file."""
        return asdict(self)


def load(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe, then apply ``key=value`` changes; nested keys have dots, values are TOML.

    Raises:
        ValueError: an unknown key (names the nearest valid one), a value of another type, a missing key.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no recipe at {path}. The lab's are in recipes/, such as recipes/lab_base.toml"
        )
    table = read(path)
    for change in overrides:
        _apply(table, change)
    return parse(Recipe, table, where=str(path))


def _apply(table: dict[str, Any], change: str) -> None:
    key, equals, value = change.partition("=")
    if not equals or not key:
        raise ValueError(f"A change is written key=value, such as optimiser.lr=1e-4; got {change!r}.")
    *parents, last = key.strip().split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
    try:
        table[last] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        table[last] = value.strip()  # a bare word is a string
