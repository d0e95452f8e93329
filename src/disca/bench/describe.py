"""What a host looks like, and what a predictor for it would weigh; from its configuration, without weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from disca.adapters import adapter_for
from disca.meanflow.second_time import SecondTime
from disca.predictor.network import MOST_BLOCKS, Predictor


@dataclass(frozen=True, kw_only=True)
class Stack:
    """One list of blocks of a host."""

    name: str
    block: str
    blocks: int
    parameters: int


@dataclass(frozen=True, kw_only=True)
class Description:
    """A host in numbers."""

    transformer: str
    stacks: tuple[Stack, ...]
    parameters: int
    widths: tuple[int, ...]
    """Of the tokens of each stream of features: video, and text where the trunk returns it."""
    predictors: Mapping[int, int]
    """Parameters of a predictor in the authors' layout, by its number of blocks."""
    second_time: str
    """Where r goes: an input of the host's own, an embedder that can be added, or why not."""

    def share(self, blocks: int) -> float:
        """A predictor's parameters over the host's."""
        return self.predictors[blocks] / self.parameters

    @property
    def outside(self) -> int:
        """Parameters outside of the blocks: embedders and the last projection."""
        return self.parameters - sum(stack.parameters for stack in self.stacks)


def describe(transformer: Any) -> Description:
    """Describe a transformer; the meta device will do.

    Raises:
        ValueError: nobody described its family.
    """
    adapter = adapter_for(transformer)
    found = [(name, getattr(transformer, name)) for name in adapter.stacks]
    with torch.device("meta"):
        bare = type(transformer).from_config(transformer.config)
    predictors = {depth: _count(Predictor.from_host(bare, depth=depth)) for depth in range(1, MOST_BLOCKS + 1)}
    return Description(
        transformer=type(transformer).__name__,
        stacks=tuple(_stack(name, blocks) for name, blocks in found if len(blocks)),
        parameters=_count(transformer),
        widths=adapter.widths(transformer.config),
        predictors=predictors,
        second_time=_second_time(bare),
    )


def load_on_meta(folder: str | Path) -> nn.Module:
    """The transformer of a folder on the meta device: a pipeline's, a transformer's own, or the host of a bundle.

    Raises:
        ValueError: the folder has no configuration of a transformer that diffusers knows.
    """
    import diffusers

    folder = Path(folder)
    name, config = _configuration(folder)
    if not hasattr(diffusers, str(name)):
        raise ValueError(f"{folder} holds no transformer of diffusers: its configuration names {name}.")
    with torch.device("meta"):
        return getattr(diffusers, name).from_config(config)


def predictor_of(bundle: str | Path) -> tuple[int, int] | None:
    """Blocks and parameters of a bundle's own predictor, from its configuration; None where it has none."""
    file = Path(bundle) / "predictor" / "config.json"
    if not file.is_file():
        return None
    config = json.loads(file.read_text())
    with torch.device("meta"):
        return config["depth"], _count(Predictor.from_config(config))


def _configuration(folder: Path) -> tuple[str, dict[str, Any]]:
    """Class and configuration of the transformer in a folder."""
    for place in (folder / "transformer" / "config.json", folder / "bundle.json", folder / "config.json"):
        if place.is_file():
            stored = json.loads(place.read_text())
            if place.name == "bundle.json":
                return stored["host"], stored["host_config"]
            return stored.get("_class_name"), stored
    raise ValueError(f"{folder} is no folder with a pipeline, a transformer or a bundle: it has no configuration file.")


def _stack(name: str, blocks: nn.ModuleList) -> Stack:
    return Stack(name=name, block=type(blocks[0]).__name__, blocks=len(blocks), parameters=_count(blocks))


def _second_time(transformer: nn.Module) -> str:
    adapter = adapter_for(transformer)
    if adapter.takes_second_time(transformer):
        return f"its own, {adapter.second_timestep}"
    try:
        SecondTime.for_host(transformer)
    except ValueError as error:
        return f"none: {error}"
    return f"can be added at {adapter.time_embedder}"


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
