"""What the laws range over: every published method, and hosts that sample with it.

A new host joins by a row in ``HOSTS``; methods are listed by the library itself.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import disca
from disca.caching.methods import METHODS, from_name
from disca.caching.policy import Policy


class Interrupted(Exception):
    """Somebody stopped the sampling."""


@dataclass
class Host:
    """Something to attach to, and a way to sample from it."""

    target: Any
    transformer: nn.Module
    sample: Callable[..., Tensor]
    """``sample(steps=4, seed=0, batch=1, size=8, stop_after=None)``: latents; raises Interrupted after that step."""
    branches: int = 2
    options: Callable[[int], dict[str, Any]] = field(default=lambda steps: {})
    """What attach takes beside the target for a run of so many steps."""
    must_restart: bool = False
    """Whether a run that was given up within its first step has to be told so."""

    def attach(self, policy: Policy, *, steps: int = 4) -> disca.Run:
        return disca.attach(self.target, policy, **self.options(steps))


@dataclass
class BareLoop:
    """An Euler sampler around a bare transformer, with or without names for its two branches."""

    transformer: nn.Module
    inputs: Callable[..., dict[str, Any]]
    named: bool

    def timesteps(self, steps: int) -> dict[str, Any]:
        return {"timesteps": [1000 * (1 - step / steps) for step in range(steps)]}

    @torch.no_grad()
    def __call__(
        self, steps: int = 4, seed: int = 0, batch: int = 1, size: int = 8, stop_after: int | None = None
    ) -> Tensor:
        cond, uncond = (self.inputs(self.transformer, batch=batch, size=size, seed=seed + i) for i in (0, 100))
        x = cond["hidden_states"]
        for step, timestep in enumerate(self.timesteps(steps)["timesteps"]):
            up = self.velocity({**cond, "hidden_states": x}, "cond", timestep)
            down = self.velocity({**uncond, "hidden_states": x}, "uncond", timestep)
            x = x - (2 * up - down) / steps
            if step == stop_after:
                raise Interrupted("stopped")
        return x

    def velocity(self, inputs: dict[str, Any], branch: str, timestep: float) -> Tensor:
        inputs = {k: v.to(self.transformer.dtype) if isinstance(v, Tensor) else v for k, v in inputs.items()}
        with self.transformer.cache_context(branch) if self.named else nullcontext():
            return self.transformer(timestep=torch.full((len(inputs["hidden_states"]),), timestep), **inputs)[0]


@dataclass
class StockPipeline:
    """diffusers' own HunyuanVideoPipeline with true guidance: prompt embeddings in, latents out."""

    pipe: Any
    inputs: Callable[..., dict[str, Any]]

    def __call__(
        self, steps: int = 4, seed: int = 0, batch: int = 1, size: int = 8, stop_after: int | None = None
    ) -> Tensor:
        def stop(pipe: Any, step: int, timestep: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            if step == stop_after:
                raise Interrupted("stopped")
            return tensors

        return self.pipe(
            **self.prompt("", batch, seed), **self.prompt("negative_", batch, seed + 100),
            true_cfg_scale=2.0, height=8 * size, width=8 * size, num_frames=9, num_inference_steps=steps,
            generator=torch.Generator().manual_seed(seed), output_type="latent", return_dict=False,
            callback_on_step_end=stop,
        )[0]  # fmt: skip

    def prompt(self, prefix: str, batch: int, seed: int) -> dict[str, Tensor]:
        inputs = self.inputs(self.pipe.transformer, batch=batch, seed=seed)
        return {
            f"{prefix}prompt_embeds": inputs["encoder_hidden_states"],
            f"{prefix}prompt_attention_mask": inputs["encoder_attention_mask"],
            f"{prefix}pooled_prompt_embeds": inputs["pooled_projections"],
        }


def bare(transformer: nn.Module, inputs: Callable[..., dict[str, Any]], *, named: bool) -> Host:
    loop = BareLoop(transformer, inputs, named)
    return Host(transformer, transformer, loop, options=loop.timesteps, must_restart=not named)


def pipeline(transformer: nn.Module, inputs: Callable[..., dict[str, Any]]) -> Host:
    from diffusers import FlowMatchEulerDiscreteScheduler, HunyuanVideoPipeline

    parts = dict.fromkeys(("text_encoder", "tokenizer", "vae", "text_encoder_2", "tokenizer_2"))
    pipe = HunyuanVideoPipeline(transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0), **parts)
    pipe.set_progress_bar_config(disable=True)
    return Host(pipe, transformer, StockPipeline(pipe, inputs))


@dataclass
class LabStudent:
    """The lab's own pipeline, with a second time and two passes: prompts in, latents out."""

    pipe: Any

    def __call__(
        self, steps: int = 4, seed: int = 0, batch: int = 1, size: int = 8, stop_after: int | None = None
    ) -> Tensor:
        def stop(pipe: Any, step: int, timestep: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            if step == stop_after:
                raise Interrupted("stopped")
            return tensors

        prompts = ["a red seven drifting left", "a blue three bouncing up"] * batch
        return self.pipe(
            prompts[seed % 2 :][:batch], num_inference_steps=steps, generator=torch.Generator().manual_seed(seed),
            output_type="latent", callback_on_step_end=stop,
        ).frames  # fmt: skip


@lru_cache(maxsize=1)
def lab_parts() -> dict[str, Any]:
    """What a tiny lab has beside its transformer; fitting the codec is done once."""
    from disca.lab.build import Size, pipeline

    size = Size(heads=2, head_width=16, single_blocks=1, text_width=16, components=8, codec_clips=32)
    return pipeline(size, seed=0).components


def lab(make: Callable[..., nn.Module]) -> Host:
    from disca.lab.pipeline import LabPipeline

    transformer = make(in_channels=8, out_channels=8, patch_size=1, pooled_projection_dim=16)
    second = disca.SecondTime.for_host(transformer)
    pipe = LabPipeline(**{**lab_parts(), "transformer": transformer, "second_time": second})
    pipe.set_progress_bar_config(disable=True)
    return Host(pipe, transformer, LabStudent(pipe))


HOSTS: dict[str, Callable[..., Host]] = {
    "transformer": lambda make, inputs: bare(make(), inputs, named=True),
    "transformer_without_names": lambda make, inputs: bare(make(), inputs, named=False),
    "pipeline": lambda make, inputs: pipeline(make(guidance_embeds=True), inputs),
    "lab": lambda make, inputs: lab(make),
}


@pytest.fixture
def make_host(make_hunyuan: Any, make_inputs: Any) -> Callable[..., Host]:
    """A host by its name, with weights of its own for each seed."""
    return lambda name, **options: HOSTS[name](partial(make_hunyuan, **options), make_inputs)


@pytest.fixture(params=["transformer", "pipeline", "lab"])
def host(request: pytest.FixtureRequest, make_host: Any) -> Host:
    """A host. Names of branches make no difference but to law 3, which ranges over all of ``HOSTS``."""
    return make_host(request.param)


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest, host: Host) -> Callable[..., Policy]:
    """A method, for this host, as a function of when to compute in full."""
    options = {}
    if "predictor" in METHODS[request.param].options:
        torch.manual_seed(0)
        options["predictor"] = disca.Predictor.from_host(host.transformer, depth=1).eval()
    return partial(from_name, request.param, **options)
