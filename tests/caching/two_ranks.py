"""A tiny Wan on two ranks, by Ulysses attention over gloo, against the same on one: run by torchrun.

Prints, for each policy, the relative L2 between the two, and the share of the cache that a rank holds. diffusers'
``enable_parallelism`` counts accelerators, so the mesh of two processors is given to its configuration by hand.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from diffusers import ContextParallelConfig
from diffusers.hooks.context_parallel import apply_context_parallel
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

sys.path.insert(0, str(Path(__file__).parents[2]))
import disca
from disca import hooks
from disca.caching.budgeted import Budgeted
from disca.caching.doubts import Disagreement
from disca.caching.gates import Given
from disca.planning import NONE, Costs
from tests.families import FAMILIES, redraw

TIMESTEPS = [1000.0, 800.0, 500.0, 200.0]


class Parallel:
    """What an attention processor reads of diffusers' ParallelConfig."""

    def __init__(self, config: ContextParallelConfig) -> None:
        self.context_parallel_config = config
        self.tensor_parallel_config = None


def configuration() -> ContextParallelConfig:
    config = ContextParallelConfig(ulysses_degree=2)
    mesh = init_device_mesh("cpu", config.mesh_shape, mesh_dim_names=config.mesh_dim_names)
    config.setup(dist.get_rank(), dist.get_world_size(), torch.device("cpu"), mesh=mesh)
    return config


@torch.no_grad()
def sample(host: Any, inputs: dict[str, Any], policy: Any) -> tuple[Tensor, int, tuple[int, ...]]:
    """The velocities of four steps, the bytes held between them, and the steps that were full."""
    with disca.attach(host, policy, timesteps=TIMESTEPS) as run:
        steps = [host(timestep=torch.tensor([timestep]), return_dict=False, **inputs)[0] for timestep in TIMESTEPS]
    assert run.summary().forecasts > 0
    (branch,) = run.summary().branches.values()
    return torch.stack(steps), run.summary().bytes_held, branch.full


def budgeted() -> Budgeted:
    """A plan that any doubt at its third step leaves."""
    rows = {key: (1.0,) * (3 - key[1]) for key in [(NONE, 0), *((i, j) for j in range(1, 4) for i in range(j))]}
    costs = Costs((1.0, 0.8, 0.5, 0.2, 0.0), rows, rows, 2)
    return Budgeted(Given((0, 1, 3)), Disagreement(), {(0, 1): (0.0,)}, costs)


def main() -> None:
    dist.init_process_group("gloo")
    host = redraw(FAMILIES["wan"].make())
    inputs = FAMILIES["wan"].inputs(host)
    predictor = redraw(disca.Predictor.from_host(host, depth=2), seed=1)
    richer = redraw(disca.Predictor.from_host(host, depth=1, residual="line", cached="tail", timed=True), seed=2)
    policies = {
        "disca": disca.disca(predictor, every=2),
        "disca/all": disca.disca(richer, full_steps=(0, 1, 3)),
        "taylor": disca.taylor(every=2),
        "repeat_change": disca.repeat_change(every=2),
        "fora": disca.fora(every=2),
        "teacache": disca.teacache(threshold=0.05, force_last=False),
        "first_block_cache": disca.first_block_cache(threshold=0.05),
    }
    policies["budgeted"] = tuple(replace(rule, when=budgeted()) for rule in disca.taylor(every=2))
    alone = {name: sample(host, inputs, policy) for name, policy in policies.items()}
    config = configuration()
    for processor in hooks._processors(host):
        processor._parallel_config = Parallel(config)
    apply_context_parallel(host, config, type(host)._cp_plan)
    together = {name: sample(host, inputs, policy) for name, policy in policies.items()}
    assert all(processor._parallel_config is None for processor in hooks._processors(predictor))  # as it was
    again, *_ = sample(host, inputs, policies["disca"])
    assert torch.equal(again, together["disca"][0])
    found = {}
    for name in policies:
        (one, held, full), (two, shard, same) = alone[name], together[name]
        assert name != "budgeted" or full == (0, 1, 2), full
        assert full == same, name
        found[name] = {"error": ((two - one).norm() / one.norm()).item(), "share": shard / held}
    if dist.get_rank() == 0:
        print(json.dumps(found))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
