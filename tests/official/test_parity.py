"""What the authors' code computes is what we compute, on the CPU in float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor

import disca
from disca import official
from disca.official.sinusoid import sinusoid
from tests.official.golden import MODELS, Golden

STEP, LOOP = {"relative": 1e-5, "absolute": 5e-5}, {"relative": 1e-4, "absolute": 5e-4}


def distance(found: Tensor, expected: Tensor) -> dict[str, float]:
    """Relative L2 and largest difference."""
    error = found - expected
    return {"relative": (error.norm() / expected.norm()).item(), "absolute": error.abs().max().item()}


@torch.no_grad()
def single_step(golden: Golden, batch: str, models: Any) -> dict[str, dict[str, float]]:
    """A full step, and a predictor step from its cache."""
    host, predictor = models
    single = golden.tensors("single_step", f"{batch}.")
    given = {name.removeprefix("in."): value for name, value in single.items() if name.startswith("in.")}
    timesteps = [float(given[name][0]) for name in ("t_full", "t_pred", "r_pred")]
    found = {}
    with disca.attach(host, disca.disca(predictor, full_steps=[0]), timesteps=timesteps) as run:
        for kind in ("full", "pred"):
            arguments = golden.inputs(given, given[f"x_{kind}"], given[f"t_{kind}"], given[f"r_{kind}"])
            found[kind] = distance(host(**arguments)[0], single[f"{kind}.output"])
    assert (run.summary().transformer_evaluations, run.summary().forecasts) == (1, 1)
    return found


@torch.no_grad()
def loop(golden: Golden, models: Any, tensors: dict[str, Tensor], full_steps: list[int]) -> Tensor:
    """The last latents of a whole loop."""
    host, predictor = models
    given = {name.removeprefix("in."): value for name, value in tensors.items() if name.startswith("in.")}
    timesteps = (1000 * tensors["sigmas"][:-1]).tolist()
    x = given["noise"]
    with disca.attach(host, disca.disca(predictor, full_steps=full_steps), timesteps=timesteps):
        for t, r, length in golden.steps(tensors):
            latents = torch.cat([x, given["cond_latents"]], dim=1) if "cond_latents" in given else x
            x = x + length * host(**golden.inputs(given, latents, t, r))[0]
    return x


def measure(name: str) -> dict[str, dict[str, float]]:
    """All distances of one model, by what was compared."""
    golden = Golden(name)
    host = official.load_transformer(golden.host(), golden.folder / "dit.safetensors")
    models = host, official.load_predictor(host, golden.folder / "predictor.safetensors")
    found = {}
    for batch in ("b1", "b2"):
        found |= {f"{batch} {kind}": value for kind, value in single_step(golden, batch, models).items()}
        tensors = golden.tensors("loop", f"{batch}.")
        last = loop(golden, models, tensors, golden.config["sampling"]["step_list"])
        found[f"{batch} loop"] = distance(last, tensors["final"])
    tensors = golden.tensors("loop", "b1.")
    steps = len(tensors["sigmas"]) - 1
    expected = golden.tensors("loop", "b1_allfull.")[f"step.{steps - 1}.latent_out"]
    found["b1 loop, every step full"] = distance(loop(golden, models, tensors, list(range(steps))), expected)
    return found


@pytest.mark.parametrize("model", MODELS)
def test_steps_and_loops_are_those_of_the_authors(model: str) -> None:
    distances = measure(model)
    assert len(distances) == 7
    for what, found in distances.items():
        bounds = LOOP if "loop" in what else STEP
        assert all(found[kind] <= bounds[kind] for kind in bounds), f"{model}, {what}: {found}"


@pytest.mark.parametrize("cosine_first", [True, False])
def test_sinusoids_are_diffusers_up_to_the_last_bit_of_a_frequency(cosine_first: bool) -> None:
    values = torch.tensor([0.0, 0.3, 31.25, 999.5, 6000.0])
    theirs = get_timestep_embedding(values, 256, flip_sin_to_cos=cosine_first, downscale_freq_shift=0)
    ours = sinusoid(values, 256, cosine_first=cosine_first)
    assert ((ours - theirs).abs() <= 1e-6 + values[:, None] * 2.5e-7).all()
