"""The lab as a source of training: its clips, its pipelines, and a look at what they make."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor

from disca.lab import build, weights, words
from disca.lab.codec import PatchCodec
from disca.lab.pipeline import LabPipeline
from disca.lab.words import TRAINING
from disca.lab.world import World
from disca.report.clips import Frames, write_clip
from disca.training.clips import Clips, Draw

PLACES = {str(prompt): place for place, prompt in enumerate((*TRAINING, ""))}
"""Rows of the encoded texts."""
JUDGED = 32
"""Clips that a validation samples."""


class LabSource:
    """Endless clips of the training prompts, drawn from the model's scans only."""

    def __init__(self) -> None:
        self.world = World()
        self.codec: PatchCodec | None = None
        self.pipe: LabPipeline | None = None
        self.encoded: dict[str, Tensor] = {}

    def pipeline(self, start: str, seed: int) -> LabPipeline:
        """A fresh pipeline, the packaged one at the stage ``start``, or the result of a run in the folder ``start``."""
        if not start:
            pipe = build.pipeline(build.Size(), seed, self.world)
        elif start in weights.PARTS:
            pipe = weights.pipeline(start)
        else:
            pipe = LabPipeline.from_pretrained(start)
        pipe.set_progress_bar_config(disable=True)
        self.codec = deepcopy(pipe.codec)  # clips are drawn on the CPU, wherever the pipeline is
        self.pipe = pipe.to("cuda" if torch.cuda.is_available() else "cpu")
        self.encoded = {}
        return self.pipe

    def batch(self, size: int, generator: torch.Generator) -> tuple[list[str], Tensor]:
        """Prompts and latents, a fresh clip each."""
        chosen = [TRAINING[index] for index in torch.randint(len(TRAINING), (size,), generator=generator).tolist()]
        clips = self.world.clips(chosen, generator)
        if self.codec is None:
            raise ValueError("The lab's clips are encoded by a pipeline's codec: open a pipeline first.")
        return [str(prompt) for prompt in chosen], self.codec.encode(clips)

    def clips(self, size: int, draw: Draw) -> Clips:
        """The same, with what the transformer takes of the prompts. The text encoder is to be done with training."""
        texts, latents = self.batch(size, draw.generator)
        assert self.pipe is not None
        if not self.encoded:  # all at once: what a prompt becomes is not to depend on who was drawn with it
            with torch.no_grad():
                self.encoded = self.pipe.encode_prompt(list(PLACES))
        return Clips(latents, self._rows(texts), self._rows([""] * size))

    def _rows(self, texts: Sequence[str]) -> dict[str, Tensor]:
        rows = [PLACES[text] for text in texts]
        return {name: value[rows] for name, value in self.encoded.items()}

    def judge(self, pipe: LabPipeline, folder: Path) -> dict[str, float]:
        """Sample training prompts in 20 steps; a picture into ``folder``, accuracy by the judge."""
        prompts = words.sample(TRAINING, JUDGED, 1)
        generators = [torch.Generator().manual_seed(index) for index in range(JUDGED)]
        clips = pipe(prompts, num_inference_steps=20, generator=generators, output_type="pt").frames.cpu()
        write_clip(folder.with_suffix(".webp"), mosaic(clips))
        right = weights.judge().read(clips.movedim(1, 2)).right(prompts)
        return {name: value.float().mean().item() for name, value in right.items()}


def mosaic(clips: Tensor, columns: int = 8) -> Frames:
    """Clips ``[n, frames, 3, height, width]`` in rows, as bytes ``[frames, rows * height, columns * width, 3]``."""
    rows = clips[: len(clips) // columns * columns].unflatten(0, (-1, columns))
    tiled = rows.permute(2, 0, 4, 1, 5, 3)
    return tiled.reshape(tiled.shape[0], tiled.shape[1] * tiled.shape[2], -1, 3).mul(255).round().byte().numpy()
