"""Nothing waits for the device inside of a sampling run whose full steps are known: the model is on the meta device,
whose tensors cannot be read, and copies between it and the processor are counted."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

import disca
from disca.adapters import adapter_for
from disca.bench.sizes import inputs_of
from disca.meanflow.second_time import SecondTime
from tests.bench.test_cost import small_size
from tests.families import FAMILIES

READ_BY_THE_HOST = ("framepack", "15", "mochi", "anyflow")  # masks and indices, or an autocast that meta lacks
NAMES = [name for name in FAMILIES if not any(part in name for part in READ_BY_THE_HOST)]
STEPS = 4


class Transfers(TorchDispatchMode):
    """Counts copies from one device to another, each of which waits."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if "copy" in func.name():
            devices = {value.device for value in tree_leaves((args, result)) if isinstance(value, Tensor)}
            self.count += len(devices) > 1
        return result


def transfers(host: Any, pipe: Any, given: Any) -> list[int]:
    """Of each call in a run."""
    pipe.scheduler.set_timesteps(STEPS, device="cpu")
    found = []
    for step in range(STEPS):
        pipe.scheduler._step_index = step
        with torch.no_grad(), Transfers() as seen:
            host(**given)
        found.append(seen.count)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_run_with_known_full_steps_neither_reads_nor_copies(name: str) -> None:
    with torch.device("meta"):
        host: Any = FAMILIES[name].make().eval()
        predictors = [
            disca.Predictor.from_host(host, residual="cache"),
            disca.Predictor.from_host(host, depth=1, residual="line", cached="tail", timed=True),
        ]
        second = SecondTime.for_host(host) if adapter_for(host).flow else None
    pipe, given = SimpleNamespace(transformer=host, scheduler=FlowMatchEulerDiscreteScheduler()), arguments(host)
    alone = transfers(host, pipe, given)
    policies = [method(full_steps=(0, 2)) for method in (disca.reuse, disca.repeat_change, disca.taylor)]
    for policy in [*policies, *(disca.disca(one, full_steps=(0, 1, 2)) for one in predictors), ()]:
        with disca.attach(pipe, policy):
            assert transfers(host, pipe, given) == alone
        if second is not None:
            with second.attach(host), disca.attach(pipe, policy):
                assert transfers(host, pipe, given) == alone


def arguments(host: Any) -> dict[str, Any]:
    """A call's, all on the meta device."""
    text = host.config.get("max_text_seq_length")
    inputs = inputs_of(adapter_for(host), host.config, small_size(host), partial(torch.empty, device="meta"), text)
    given: dict[str, Any] = tree_map_only(Tensor, lambda tensor: tensor.to("meta"), inputs.at(0.5))
    return given
