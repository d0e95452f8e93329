"""Who judges a predictor's step by what the frozen base sees in it: matching of features, and a discriminator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from disca.adapters import adapter_for
from disca.flow.path import expand
from disca.objectives import (
    Discriminator,
    discriminator_hinge,
    feature_matching,
    predictor_hinge,
    renoised,
    stepped,
)
from disca.objectives.adversarial import SHORTEST
from disca.training.clips import Draw
from disca.training.host import AnyHost
from disca.training.rollouts import Pair
from disca.training.trunk import frozen_features

NEAR_DATA = 0.05
"""Below this time a base sees little: nothing there is noise. The judged latents get some."""
NOISE = (0.05, 0.5)


class Critic(nn.Module):
    """A discriminator on the base's features; it and the predictor learn from one pass of the base over each of the two
    steps. It stays in evaluation mode: its spectral norms are followed once an iteration, not at every call, so that
    micro-batches and processes all see the same weights."""

    def __init__(self, discriminator: Discriminator | None, options: Any) -> None:
        super().__init__()
        self.discriminator, self.options = discriminator, options
        self.eval()

    @classmethod
    def for_host(cls, transformer: Any, options: Any) -> Critic:
        """One for the features of a base; without a discriminator where only features are matched."""
        if not options.adversarial:
            return cls(None, options)
        adapter = adapter_for(transformer)
        depth = len(adapter.blocks(transformer))
        layers = len({min(int(share * depth), depth - 1) for share in options.depths})
        channels = adapter.widths(transformer.config)[0]
        made = Discriminator(channels, layers=layers, scales=options.scales, width=options.width)
        return cls(made.to(transformer.device), options)

    def judge(
        self, host: AnyHost, pairs: Sequence[Pair], draw: Draw, *, stop: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What the steps of some forecasts add to the loss of the predictor and of the discriminator, in one sum: each
        part has a gradient for one of them only. Measures besides."""
        if draw.first and self.discriminator is not None and torch.is_grad_enabled():
            self.discriminator.follow()
        judged = [self._judge(host, pair, draw, stop) for pair in pairs]
        value = torch.stack([value for value, _ in judged]).mean()
        measures = {name: torch.stack([more[name] for _, more in judged]).mean() for name in judged[0][1]}
        return value, measures

    def _judge(self, host: AnyHost, pair: Pair, draw: Draw, stop: bool) -> tuple[Tensor, dict[str, Tensor]]:
        options, weight = self.options, (pair.t - pair.r >= SHORTEST).float()
        fake, real = self._features(host, pair, draw.generator, stop)
        value, measures = fake[0].sum() * 0, {}
        if options.matching:
            matched = feature_matching(fake, real)
            value, measures["matching"] = value + options.matching * matched, matched.detach()
        if self.discriminator is None:
            return value, measures
        on_real, on_fake = self.discriminator(real), self.discriminator([one.detach() for one in fake])
        value = value + discriminator_hinge(on_real, on_fake, weight=weight)
        if draw.iteration >= options.alone:
            with _frozen(self.discriminator):
                logits = self.discriminator(fake)
            value = value + options.adversarial * predictor_hinge(logits, form=options.form, weight=weight)
        return value, {**measures, "critic_real": _level(on_real), "critic_fake": _level(on_fake)}

    def _features(
        self, host: AnyHost, pair: Pair, generator: torch.Generator, stop: bool
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Of the forecast's step and of the full one, with the same noise on both."""
        noise = torch.randn(pair.x.shape, generator=generator).to(pair.x)
        level = NOISE[0] + (NOISE[1] - NOISE[0]) * torch.rand(len(noise), generator=generator).to(pair.r)
        at = pair.r
        near = (pair.r < NEAR_DATA) & (level > pair.r)
        if self.options.judged_at == "random":
            at = level
        elif self.options.judged_at == "renoise":
            at = torch.where(near, level, pair.r)
        found = []
        for velocity in (pair.forecast, pair.full):
            y = stepped(pair.x, velocity, pair.t, pair.r)
            if self.options.judged_at == "renoise":
                y = torch.where(expand(near, y), renoised(y, noise, pair.r, level), y)
            found.append(y)
        fake = frozen_features(host, found[0], at, at, self.options.depths, stop=stop)
        with torch.no_grad():
            real = frozen_features(host, found[1], at, at, self.options.depths, stop=stop)
        return fake, real


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Parameters take no gradient from what is computed inside."""
    parameters = [value for value in module.parameters() if value.requires_grad]
    for value in parameters:
        value.requires_grad_(False)
    try:
        yield
    finally:
        for value in parameters:
            value.requires_grad_(True)


def _level(logits: Sequence[Tensor]) -> Tensor:
    return torch.stack([one.detach().mean() for one in logits]).mean()
