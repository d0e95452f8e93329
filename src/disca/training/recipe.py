"""Everything that determines a training run, as a plain value read from TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from disca.errors import unknown
from disca.toml import parse, read

TRACKERS = ("tensorboard", "wandb")
BOOKKEEPING = ("log_every", "validate_every", "checkpoint_every", "checkpoint_minutes", "keep", "patience", "trackers")
"""What may change when a run is resumed: it does not touch the weights."""


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
class Lora:
    """A student as low-rank changes of the teacher (arXiv 2106.09685) instead of weights of its own."""

    rank: int = 0
    """0 trains all weights."""
    alpha: int = 0
    """Scale of the changes, over the rank; 0 takes the rank."""
    targets: tuple[str, ...] = ()
    """Endings of the names of the layers that are changed; every linear layer inside of the blocks when left out."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One run of one stage."""

    name: str
    stage: str
    """Which objective: a name in :data:`disca.training.stages.STAGES`, or ``package.module:Name`` of one's own; its
    options stand in the table ``objective``."""
    source: str = "disca.training.pipelines:PipelineSource"
    """``package.module:name`` of the source of models and clips; see :class:`disca.training.clips.Source`."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Options of the source, such as ``data``, the folder of encoded clips."""
    start: str = ""
    """Model to start from, as the source names it: a pipeline's folder or hub id, a folder of an earlier run, or empty
    for a fresh one."""
    seed: int = 0
    iterations: int
    batch: int = 32
    """Clips of an iteration, of all processes together."""
    microbatch: int = 0
    """Clips that a process computes at once; gradients are accumulated until the batch is full. 0 computes a process's
    share at once. With a number here, any number of processes makes the same run."""
    ema: float = 0.999
    """Decay of the average of the weights; it starts lower, see :class:`disca.training.average.Average`."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """What the networks compute in; weights, times, losses and averages stay in float32."""
    recompute: bool = False
    """Keep no activations inside of blocks and compute them again in the backward pass."""
    compile: bool = False
    """Compile the transformer's blocks; needs a C++ compiler on a CPU."""
    engine: Literal["ddp", "fsdp"] = "ddp"
    """How several processes share the work: copies of everything, or (FSDP2) each with a part of the transformers."""
    lora: Lora = field(default_factory=Lora)
    log_every: int = 20
    validate_every: int = 500
    checkpoint_every: int = 0
    """Iterations between checkpoints, beside those by time; 0 for none."""
    checkpoint_minutes: float = 10.0
    keep: int = 2
    """Checkpoints that are kept."""
    patience: int = 5
    """Steps in a row with a loss or a gradient that is not finite, which are skipped, until the run stops."""
    trackers: tuple[str, ...] = ("tensorboard",)
    """``tensorboard`` and ``wandb``; the log in log.jsonl is always written."""
    optimiser: Optimiser = field(default_factory=Optimiser)
    critic: Optimiser = field(default_factory=lambda: Optimiser(lr=1e-3, betas=(0.0, 0.99), clip=10.0))
    """Of the discriminator, where the stage has one."""
    objective: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("iterations", "batch", "keep", "patience", "log_every", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.microbatch < 0 or (self.microbatch and self.batch % self.microbatch):
            raise ValueError(f"microbatch={self.microbatch} does not divide batch={self.batch}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is a decay and must lie in [0, 1), not {self.ema}")
        for name, allowed in (("dtype", ("float32", "bfloat16")), ("engine", ("ddp", "fsdp"))):
            if getattr(self, name) not in allowed:
                raise ValueError(unknown(name, getattr(self, name), allowed)[:-1])
        for name in self.trackers:
            if name not in TRACKERS:
                raise ValueError(unknown("tracker", name, TRACKERS)[:-1])

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


def changed(settings: Recipe, **values: Any) -> Recipe:
    """The recipe with other values."""
    return replace(settings, **values)


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
