"""A pipeline with something attached, as a function from a wish to a clip."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from disca.bench.models import Model
from disca.caching.policy import Policy
from disca.caching.run import Run, attach
from disca.caching.summary import Summary
from disca.sampling.wishes import Wish


@dataclass(frozen=True)
class Sampled:
    """One clip, and what it took."""

    frames: Tensor
    """``[frames, 3, height, width]`` in [0, 1]."""
    seconds: float
    """Of the whole call of the pipeline."""
    summary: Summary


@dataclass(frozen=True)
class Sampler:
    """Samples one wish after another; each starts fresh."""

    model: Model
    run: Run

    def __call__(self, wish: Wish) -> Sampled:
        """The clip of a wish.

        Raises:
            ValueError: what the pipeline refuses; a step count that a schedule does not fit.
        """
        given = {**self.model.call, **_image(self.model.pipe, wish)}
        start = time.perf_counter()
        output = self.model.pipe(
            prompt=wish.prompt, generator=torch.Generator().manual_seed(wish.seed), output_type="pt", **given
        )
        frames = output.images if getattr(output, "frames", None) is None else output.frames[0]
        frames = frames.float().clamp(0, 1).cpu()  # which waits for the device
        return Sampled(frames, time.perf_counter() - start, self.run.summary())


@contextmanager
def sampler(model: Model, policy: Policy = ()) -> Iterator[Sampler]:
    """Inside the block the pipeline is accelerated; afterwards it is as it was.

    Raises:
        ValueError: a policy that does not fit the model; see :func:`disca.attach`.
    """
    with model.joined(), attach(model.pipe, policy) as run:
        yield Sampler(model, run)


def takes(pipe: Any, option: str) -> bool:
    """Whether the call of a pipeline has an option of that name."""
    return option in inspect.signature(type(pipe).__call__).parameters


def default(pipe: Any, option: str) -> Any:
    """What the call of a pipeline takes where an option is left out."""
    return inspect.signature(type(pipe).__call__).parameters[option].default


def _image(pipe: Any, wish: Wish) -> dict[str, Any]:
    if wish.image is None:
        return {}
    if not takes(pipe, "image"):
        raise ValueError(f"{type(pipe).__name__} takes no image to begin with, and {wish.name} has one.")
    from PIL import Image

    with Image.open(wish.image) as image:
        return {"image": image.convert("RGB")}
