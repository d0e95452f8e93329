"""The learned forecast: a fusion network and a few blocks of the host's own class (arXiv 2602.05449)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from disca.features import Features, History, Wants
from disca.predictor.blocks import (
    build_block,
    conditioning_names,
    copy_block,
    import_block,
    name_of,
    run_block,
    translation,
)
from disca.predictor.fusion import Fusion, OfTimes, onward, stacked, zeroed

Residual = Literal["none", "cache", "line"]
Cached = Literal["output", "tail"]
Init = Literal["random", "host"]
MOST_BLOCKS = 4


class Predictor(Companion):
    """What a host's trunk would return, from what goes into it now and what is kept of its last full steps.

    ``cached`` says what is kept: the ``output`` of the trunk, or what entered its ``tail``, the last ``depth`` blocks,
    whose place the predictor's own take then. ``residual="none"`` is the authors' layout: the network gives all of
    the forecast. Otherwise it gives a change that starts at zero of a forecast without parameters, in units of
    ``scale`` ``[streams, width]``, the spread of what is kept (see :meth:`calibrate`):

    - the output is cached: ``kept + scale * gate(blocks(fusion(current, kept / scale)))``;
    - the tail's input is: ``blocks(kept + scale * fusion(current, kept / scale))``.

    With ``residual="line"``, the line through the last two full steps is in the place of ``kept +``, in time, its rise
    weighted for each channel by what is learned of the times, 1 at first.

    ``history=2`` gives the fusion the slope of what is kept as well, and ``timed=True`` the times: of now, since the
    last full step, and between that and the one before. Both start as if they were not there. Where there was one
    full step only, the slope is zero.

    Parameters: ``fusion_mlp``, ``gate``, ``slope``, ``timing`` and ``rise`` for both streams, or one each with the
    endings ``_img`` and ``_txt`` where the host's family is fused apart (:attr:`disca.adapters.Adapter.fuse_jointly`),
    and ``blocks``.
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
        cached: Cached = "output",
        history: int = 1,
        timed: bool = False,
    ) -> None:
        super().__init__()
        _check_options(host, depth, residual, cached, history)
        block_class, self._widths = import_block(block), self.adapter.widths(host_config)
        self._names = translation(conditioning, block_class, self.adapter)
        self._repeated_blocks = [block_class.__name__]  # what compile_repeated_blocks() compiles
        self.wants = Wants(tail=depth if cached == "tail" else 0, history=history, times=timed or history > 1)
        self._add("fusion_mlp", Fusion)
        self.blocks = nn.ModuleList(
            build_block(block_class, host_config, self.adapter, last=index == depth - 1) for index in range(depth)
        )
        if history > 1:
            self._add("slope", lambda width: zeroed(nn.Linear(width, width, bias=False)))
        if timed:
            self._add("timing", lambda width: OfTimes(2 * width))
        if residual == "line":
            self._add("rise", OfTimes)
        if residual != "none":
            self._start_at_zero()
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
        cached: Cached = "output",
        history: int = 1,
        timed: bool = False,
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
        if len(originals) < (depth if init == "host" or cached == "tail" else 1):
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
                cached=cached,
                history=history,
                timed=timed,
            )
        if init == "host":
            for copy, original in zip(predictor.blocks, originals[-depth:], strict=True):
                copy_block(copy, original)
        return predictor.to(weight)  # its device and dtype

    def forward(
        self,
        current: Features,
        cached: Features,
        conditioning: Mapping[str, Any],
        history: History | None = None,
    ) -> Features:
        """The forecast, shaped like ``cached``: ``[batch, tokens, width]`` for each stream.

        ``current`` goes into the host's first block now, ``cached`` is what :attr:`wants` says of the last full step,
        ``conditioning`` is what the first block receives now beside the features, by its parameter names.

        Raises:
            ValueError: no ``history``, which this predictor needs.
        """
        if self.wants.times and history is None:
            raise ValueError("This predictor is told of times and of the full step before: give it history=.")
        if next(self.parameters()).device != current[0].device:  # an offloaded host, or one that moved
            self.to(current[0].device)
        if self.config.residual == "none":
            return self._through(self._fused(current, cached, history, scaled=False), conditioning)
        if self.training and torch.is_grad_enabled() and not self.calibrated:
            self.calibrate(cached)
        fused, base = self._fused(current, cached, history, scaled=True), self._base(cached, history)
        if self.config.cached == "tail":
            scales = zip(base, self._scales, fused, strict=True)
            return self._through(
                tuple(kept + (scale * more).to(kept.dtype) for kept, scale, more in scales), conditioning
            )
        changes = self._through(fused, conditioning)
        streams = zip(base, changes, self._each("gate"), self._scales, strict=True)
        return tuple(kept + _scaled(gate, scale, change).to(kept.dtype) for kept, change, gate, scale in streams)

    @torch.no_grad()
    def calibrate(self, cached: Features) -> None:
        """Set ``scale`` to the standard deviation of each channel over ``cached``, features of a typical full step. The
        first forward that trains does it with its own, where nobody did.

        Raises:
            ValueError: a predictor of the layout ``residual="none"``, which has no scale.
        """
        if self.config.residual == "none":
            raise ValueError("Only a predictor with residual='cache' or 'line' has a scale to calibrate.")
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

    def _fused(self, current: Features, cached: Features, history: History | None, *, scaled: bool) -> Features:
        """What the fusion makes of its inputs."""
        count = len(cached)
        scales = self._scales if scaled else [None] * count
        slopes: list[Any] = [None] * count
        if self.config.history > 1 and history is not None and history.slope:
            slopes = [(s, layer.weight) for s, layer in zip(history.slope, self._each("slope"), strict=True)]
        told = self._of_times("timing", history, cached)
        shifts, gains = zip(*((None, None) if one is None else one.chunk(2, dim=1) for one in told), strict=True)
        inputs = zip(self._each("fusion_mlp"), current, cached, scales, slopes, shifts, strict=True)
        fused = [fusion(*given) for fusion, *given in inputs]
        return tuple(one if gain is None else one * (1 + gain[:, None]) for one, gain in zip(fused, gains, strict=True))

    def _base(self, cached: Features, history: History | None) -> Features:
        """What is forecast without the network."""
        if self.config.residual == "cache":
            return cached
        return onward(cached, history, self._of_times("rise", history, cached))

    def _of_times(self, name: str, history: History | None, like: Features) -> list[Tensor | None]:
        """What the networks of that name say of the times, for each stream; None where there are none."""
        if history is None or not hasattr(self, name + self._streams[0]):
            return [None] * len(like)
        times = stacked(history, like[0])
        made = {ending: self.get_submodule(name + ending)(times) for ending in dict.fromkeys(self._streams)}
        return [made[ending] for ending in self._streams]

    def _through(self, features: Features, conditioning: Mapping[str, Any]) -> Features:
        arguments = {self._names[name]: value for name, value in conditioning.items()}
        for block in self.blocks:
            features = run_block(block, self.adapter, features, arguments)
        return features

    def _start_at_zero(self) -> None:
        """The change that is added to a forecast without parameters."""
        if self.config.cached == "tail":
            for fusion in self._each("fusion_mlp"):
                zeroed(fusion.get_submodule("2"))
        else:
            self._add("gate", lambda width: zeroed(nn.Linear(width, width)))

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

    def _each(self, name: str) -> list[Any]:
        return [self.get_submodule(name + ending) for ending in self._streams]


def _check_options(host: str, depth: int, residual: str, cached: str, history: int) -> None:
    if host not in ADAPTERS:
        raise ValueError(f"{unknown('host', host, ADAPTERS)} Describe its family with disca.adapters.describe() first.")
    for kind, given, known in (
        ("residual", residual, ("none", "cache", "line")),
        ("cached", cached, ("output", "tail")),
    ):
        if given not in known:
            raise ValueError(unknown(kind, given, known))
    if not 1 <= depth <= MOST_BLOCKS:
        raise ValueError(f"A predictor has one to {MOST_BLOCKS} blocks, not {depth}.")
    if history not in (1, 2):
        raise ValueError(f"A predictor hears of the last full step, or of two: history is 1 or 2, not {history}.")
    if residual == "line" and history != 2:
        raise ValueError("A line goes through two full steps: residual='line' wants history=2.")


def _scaled(gate: nn.Module, scale: Tensor, change: Tensor) -> Tensor:
    """``scale * gate(change)``; weights are multiplied, not tokens."""
    assert isinstance(gate, nn.Linear)
    return F.linear(change, scale[:, None] * gate.weight, scale * gate.bias)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
