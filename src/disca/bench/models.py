"""What is sampled: pipelines, with what belongs to them, and the pairs of prompt and noise that all of them get."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from disca.bundle import FILE, Bundle


@dataclass(frozen=True)
class Pairs:
    """Prompts and noise seeds that every trial samples, clip by clip."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.seeds)

    def batches(self, size: int) -> Iterator[Pairs]:
        """In parts of at most ``size``."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def __getitem__(self, rows: slice) -> Pairs:
        return Pairs(self.prompts[rows], self.seeds[rows])

    def generators(self) -> list[torch.Generator]:
        """One for each clip's noise, on the CPU, so that every device starts from the same noise."""
        return [torch.Generator().manual_seed(seed) for seed in self.seeds]


class Measure(Protocol):
    """What a world knows about its clips beyond their distance to a reference, such as the lab's judge."""

    def look(self, clips: Tensor, prompts: Sequence[str]) -> Mapping[str, Tensor]:
        """Values of each clip of ``[batch, frames, 3, height, width]``: tensors ``[batch, ...]`` by name."""
        ...

    def summarise(self, seen: Mapping[str, Tensor]) -> Mapping[str, Any]:
        """Fields of a record from the values of all its clips, ``intervals`` and ``extra`` among them."""
        ...


@dataclass(frozen=True, kw_only=True)
class Model:
    """A pipeline to measure."""

    pipe: Any
    call: Mapping[str, Any] = field(default_factory=dict)
    """What each run is given beside the prompts, steps and noise, such as ``guidance_scale``."""
    predictor: Any = None
    """What methods with a learned forecast use on it."""
    student: bool = False
    """Gives mean velocities, so that only Euler steps are right."""
    bundle: Bundle | None = None
    """Whose student and second time take the place of the pipeline's transformer while it is sampled."""
    measure: Measure | None = None
    prompts: Sequence[str] = ()
    """Prompts of its own, to choose from where the grid names none."""

    def joined(self) -> AbstractContextManager[None]:
        """Within it, the pipeline is as it is measured."""
        return nullcontext() if self.bundle is None else self.bundle.joined(self.pipe)

    @property
    def transformers(self) -> list[Any]:
        """The pipeline's transformers, one or two."""
        names = ("transformer", "transformer_2")
        return [part for part in (getattr(self.pipe, name, None) for name in names) if part is not None]


def with_bundle(model: Model, bundle: Bundle | str | Path) -> Model:
    """The model with the student, second time and predictor of a bundle, or of one in a folder.

    Raises:
        ValueError: the folder is no bundle.
    """
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.from_pretrained(bundle)
    student = bundle.second_time is not None or model.student
    return replace(model, bundle=bundle, predictor=bundle.predictor or model.predictor, student=student)


def from_folder(folder: str | Path, *, dtype: str = "", device: str = "") -> Model:
    """A diffusers pipeline from a local folder.

    Raises:
        ValueError: the folder holds no pipeline, or the dtype is none of torch's.
    """
    from diffusers import DiffusionPipeline

    folder = Path(folder)
    if (folder / FILE).is_file():
        raise ValueError(f"{folder} is a bundle: name the pipeline that it is for as the source, and this as bundle.")
    if not (folder / "model_index.json").is_file():
        raise ValueError(f"{folder} holds no diffusers pipeline: it has no model_index.json.")
    if dtype and not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise ValueError(f"{dtype!r} is no dtype of torch. Use float32, bfloat16 or float16.")
    pipe = DiffusionPipeline.from_pretrained(
        folder, torch_dtype=getattr(torch, dtype or "float32"), use_safetensors=True
    )
    pipe.set_progress_bar_config(disable=True)
    return Model(pipe=pipe.to(device) if device else pipe)
