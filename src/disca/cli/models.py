"""Pipelines by the names that the command line takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from disca.errors import unknown


def open_pipeline(name: str) -> Any:
    """A folder with a pipeline of diffusers, or one of the lab's by its name; on the GPU where there is one.

    Raises:
        ValueError: neither.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if (Path(name) / "model_index.json").is_file():
        from diffusers import DiffusionPipeline

        return DiffusionPipeline.from_pretrained(name, use_safetensors=True).to(device)
    from disca.lab import weights
    from disca.lab.sample import MODELS

    if name not in MODELS:
        raise ValueError(
            f"{unknown('model', name, MODELS)} Nor is there a folder of that name with a model of diffusers."
        )
    return weights.pipeline(MODELS[name]).to(device)


def open_transformer(name: str) -> Any:
    """The transformer of a model on the meta device, or one of the lab's.

    Raises:
        ValueError: no such model.
    """
    from disca.bench.describe import load_on_meta

    return load_on_meta(name) if Path(name).is_dir() else open_pipeline(name).transformer
