"""Law 4: a schedule with k full steps evaluates each of its sites exactly k times per branch."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from torch import nn

import disca

STACKS = ("transformer_blocks", "single_transformer_blocks")


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
    counts = count_calls(host.transformer)
    with host.attach(method(**when)) as run:
        host.sample()
    assert counts == dict.fromkeys(counts, len(full_steps) * host.branches)
    summary = run.summary()
    assert summary.evaluations == dict.fromkeys(summary.branches, len(full_steps))
    assert len(summary.branches) == host.branches
    for steps in summary.branches.values():
        assert steps.full == full_steps
        assert sorted(steps.full + steps.forecast) == list(range(4))


def count_calls(transformer: nn.Module) -> Counter[str]:
    """Counts, from here on, the calls of each block."""
    counts: Counter[str] = Counter()

    def count(name: str) -> Any:
        return lambda *_: counts.update([name])

    for name, module in transformer.named_modules():
        if name.rpartition(".")[0] in STACKS:
            counts[name] = 0
            module.register_forward_pre_hook(count(name))
    assert len(counts) == 5
    return counts
