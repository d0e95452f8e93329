"""Policies on a host quantised by torchao: `pip install torchao`, then `python benchmarks/quantised.py`.

Not among the tests, because diffusers tries to import whatever torchao is installed and complains of most versions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchao.quantization import Int8WeightOnlyConfig, quantize_

import disca
from disca.lab import weights
from disca.lab.words import EXAMPLE

STEPS, FULL = 8, (0, 2, 4, 7)


def sample(pipe: Any, policy: Any) -> Tensor:
    """Latents of one clip."""
    with disca.attach(pipe, policy):
        noise = torch.Generator().manual_seed(0)
        return pipe(EXAMPLE, num_inference_steps=STEPS, generator=noise, output_type="latent").frames


def distance(found: Tensor, expected: Tensor) -> float:
    """Relative L2."""
    return ((found - expected).norm() / expected.norm()).item()


def main() -> None:
    pipe, predictor = weights.pipeline("student"), weights.predictor()
    policy = disca.disca(predictor, full_steps=FULL)
    before = {"every step full": sample(pipe, ()), "disca": sample(pipe, policy)}
    quantize_(pipe.transformer, Int8WeightOnlyConfig())
    plain = pipe(EXAMPLE, num_inference_steps=STEPS, generator=torch.Generator().manual_seed(0), output_type="latent")
    assert torch.equal(sample(pipe, ()), plain.frames), "attaching changed the quantised host"
    for name, rules in (("every step full", ()), ("disca", policy)):
        error = distance(sample(pipe, rules), before[name])
        print(f"{name}: {error:.4f} (relative L2) from the host that is not quantised")
        assert error < 0.05
    copied = disca.Predictor.from_host(pipe.transformer, residual="cache", init="host")
    assert all(type(value) is Tensor for value in copied.state_dict().values()), "copies are rounded, not quantised"


if __name__ == "__main__":
    main()
