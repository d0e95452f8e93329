"""Training for any diffusers pipeline: its folder or hub id, and a folder of encoded clips."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from disca.bundle import Bundle
from disca.training.clips import Clips, Draw


@dataclass(kw_only=True)
class PipelineSource:
    """The source of recipes that name none. ``start`` of the recipe is the pipeline."""

    data: str
    """Folder of clips that ``disca encode`` wrote for this pipeline."""
    bundle: str = ""
    """Bundle whose student is to be trained further, or to be the base of a predictor."""
    lora: str = ""
    """LoRA that is added to the transformer's weights first: a file, or a folder or hub id."""
    component: str = "transformer"
    """Which transformer of the pipeline: Wan 2.2 has a ``transformer_2`` too."""
    dtype: str = "float32"
    """What the pipeline is loaded in; trained weights are float32 in any case."""
    prompts: tuple[str, ...] = ()
    """Sampled at each validation, with the seeds 0, 1, ..."""
    steps: int = 20
    """Of those samples."""
    pipe: Any = field(default=None, init=False)
    shards: Any = field(default=None, init=False)
    shape: Any = field(default=None, init=False)
    _streams: dict[int, tuple[Any, dict[str, Tensor]]] = field(default_factory=dict, init=False)

    def pipeline(self, start: str, seed: int) -> Any:
        """The pipeline in ``start``, with the bundle's student and the LoRA in place, its clips at hand.

        Raises:
            ValueError: no pipeline, or clips that were encoded with other models.
        """
        from diffusers import DiffusionPipeline

        from disca.data import Shards, form_for

        if not start:
            raise ValueError("start is missing: give the folder or hub id of the diffusers pipeline to train.")
        shards = Shards.open(self.data)
        dtype = getattr(torch, self.dtype, None)
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"model.dtype is {self.dtype!r}; a torch dtype such as float32 or bfloat16 is expected.")
        try:
            pipe = DiffusionPipeline.from_pretrained(start, torch_dtype=dtype, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise ValueError(f"There is no diffusers pipeline at {start!r} that can be loaded: {error}") from error
        shards.check(pipe)
        self.take(pipe, shards, form_for(pipe))
        return self.pipe.to("cuda" if torch.cuda.is_available() else "cpu")

    def take(self, pipe: Any, shards: Any, form: Any) -> None:
        """Train this pipeline on these clips."""
        if self.component != "transformer":
            pipe.register_modules(transformer=getattr(pipe, self.component))
        if self.lora:
            pipe.load_lora_weights(self.lora)
            pipe.fuse_lora()
            pipe.unload_lora_weights()
        if self.bundle:
            self._join(pipe, Bundle.from_pretrained(self.bundle))
        pipe.set_progress_bar_config(disable=True)
        self.pipe, self.shards, self.shape = pipe, shards, (form, pipe)

    def _join(self, pipe: Any, bundle: Bundle) -> None:
        if bundle.student is not None:
            pipe.register_modules(transformer=bundle.student)
        if bundle.lora is not None:
            bundle.lora.fuse(pipe.transformer)
        if bundle.second_time is not None:
            pipe.second_time = bundle.second_time.to(pipe.device)

    def clips(self, size: int, draw: Draw) -> Clips:
        """The clips of a micro-batch, by its number alone; those of a validation come from far behind."""
        number = draw.number if draw.number >= 0 else 1_000_003
        if size not in self._streams:
            self._streams[size] = self.shards.stream(size, seed=0, rank=0, ranks=1), self.shards.unconditional(size)
        stream, empty = self._streams[size]
        batch = stream.at(number)
        return Clips(batch["latents"].float(), batch["prompt"], empty, batch.get("condition", {}))

    @property
    def span(self) -> tuple[float, float]:
        """The times that the trained transformer is for: of two experts, each has its side of their boundary."""
        boundary = self.shards.boundary
        if boundary is None:
            return 0.0, 1.0
        return (boundary, 1.0) if self.component == "transformer" else (0.0, boundary)

    def judge(self, pipe: Any, folder: Path) -> dict[str, float]:
        """Sample the prompts and keep the clips beside each other as ``folder``-N.mp4."""
        for index, prompt in enumerate(self.prompts):
            frames = pipe(
                prompt, num_inference_steps=self.steps, generator=torch.Generator().manual_seed(index), output_type="np"
            ).frames[0]
            write_video(frames, folder.with_name(f"{folder.name}-{index}.mp4"))
        return {}


def write_video(frames: Any, path: Path) -> None:
    """Frames ``[frames, height, width, 3]`` in [0, 1] as a video."""
    from diffusers.utils import export_to_video

    path.parent.mkdir(parents=True, exist_ok=True)
    export_to_video(list(frames), str(path))
