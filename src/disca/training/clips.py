"""Where a training run gets its model and its clips: anything that answers to :class:`Source`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor


class Source(Protocol):
    """Models and clips of one project. ``Pipe`` is its diffusers pipeline, with an ``encode_prompt`` that turns texts
    into what the transformer takes beside latents and time, and an empty text into the unconditional input."""

    def pipeline(self, start: str, seed: int) -> Any:
        """The pipeline to start from; a fresh one, drawn from ``seed``, when ``start`` is empty."""
        ...

    def batch(self, size: int, generator: torch.Generator) -> tuple[Sequence[str], Tensor]:
        """Prompts and latents ``[size, channels, frames, height, width]`` for training and selection."""
        ...

    def judge(self, pipe: Any, folder: Path) -> dict[str, float]:
        """Look at a pipeline: sample, keep a picture in ``folder``, return measures by name."""
        ...


def find(name: str) -> Source:
    """The source that ``package.module:name`` names; the name is called without arguments."""
    return resolve(name)()


def resolve(name: str) -> Any:
    """What ``package.module:name`` names.

    Raises:
        ValueError: no such module or name.
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{name!r} cannot be found ({error}); it is written package.module:name.") from error
