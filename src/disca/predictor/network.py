"""The learned forecast: a fusion network and a few blocks of the host's own class (arXiv 2602.05449)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar, Literal

import torch
from diffusers import ModelMixin  # noqa: F401  pipelines look for it here to learn how to load the component
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from disca.adapters import ADAPTERS, Adapter, adapter_for
from disca.companion import Companion, describe_host
from disca.errors import unknown
from disca.features import Features
from disca.predictor.blocks import (
    build_block,
    conditioning_names,
    copy_block,
    import_block,
    name_of,
    run_block,
    translation,
)

Residual = Literal["none", "cache"]
Init = Literal["random", "host"]
MOST_BLOCKS = 4


class Fusion(nn.Sequential):
    """Current and cached tokens, ``[batch, tokens, width]`` each, into one: Linear(2 width, width), SiLU,
    Linear(width, width) over both, current first. The layout, and the names ``0`` and ``2``, are the authors'."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(  # type: ignore[override]  # two inputs
        self, current: Tensor, cached: Tensor, scale: Tensor | None = None
    ) -> Tensor:
        """The same with ``cached / scale`` where there is a ``scale`` ``[width]``; weights are divided, not tokens."""
        both, _, last = self
        assert isinstance(both, nn.Linear)
        of_current, of_cached = both.weight.tensor_split(2, dim=1)  # spares a copy of both inputs side by side
        if scale is not None:
            of_cached = of_cached / scale
        now, then = current.flatten(0, 1), cached.flatten(0, 1)  # a bias on three dimensions may cost a pass of its own
        fused = torch.addmm(both.bias, now, of_current.T)
        alone = not torch.is_grad_enabled() and fused.dtype == then.dtype == of_cached.dtype  # not under autocast
        fused = torch.addmm(fused, then, of_cached.T, out=fused if alone else None)
        return last(F.silu(fused, inplace=alone).view_as(current))


