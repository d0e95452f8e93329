"""What the laws range over: every published method, and hosts that sample with it.

Families and stock pipelines join by a row in ``tests/families.py`` and ``tests/pipelines.py``; methods are listed by
the library itself. Hosts in ``THOROUGH`` go with every method, those in ``PLAIN`` with the methods that are one rule of
the trunk, the others with the predictor, which uses all of a host.
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
from disca.adapters import adapter_for
from disca.caching.methods import METHODS
from disca.caching.policy import Policy
from tests import methods
from tests.families import FAMILIES, Family
from tests.pipelines import PIPELINES, Interrupted, Sampler


@dataclass
class Host:
    """Something to attach to, and a way to sample from it."""

    target: Any
    transformers: list[Any]
    sample: Callable[..., Tensor]
    """``sample(steps=4, seed=0, batch=1, size=8, stop_after=None)``: latents; raises Interrupted after that step."""
    branches: int = 2
    options: Callable[[int], dict[str, Any]] = field(default=lambda steps: {})
    """What attach takes beside the target for a run of so many steps."""
    must_restart: bool = False
    """Whether a run that was given up within its first step has to be told so."""
    switch: int | None = None
    """The step of a run of four that the second of two transformers begins with."""

    @property
    def transformer(self) -> Any:
        """The transformer, or the one that begins."""
        return self.transformers[0]

    def __post_init__(self) -> None:
        self.models = nn.ModuleList(self.transformers)  # all that attaching touches

    def blocks(self, index: int) -> list[nn.Module]:
        """The trunk of a transformer, also while attached."""
        return adapter_for(self.transformers[index]).blocks(self.transformers[index])

    def full(self, scheduled: tuple[int, ...]) -> tuple[int, ...]:
        """Steps computed in full in a run of four: the scheduled ones, and the first after a switch."""
        return tuple(sorted({*scheduled, *(() if self.switch is None else (self.switch,))}))

    def steps_of(self, index: int) -> range:
        """The steps of a run of four that a transformer takes."""
        switch = 4 if self.switch is None else self.switch
        return range(switch) if index == 0 else range(switch, 4)

    def attach(self, policy: Policy, *, steps: int = 4) -> disca.Run:
        return disca.attach(self.target, policy, **self.options(steps))


@dataclass
class BareLoop:
    """An Euler sampler around a bare transformer, with or without names for its two branches."""

    transformer: Any
    family: Family
    named: bool

    def timesteps(self, steps: int) -> dict[str, Any]:
        at = adapter_for(self.transformer).timestep_at
        return {"timesteps": [at(1 - step / steps) for step in range(steps)]}

    @torch.no_grad()
    def __call__(
        self, steps: int = 4, seed: int = 0, batch: int = 1, size: int = 8, stop_after: int | None = None
    ) -> Tensor:
        cond, uncond = (self.inputs(batch=batch, size=size, seed=seed + i) for i in (0, 100))
        x = cond["hidden_states"].clone()
        for step in range(steps):
            up = self.velocity({**cond, "hidden_states": x}, "cond", step, steps)
            down = self.velocity({**uncond, "hidden_states": x}, "uncond", step, steps)
            x[:, : up.shape[1]] -= (2 * up - down) / steps
            if step == stop_after:
                raise Interrupted("stopped")
        return x

    def inputs(self, **options: Any) -> dict[str, Any]:
        return self.family.inputs(self.transformer, **options)

    def velocity(self, inputs: dict[str, Any], branch: str, step: int, steps: int = 4) -> Tensor:
        with self.transformer.cache_context(branch) if self.named else nullcontext():
            return self.family.call(self.transformer, inputs, 1 - step / steps, 1 - (step + 1) / steps)


def bare(family: str, *, named: bool = True, seed: int = 0) -> Host:
    transformer = FAMILIES[family].transformer(seed)
    named = named and hasattr(transformer, "cache_context")
    loop = BareLoop(transformer, FAMILIES[family], named)
    return Host(transformer, [transformer], loop, options=loop.timesteps, must_restart=not named)


def pipeline(name: str, *, seed: int = 0) -> Host:
    stock = PIPELINES[name]
    sampler = Sampler(stock, seed)
    return Host(sampler.pipe, sampler.transformers, sampler, branches=stock.branches, switch=stock.switch)


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


def lab(*, seed: int = 0) -> Host:
    from disca.lab.pipeline import LabPipeline

    changes = {"in_channels": 8, "out_channels": 8, "patch_size": 1, "pooled_projection_dim": 16}
    transformer = FAMILIES["hunyuan_video"].transformer(seed, **changes)
    second = disca.SecondTime.for_host(transformer)
    pipe = LabPipeline(**{**lab_parts(), "transformer": transformer, "second_time": second})
    pipe.set_progress_bar_config(disable=True)
    return Host(pipe, [transformer], LabStudent(pipe))


HOSTS: dict[str, Callable[..., Host]] = {
    **{name: partial(bare, name) for name in FAMILIES},
    "hunyuan_video/nameless": partial(bare, "hunyuan_video", named=False),
    **{name: partial(pipeline, name) for name in PIPELINES},
    "lab": lab,
}

THOROUGH = ("hunyuan_video", "wan", "lab")
PLAIN = ("hunyuan_video/nameless", "HunyuanVideoPipeline", "WanPipeline/two_experts")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "methods(*names): the methods a law ranges over, where it is not all of them")
    config.addinivalue_line("markers", "hosts(*names): the hosts a law ranges over, where it is not all of them")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("hosts")
    hosts = marker.args if marker else tuple(HOSTS)
    if "method" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("methods")
        names = marker.args if marker else (*METHODS, "disca/all")
        pairs = [(host, name) for host in hosts for name in names if goes_with(host, name)]
        metafunc.parametrize(("host", "method"), pairs, indirect=True)
    elif "host" in metafunc.fixturenames:
        metafunc.parametrize("host", hosts, indirect=True)


def goes_with(host: str, name: str) -> bool:
    return host in THOROUGH or name == "disca" or (host in PLAIN and name in (*methods.TRUNK, "disca/all"))


@pytest.fixture
def host(request: pytest.FixtureRequest) -> Host:
    return HOSTS[request.param]()


@pytest.fixture
def make_host() -> Callable[..., Host]:
    """A host by its name, with weights of its own for each seed."""
    return lambda name, **options: HOSTS[name](**options)


@pytest.fixture
def method(request: pytest.FixtureRequest, host: Host) -> Callable[..., Policy]:
    """A method, for this host, as a function of when to compute in full."""
    return partial(methods.policy, request.param, host.transformer)
