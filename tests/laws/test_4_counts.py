"""Law 4: a schedule with k full steps evaluates each of its sites exactly k times per branch."""

from __future__ import annotations

from inspect import signature
from typing import Any

import pytest
from torch import nn

import disca
from tests.pipelines import PIPELINES


@pytest.mark.parametrize(
    ("when", "full_steps"),
    [
        ({"every": 3}, (0, 3)),
        ({"every": 2, "warmup": 1, "force_last": True}, (0, 2, 3)),
        ({"full_steps": (0, 1)}, (0, 1)),
        ({"full_steps": disca.Schedule(4, (0,))}, (0,)),
    ],
    ids=str,
)
def test_each_block_runs_once_per_full_step_and_branch(
    host: Any, method: Any, when: dict[str, Any], full_steps: tuple[int, ...]
) -> None:
    counts = [count_calls(host.blocks(index)) for index in range(len(host.transformers))]
    with host.attach(method(**when)) as run:
        host.sample()
    full_steps = host.full(full_steps)
    for index, calls in enumerate(counts):
        own = [step for step in full_steps if step in host.steps_of(index)]
        assert calls == [len(own) * host.branches] * len(host.blocks(index))
    summary = run.summary()
    assert summary.evaluations == dict.fromkeys(summary.branches, len(full_steps))
    assert len(summary.branches) == host.branches
    for steps in summary.branches.values():
        assert steps.full == full_steps
        assert sorted(steps.full + steps.forecast) == list(range(4))


@pytest.mark.hosts(*(name for name in PIPELINES if not name.startswith("HunyuanVideo15")))
def test_without_guidance_there_is_one_branch(host: Any, method: Any) -> None:
    """Embedded guidance, where there is one, stays."""
    scale = "true_cfg_scale" if "true_cfg_scale" in signature(host.target.__call__).parameters else "guidance_scale"
    with host.attach(method(every=2)) as run:
        host.sample(**{scale: 1.0})
    assert list(run.summary().evaluations.values()) == [len(host.full((0, 2)))]


def count_calls(blocks: list[nn.Module]) -> list[int]:
    """Counts, from here on, the calls of each block."""
    counts = [0] * len(blocks)

    def count(index: int) -> Any:
        def one_more(*_: Any) -> None:
            counts[index] += 1

        return one_more

    assert len(blocks) > 1
    for index, block in enumerate(blocks):
        block.register_forward_pre_hook(count(index))
    return counts
