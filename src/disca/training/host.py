"""A transformer as a velocity: what the objectives call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn

from disca.adapters import adapter_for
from disca.meanflow.second_time import SecondTime
from disca.objectives import guided
from disca.training.clips import Clips
from disca.training.recipe import Recipe


@dataclass(frozen=True)
class Host:
    """``host(x, t)`` or ``host(x, t, r)`` with everything else bound to it; times ``[batch]`` in [0, 1] and float32,
    and velocities towards noise, whatever the host's own units and direction are."""

    transformer: nn.Module
    conditioning: Mapping[str, Any]
    second: SecondTime | None = None
    guidance: Tensor | None = None
    """The embedded scale ``[batch]``."""
    condition: Mapping[str, Tensor] = field(default_factory=dict)
    shape: Any = None
    """How the host's latents and conditions are laid out, where they are not its plain arguments: an
    object with ``inputs``, ``timestep`` and ``velocity``, as ``disca.data.form_for(pipe)`` gives them, and the pipe."""
    plain: bool = False
    """Without the adapters and the second time that were put on the transformer: the teacher of a LoRA student."""

    def given(self, conditioning: Mapping[str, Any], guidance: Tensor | None = None) -> Host:
        """The same transformer under other conditions; ``guidance`` ``[batch]`` is the embedded scale."""
        return self._under(conditioning=conditioning, guidance=guidance)

    def on(self, clips: Clips, guidance: Tensor | None = None) -> Host:
        """The same transformer under the prompts and conditions of a batch."""
        return self._under(conditioning=clips.prompt, condition=clips.condition, guidance=guidance)

    def __call__(self, x: Tensor, t: Tensor, r: Tensor | None = None) -> Tensor:
        r = t if r is None else r
        if self.plain:
            with _plainly(self.transformer, self.second):
                return self._velocity(x, t, r)
        if self.second is None:
            return self._velocity(x, t, r)
        with self.second.at(t, r):
            return self._velocity(x, t, r)

    def _velocity(self, x: Tensor, t: Tensor, r: Tensor) -> Tensor:
        adapter, transformer = adapter_for(self.transformer), self.transformer
        given, times = dict(self.conditioning), {adapter.timestep: adapter.timestep_at(t)}  # type: ignore[arg-type]
        if adapter.takes_second_time(transformer):
            times[adapter.second_timestep or ""] = adapter.timestep_at(r)  # type: ignore[arg-type]
        if self.guidance is not None:
            given["guidance"] = 1000.0 * self.guidance
        if self.shape is None:
            velocity = transformer(hidden_states=self._cast(x), return_dict=False, **times, **given)[0]
        else:
            form, pipe = self.shape
            inputs = form.inputs(pipe, self._cast(x), given, self.condition)
            times = {name: form.timestep(pipe, x, time, self.condition) for name, time in times.items()}
            velocity = form.velocity(transformer(return_dict=False, **times, **inputs)[0], x, self.condition)
        velocity = velocity.to(x.dtype)
        return -velocity if adapter.time_ascends else velocity  # it counts time the other way

    def _cast(self, x: Tensor) -> Tensor:
        """Latents in the host's dtype; times are never rounded, and autocast does its own."""
        return x if torch.is_autocast_enabled(x.device.type) else x.to(self._dtype)

    @cached_property
    def _dtype(self) -> torch.dtype:
        return cast(torch.dtype, self.transformer.dtype)  # walks all modules to say

    def _under(self, **conditions: Any) -> Host:
        host = replace(self, **conditions)
        host.__dict__["_dtype"] = self._dtype
        return host


@dataclass(frozen=True)
class Guided:
    """Two passes of a host and their guidance, as one velocity."""

    conditional: Host
    unconditional: Host
    scale: float

    @property
    def transformer(self) -> nn.Module:
        return self.conditional.transformer

    def __call__(self, x: Tensor, t: Tensor, r: Tensor | None = None) -> Tensor:
        return guided(self.conditional(x, t, r), self.unconditional(x, t, r), self.scale)


AnyHost = Host | Guided


def hosted(host: Host, clips: Clips, scale: Tensor) -> AnyHost:
    """The host on a batch: told the guidance scales ``[batch]`` where it embeds them, else guided by two passes at the
    first of them; with a scale of 1, by none."""
    if embeds_guidance(host.transformer):
        return host.on(clips, scale)
    first = float(scale[0])
    if first == 1:
        return host.on(clips)
    return Guided(host.on(clips), replace(host.on(clips), conditioning=clips.empty), first)


def embeds_guidance(transformer: Any) -> bool:
    """Whether a transformer takes the guidance scale as an input."""
    return bool(transformer.config.get("guidance_embeds"))


@contextmanager
def _plainly(transformer: Any, second: SecondTime | None) -> Iterator[None]:
    adapted = bool(getattr(transformer, "peft_config", None))
    if adapted:
        transformer.disable_adapters()
    try:
        if second is None:
            yield
        else:
            with second.silenced():
                yield
    finally:
        if adapted:
            transformer.enable_adapters()


def drop(texts: list[str], share: float, generator: torch.Generator) -> list[str]:
    """The texts, a random share of them emptied."""
    dropped = torch.rand(len(texts), generator=generator) < share
    return ["" if gone else text for text, gone in zip(texts, dropped, strict=True)]


def prepared(transformer: Any, recipe: Recipe, *, trained: bool = False) -> Any:
    """The transformer with its blocks compiled, and its activations recomputed in the backward pass, as far as the
    recipe says so; names of parameters stay as they were."""
    if recipe.compile:
        # Every block has the same code, and it is compiled for teacher and student, with and without gradients.
        torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
        transformer.compile_repeated_blocks(fullgraph=True, dynamic=False)
    if trained and recipe.recompute:
        transformer.enable_gradient_checkpointing()
    return transformer
