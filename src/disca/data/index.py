"""``index.json``: what a folder of shards holds and how it was made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from disca.data.identity import Identity, identities
from disca.files import write_text_atomic

SCHEMA = 1
FILE = "index.json"
SHARED = "shared.safetensors"
"""The negative prompt, and conditions that are the same for every clip."""


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """How a teacher samples the clips of prompts."""

    steps: int
    guidance: float
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What decides the contents of the shards, beside the pipeline."""

    width: int
    height: int
    frames: int
    fps: float | None = None
    take: str = "first"
    dtype: str = "bfloat16"
    """Of what is stored, and of the text encoders; a VAE runs in float32."""
    negative_prompt: str = ""
    teacher: Teacher | None = None
    """None for real videos."""


@dataclass(frozen=True)
class Shard:
    """One file, and how many clips are in it."""

    file: str
    clips: int


@dataclass(frozen=True, kw_only=True)
class Index:
    """The whole of ``index.json``; a plain value."""

    pipeline: str
    """Its class."""
    encoders: Mapping[str, Identity]
    """See :mod:`disca.data.identity`."""
    plan: Plan
    latent_shape: tuple[int, int, int, int]
    """``(channels, frames, height, width)``."""
    normalised: Mapping[str, Any]
    """What the VAE's latents were scaled by; see :func:`disca.data.latents.normalise`."""
    boundary: float | None = None
    """The time in [0, 1] at which the pipeline changes from ``transformer`` to ``transformer_2``."""
    shards: tuple[Shard, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    """Files that gave no clip, and why."""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def clips(self) -> int:
        return sum(shard.clips for shard in self.shards)

    def write(self, folder: Path) -> None:
        write_text_atomic(folder / FILE, json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Index:
        """Of a folder.

        Raises:
            FileNotFoundError: it has none.
            ValueError: it is not one, or of another schema.
        """
        path = folder / FILE
        if not path.is_file():
            raise FileNotFoundError(f"There are no shards in {folder}: it has no {FILE}. Make them with disca encode.")
        try:
            return cls._parse(json.loads(path.read_text()))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{path} cannot be read ({error}). Was it made by this version? Encode into a new folder."
            ) from error

    @classmethod
    def _parse(cls, values: dict[str, Any]) -> Index:
        if values.pop("schema", None) != SCHEMA:
            raise ValueError(f"its schema is not {SCHEMA}")
        plan = values.pop("plan")
        teacher = plan.pop("teacher")
        return cls(
            plan=Plan(**plan, teacher=teacher and Teacher(**teacher)),
            encoders={name: Identity(**one) for name, one in values.pop("encoders").items()},
            shards=tuple(Shard(**one) for one in values.pop("shards")),
            latent_shape=tuple(values.pop("latent_shape")),
            **values,
        )

    def check_same_making(self, other: Index, folder: Path) -> None:
        """Make sure that ``other`` would add clips of the same making to this one's.

        Raises:
            ValueError: it would not; says in what.
        """
        made = [one for one in fields(self) if one.name not in ("shards", "skipped", "provenance")]
        differing = [one.name for one in made if _json(getattr(self, one.name)) != _json(getattr(other, one.name))]
        if differing:
            raise ValueError(
                f"{folder} already holds {self.clips} clips that were made in another way: {', '.join(differing)} "
                "differ. Continue with the model and options they were made with, or give another --output."
            )

    def check_host(self, pipe: Any) -> None:
        """Make sure that a pipeline encodes as the one that made the shards. Encoders that it was opened without are
        not asked for.

        Raises:
            ValueError: another pipeline class, VAE, text or image encoder.
        """
        if type(pipe).__name__ != self.pipeline:
            raise ValueError(f"The shards were made with a {self.pipeline}, this is a {type(pipe).__name__}.")
        there = identities(pipe)
        for name, made in self.encoders.items():
            if name in there and there[name] != made:
                raise ValueError(
                    f"The shards were made with another {name} than this pipeline's ({made.difference(there[name])}), "
                    "so this model does not know their latents or embeddings. Encode the clips with the pipeline that "
                    "is trained, or train the one that made them."
                )

    def with_shard(self, shard: Shard) -> Index:
        return replace(self, shards=(*self.shards, shard))


def _json(value: Any) -> str:
    return json.dumps(value, default=asdict, sort_keys=True)
