"""How far our steps are from the authors', as JSON: ``python tests/official/parity.py``.

A program of its own, because the float32 exponential of the math library that torch brings differs by a unit in the
last place between makers of processors, and a guidance of 6000 times such a frequency moves the output by 1e-5. The
golden files were made on a processor where the library takes its compatible path, and ``MKL_CBWR=COMPATIBLE`` makes it
take that path anywhere, if it is set before torch is loaded.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("MKL_CBWR", "COMPATIBLE")
sys.path.insert(0, str(Path(__file__).parent))

import torch
from golden import MODELS, Golden
from torch import Tensor

import disca
from disca import official


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


if __name__ == "__main__":
    print(json.dumps({name: measure(name) for name in MODELS}, indent=1))
