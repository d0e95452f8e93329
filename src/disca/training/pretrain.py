"""The first stage: a text-to-video model from clips, by flow matching."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from disca.flow.intervals import LogitNormal
from disca.objectives import Loss, flow_matching
from disca.training.clips import Draw, TextSource
from disca.training.host import Host, drop, prepared
from disca.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class FlowMatching:
    """Options of the stage ``flow_matching``."""

    dropped: float = 0.1
    """Share of prompts replaced by the empty one, for guidance."""
    mean: float = 0.5
    """Of the logit of t; positive favours noise."""
    std: float = 1.0
    uniform: float = 0.2
    """Share of times drawn evenly instead."""

    def task(self, recipe: Recipe, source: TextSource) -> FlowMatchingTask:
        return FlowMatchingTask(self, recipe, source)


class FlowMatchingTask:
    """Trains the transformer and the text encoder together."""

    def __init__(self, options: FlowMatching, recipe: Recipe, source: TextSource) -> None:
        self.options, self.recipe, self.source = options, recipe, source
        self.pipe = source.pipeline(recipe.start, recipe.seed)
        self.modules = nn.ModuleDict(
            {"transformer": self.pipe.transformer, "text_encoder": self.pipe.text_encoder}
        ).requires_grad_(True)
        prepared(self.pipe.transformer, recipe, trained=True)
        self.sharded = (self.pipe.transformer,)
        self.times = LogitNormal(options.mean, options.std, options.uniform)

    def loss(self, draw: Draw) -> Loss:
        generator = draw.generator
        texts, latents = self.source.batch(self.recipe.batch, generator)
        t = self.times.draw(len(latents), generator)
        noise = torch.randn(latents.shape, generator=generator)
        inputs = self.pipe.encode_prompt(drop(list(texts), self.options.dropped, generator))
        device = self.pipe.device
        host = Host(self.pipe.transformer, inputs)
        return flow_matching(host, latents.to(device), noise.to(device), t.to(device))

    def validate(self, folder: Path) -> dict[str, float]:
        draw = Draw.fixed(self.recipe.seed)
        losses = [self.loss(draw).value.item() for _ in range(4)]
        return {"loss": sum(losses) / len(losses), **self.source.judge(self.pipe, folder)}

    def export(self, folder: Path, whole: Callable[[nn.Module], nn.Module]) -> None:
        self.pipe.register_modules(**{name: whole(module) for name, module in self.modules.items()})
        self.pipe.save_pretrained(folder)
