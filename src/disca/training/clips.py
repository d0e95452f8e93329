"""Where a training run gets its model and its clips: anything that answers to :class:`Source`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from disca.toml import parse


@dataclass(frozen=True)
class Draw:
    """One micro-batch of a run: its number, and the generator of everything that is random about it.

    All processes together number the micro-batches, so what a number holds depends on nobody's rank.
    """

    number: int
    generator: torch.Generator
    shared: torch.Generator
    """Of what all micro-batches of an iteration have in common: how many passes a model makes, since processes that
    share a model have to make the same."""
    iteration: int = 0
    first: bool = True
    """Whether a process computes it before the other micro-batches of the iteration."""

    @classmethod
    def seeded(cls, seed: int, number: int = 0, *, iteration: int = 0, first: bool = True) -> Draw:
        """The draw of a number in a run of that seed."""
        own, shared = torch.Generator(), torch.Generator()
        own.manual_seed(seed * 1_000_003 + number)
        shared.manual_seed(~(seed * 1_000_003 + iteration))
        return cls(number, own, shared, iteration, first)

    @classmethod
    def fixed(cls, seed: int) -> Draw:
        """One that no iteration of a run of that seed gets, for validation."""
        return cls(-1, torch.Generator().manual_seed(seed - 1), torch.Generator().manual_seed(seed - 1))


@dataclass(frozen=True)
class Clips:
    """A batch to train on; on the CPU or on the model's device."""

    latents: Tensor
    """``[batch, channels, frames, height, width]``, as the denoiser expects them."""
    prompt: Mapping[str, Tensor]
    """What the transformer takes of the prompts, by argument name, ``[batch, ...]`` each."""
    empty: Mapping[str, Tensor]
    """The same of the unconditional prompt."""
    condition: Mapping[str, Tensor] = field(default_factory=dict)
    """What both passes of guidance share, such as a first frame."""

    def rows(self, rows: slice) -> Clips:
        """Some of the batch."""
        prompt, empty, condition = ({name: value[rows] for name, value in given.items()} for given in self._inputs)
        return Clips(self.latents[rows], prompt, empty, condition)

    def to(self, device: torch.device | str) -> Clips:
        """On a device."""
        prompt, empty, condition = ({name: one.to(device) for name, one in given.items()} for given in self._inputs)
        return Clips(self.latents.to(device), prompt, empty, condition)

    @property
    def _inputs(self) -> tuple[Mapping[str, Tensor], ...]:
        return self.prompt, self.empty, self.condition


class Source(Protocol):
    """Models and clips of one project."""

    def pipeline(self, start: str, seed: int) -> Any:
        """The diffusers pipeline to start from; a fresh one, drawn from ``seed``, when ``start`` is empty and the
        source can make one. It comes before any clips."""
        ...

    def clips(self, size: int, draw: Draw) -> Clips:
        """Clips for training and selection; the same for the same draw."""
        ...

    def judge(self, pipe: Any, folder: Path) -> dict[str, float]:
        """Look at a pipeline: sample, keep a picture named like ``folder``, return measures by name."""
        ...


class TextSource(Source, Protocol):
    """A source for the stage ``flow_matching``, which trains the text encoder too."""

    def batch(self, size: int, generator: torch.Generator) -> tuple[Sequence[str], Tensor]:
        """Prompts and latents."""
        ...


def find(name: str, options: Mapping[str, Any], *, where: str) -> Any:
    """The source that ``package.module:name`` names, called with its options; those of a dataclass are checked.

    Raises:
        ValueError: no such source, or options that it does not take.
    """
    made = resolve(name)
    if is_dataclass(made):
        return parse(made, options, where=f"{where}: model")  # type: ignore[arg-type]
    if options:
        raise ValueError(f"{where}: model has {', '.join(options)}, but the source {name} takes no options.")
    return made()


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
