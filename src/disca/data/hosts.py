"""Opening a pipeline for what encoding takes of it."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from disca.data.forms import form_named

TRANSFORMERS = ("transformer", "transformer_2")


def open_host(folder: Path, *, dtype: torch.dtype, samples: bool) -> Any:
    """A folder of diffusers as a pipeline, on the GPU where there is one; its VAE in float32, the rest in ``dtype``.

    Unless it ``samples``, its transformers come without weights: they are the largest part, and only their
    configuration is asked.

    Raises:
        ValueError: no pipeline there, or one of a class that is not described.
        ModuleNotFoundError: a package is missing that its prompts need.
    """
    from diffusers import DiffusionPipeline

    listed = _listed(folder)
    for module in form_named(listed["_class_name"]).modules:
        import_module(module)
    bare = (
        {}
        if samples
        else {name: _bare(folder / name, listed[name][1]) for name in TRANSFORMERS if _is_there(listed, name)}
    )
    precisions = {"default": dtype, "vae": torch.float32}
    pipe = DiffusionPipeline.from_pretrained(folder, torch_dtype=precisions, use_safetensors=True, **bare)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for name, component in pipe.components.items():
        if isinstance(component, torch.nn.Module) and name not in bare:
            component.to(device).eval().requires_grad_(False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _listed(folder: Path) -> dict[str, Any]:
    index = folder / "model_index.json"
    if not index.is_file():
        raise ValueError(f"{folder} is no pipeline of diffusers: it has no model_index.json. Give the folder that has.")
    return json.loads(index.read_text())


def _is_there(listed: dict[str, Any], name: str) -> bool:
    return bool(listed.get(name) and listed[name][0])


def _bare(folder: Path, kind: str) -> Any:
    """A transformer of a class of diffusers without weights."""
    import diffusers

    transformer = getattr(diffusers, kind)
    with torch.device("meta"):
        return transformer.from_config(transformer.load_config(folder))