class Predictor(Companion):
    """What a host's trunk would return, from what goes into it now and what it returned at the last full step.

    ``residual="none"`` is the authors' layout: what the blocks return is the forecast. ``residual="cache"`` forecasts
    the change, ``cached + scale * gate(blocks(fusion(current, cached / scale)))``. The gate starts at zero, so the
    predictor starts as reuse; ``scale`` ``[streams, width]`` is the spread of the cached features, so that the
    network works, and the optimiser steps, in units of it. See :meth:`calibrate`.

    Parameters: ``fusion_mlp`` and ``gate`` for both streams, or one each with the endings ``_img`` and ``_txt`` where
    the host's family is fused apart (:attr:`disca.adapters.Adapter.fuse_jointly`), and ``blocks``.
    """

    kind: ClassVar[str] = "predictor"
    calibrated: Tensor
    scale: Tensor

    @register_to_config
    def __init__(
        self,
        *,
        host: str,
        host_config: dict[str, Any],
        block: str,
        conditioning: list[str],
        depth: int = 2,
        residual: Residual = "none",
    ) -> None:
        super().__init__()
        _check_options(host, depth, residual)
        block_class, self._widths = import_block(block), self.adapter.widths(host_config)
        self._names = translation(conditioning, block_class, self.adapter)
        self._repeated_blocks = [block_class.__name__]  # what compile_repeated_blocks() compiles
        self._add("fusion_mlp", Fusion)
        self.blocks = nn.ModuleList(
            build_block(block_class, host_config, self.adapter, last=index == depth - 1) for index in range(depth)
        )
        if residual == "cache":
            self._add("gate", _zero_linear)
            self.register_buffer("scale", torch.ones(len(self._widths), max(self._widths)))
            self.register_buffer("calibrated", torch.tensor(False))

    @classmethod
    def from_host(
        cls,
        transformer: nn.Module,
        *,
        depth: int = 2,
        stack: str | None = None,
        residual: Residual = "none",
        init: Init = "random",
    ) -> Predictor:
        """One for this transformer, to be trained; on its device and in its dtype.

        It has ``depth`` blocks, one to four, of the kind in ``stack``, by default the host's last one (single-stream
        blocks for HunyuanVideo 1.0). ``init="host"`` starts them as copies of the last blocks there.

        Raises:
            ValueError: an unknown stack or option, or a depth of more blocks than allowed or than there are to copy.
        """
        adapter = adapter_for(transformer)
        stack = stack or adapter.stacks[-1]
        for kind, name, names in (("stack", stack, adapter.stacks), ("init", init, ("random", "host"))):
            if name not in names:
                raise ValueError(unknown(kind, name, names))
        originals = list(getattr(transformer, stack).children())
        if len(originals) < (depth if init == "host" else 1):
            raise ValueError(f"{adapter.transformer}.{stack} has {len(originals)} blocks, too few to copy {depth}.")
        first = next(block for name in adapter.stacks for block in getattr(transformer, name).children())
        floating = [value for value in originals[-1].parameters() if value.is_floating_point()]
        weight = max(floating, key=Tensor.numel)  # some hosts keep small ones in float32
        with weight.device if weight.is_meta else nullcontext():
            predictor = cls(
                **describe_host(transformer),
                block=name_of(type(originals[-1])),
                conditioning=conditioning_names(type(first), adapter),
                depth=depth,
                residual=residual,
            )
        if init == "host":
            for copy, original in zip(predictor.blocks, originals[-depth:], strict=True):
                copy_block(copy, original)
        return predictor.to(weight)  # its device and dtype

    def forward(self, current: Features, cached: Features, conditioning: Mapping[str, Any]) -> Features:
        """The forecast, shaped like ``cached``: ``[batch, tokens, width]`` for each stream.

        ``current`` goes into the host's first block now, ``cached`` came out of its last one at the last full step,
        ``conditioning`` is what the first block receives now beside the features, by its parameter names.
        """
        if next(self.parameters()).device != current[0].device:  # an offloaded host, or one that moved
            self.to(current[0].device)
        if self.config.residual == "none":
            return self._run(current, cached, [None] * len(cached), conditioning)
        if self.training and torch.is_grad_enabled() and not self.calibrated:
            self.calibrate(cached)
        changes = self._run(current, cached, self._scales, conditioning)
        streams = zip(cached, changes, self._each("gate"), self._scales, strict=True)
        return tuple(kept + _scaled(gate, scale, change).to(kept.dtype) for kept, change, gate, scale in streams)

    @torch.no_grad()
    def calibrate(self, cached: Features) -> None:
        """Set ``scale`` to the standard deviation of each channel over ``cached``, features of a typical full step. The
        first forward that trains does it with its own, where nobody did.

        Raises:
            ValueError: a predictor of the layout ``residual="none"``, which has no scale.
        """
        if self.config.residual == "none":
            raise ValueError("Only a predictor with residual='cache' has a scale to calibrate.")
        for scale, features in zip(self._scales, cached, strict=True):
            spread = features.detach().float().flatten(0, 1).std(0, correction=0)
            scale.copy_(spread.clamp(min=max(0.01 * spread.mean().item(), 1e-6)))  # a silent channel may wake up
        self.calibrated.fill_(True)

    def parameter_share(self, transformer: nn.Module) -> float:
        """Number of parameters over that of the host."""
        return _count(self) / _count(transformer)

    @property
    def adapter(self) -> Adapter:
        """What is known about the host's family."""
        return ADAPTERS[self.config.host]

    def _run(
        self, current: Features, cached: Features, scales: Sequence[Tensor | None], conditioning: Mapping[str, Any]
    ) -> Features:
        streams = zip(self._each("fusion_mlp"), current, cached, scales, strict=True)
        features: Features = tuple(fusion(now, kept, scale) for fusion, now, kept, scale in streams)
        arguments = {self._names[name]: value for name, value in conditioning.items()}
        for block in self.blocks:
            features = run_block(block, self.adapter, features, arguments)
        return features

    @property
    def _streams(self) -> tuple[str, ...]:
        """Endings of the parameters' names, one for each stream of features."""
        if self.adapter.context is None:
            return ("",)
        return ("", "") if self.adapter.fuse_jointly else ("_img", "_txt")

    @property
    def _scales(self) -> list[Tensor]:
        """A row of ``scale`` for each stream; a stream narrower than another has the beginning of its row."""
        return [row[:width] for row, width in zip(self.scale, self._widths, strict=True)]

    def _add(self, name: str, make: Callable[[int], nn.Module]) -> None:
        for ending, width in dict(zip(self._streams, self._widths, strict=True)).items():
            self.add_module(name + ending, make(width))

    def _each(self, name: str) -> list[nn.Module]:
        return [self.get_submodule(name + ending) for ending in self._streams]


def _check_options(host: str, depth: int, residual: str) -> None:
    if host not in ADAPTERS:
        raise ValueError(f"{unknown('host', host, ADAPTERS)} Describe its family with disca.adapters.describe() first.")
    if residual not in ("none", "cache"):
        raise ValueError(unknown("residual", residual, ("none", "cache")))
    if not 1 <= depth <= MOST_BLOCKS:
        raise ValueError(f"A predictor has one to {MOST_BLOCKS} blocks, not {depth}.")


def _scaled(gate: nn.Module, scale: Tensor, change: Tensor) -> Tensor:
    """``scale * gate(change)``; weights are multiplied, not tokens."""
    assert isinstance(gate, nn.Linear)
    return F.linear(change, scale[:, None] * gate.weight, scale * gate.bias)


def _zero_linear(width: int) -> nn.Linear:
    linear = nn.Linear(width, width)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
