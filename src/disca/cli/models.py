"""Models by the names that the command line takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from disca.errors import unknown


def open_model(name: str, *, bundle: Path | None = None, dtype: str = "", device: str = "") -> Any:
    """A folder with a pipeline of diffusers, or one of the lab's by its name, as :class:`disca.bench.models.Model`;
    with a bundle's parts where one is named.

    Args:
        dtype: of a folder's weights; bfloat16 on a GPU and float32 elsewhere when left out.
        device: the GPU where there is one, when left out.

    Raises:
        ValueError: no such model, no such bundle.
    """
    import torch

    from disca.bench.models import from_folder, with_bundle
    from disca.lab import sample

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if Path(name).is_dir():
        model = from_folder(name, dtype=dtype or ("float32" if device == "cpu" else "bfloat16"), device=device)
    else:
        check_name(name)
        model = sample.model(name)
        model.pipe.to(device)
    return model if bundle is None else with_bundle(model, bundle)


def check_name(name: str) -> None:
    """Refuse what is neither a folder nor a pipeline of the lab.

    Raises:
        ValueError: it is neither.
    """
    from disca.lab.sample import MODELS

    if name not in MODELS and not Path(name).is_dir():
        raise ValueError(
            f"{unknown('model', name, MODELS)} Nor is there a folder of that name with a model of diffusers."
        )


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
    return open_model(name).pipe


def open_transformer(name: str) -> Any:
    """The transformer of a model on the meta device, or one of the lab's.

    Raises:
        ValueError: no such model.
    """
    from disca.bench.describe import load_on_meta

    return load_on_meta(name) if Path(name).is_dir() else open_pipeline(name).transformer
