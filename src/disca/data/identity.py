"""Who a pipeline's encoders are, so that latents and embeddings are only used with those that made them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

VALUES = 4096
"""Of each tensor that go into a fingerprint."""

ENCODERS = (
    "vae",
    "text_encoder",
    "text_encoder_2",
    "tokenizer",
    "tokenizer_2",
    "image_encoder",
    "image_processor",
    "feature_extractor",
)
"""Components of a pipeline that decide what it encodes."""


@dataclass(frozen=True)
class Identity:
    """One component: its class, and digests of its configuration and of its weights or vocabulary."""

    kind: str
    config: str
    weights: str

    def difference(self, other: Identity) -> str:
        """In what two differ, such as ``weights 1f.. and 2a..``."""
        parts = ((part, getattr(self, part), getattr(other, part)) for part in ("kind", "config", "weights"))
        return ", ".join(f"{part} {mine or 'none'} and {its or 'none'}" for part, mine, its in parts if mine != its)


def identities(pipe: Any) -> dict[str, Identity]:
    """Of the encoders that a pipeline has, by their names in it."""
    found = {name: getattr(pipe, name, None) for name in ENCODERS}
    return {name: identify(component) for name, component in found.items() if component is not None}


def identify(component: Any) -> Identity:
    """A model, a tokenizer or a processor of images."""
    if isinstance(component, nn.Module):
        return Identity(type(component).__name__, _digest(_config(component)), fingerprint(component))
    if hasattr(component, "get_vocab"):
        return Identity(_slow_name(component), "", _digest(sorted(component.get_vocab().items())))
    return Identity(_slow_name(component), _digest(_plain(component.to_dict())), "")


def fingerprint(module: nn.Module) -> str:
    """A digest of a module's tensors: names, shapes, and of each up to ``VALUES`` evenly spaced values, rounded to
    bfloat16, so that the same weights loaded in another dtype or on another device have the same.

    Weights that agree in all of these values are taken for equal: further training changes them, an edit of a few
    numbers may not.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} ".encode())
        digest.update(_values(tensor).numpy().tobytes())
    return digest.hexdigest()[:16]


def _values(tensor: Tensor) -> Tensor:
    flat = tensor.detach().flatten()
    flat = flat[:: max(1, -(-flat.numel() // VALUES))]
    return flat.to("cpu", torch.bfloat16).view(torch.int16)


def _config(module: Any) -> Mapping[str, Any]:
    config = module.config
    return _plain(config.to_dict() if hasattr(config, "to_dict") else dict(config))


ELSEWHERE = ("transformers_version", "torch_dtype", "dtype", "name_or_path", "tokenizer_class", "architectures")
"""Entries of a configuration that say how it was stored or loaded, not what it computes."""


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Without what depends on how it was loaded, at any depth."""
    kept = {key: value for key, value in config.items() if not str(key).startswith("_") and key not in ELSEWHERE}
    return {str(key): _plain(value) if isinstance(value, Mapping) else value for key, value in kept.items()}


def _slow_name(component: Any) -> str:
    """The class without what tells a fast implementation of it."""
    return type(component).__name__.removesuffix("Fast")


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
