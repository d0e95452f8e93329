"""Law 4: a schedule with k full steps evaluates each of its sites exactly k times per branch."""

from __future__ import annotations

from inspect import signature
from typing import Any

import pytest
from torch import nn

import disca
from disca.adapters import adapter_for
from tests.methods import TRUNK
from tests.pipelines import PIPELINES


@pytest.mark.methods(*TRUNK)
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


@pytest.mark.methods(*TRUNK)
@pytest.mark.hosts(*(name for name in PIPELINES if not name.startswith("HunyuanVideo15")))
def test_without_guidance_there_is_one_branch(host: Any, method: Any) -> None:
    """Embedded guidance, where there is one, stays."""
    scale = "true_cfg_scale" if "true_cfg_scale" in signature(host.target.__call__).parameters else "guidance_scale"
    with host.attach(method(every=2)) as run:
        host.sample(**{scale: 1.0})
    assert list(run.summary().evaluations.values()) == [len(host.full((0, 2)))]


@pytest.mark.methods("fora", "taylorseer", "hicache", "rfc")
@pytest.mark.parametrize(("when", "full_steps"), [({"every": 3}, (0, 3)), ({"full_steps": (0, 1)}, (0, 1))], ids=str)
def test_each_layer_runs_once_per_full_step_and_branch(
    host: Any, method: Any, when: dict[str, Any], full_steps: tuple[int, ...]
) -> None:
    layers = [layer for block in host.blocks(0) for layer in inner_layers(host.transformer, block)]
    assert len(layers) > len(host.blocks(0))
    calls = count_calls(layers)
    with host.attach(method(**when)) as run:
        host.sample()
    assert calls == [len(full_steps) * host.branches] * len(layers)
    assert {steps.full for steps in run.summary().branches.values()} == {full_steps}


@pytest.mark.hosts("hunyuan_video", "wan")
def test_broadcast_attention_leaves_the_rest_running(host: Any) -> None:
    blocks = host.blocks(0)
    attention = count_calls([getattr(block, "attn1", None) or block.attn for block in blocks], inner=True)
    others = count_calls(blocks)
    with host.attach(disca.pab(attention=4, cross_attention=4, window=(0.0, 1.0))):
        host.sample()
    assert attention == [host.branches] * len(blocks)
    assert others == [4 * host.branches] * len(blocks)


@pytest.mark.hosts("hunyuan_video", "wan")
def test_half_of_the_blocks_runs_in_turn(host: Any) -> None:
    calls = count_calls(host.blocks(0))
    with host.attach(disca.delta_dit(every=2)):
        host.sample()
    half = len(calls) // 2
    assert calls == [3 * host.branches] * len(calls)  # steps 0 and 2 in full, 1 by the front half, 3 by the back
    assert half


@pytest.mark.hosts("hunyuan_video", "wan")
def test_the_first_block_always_runs(host: Any) -> None:
    calls = count_calls(host.blocks(0))
    with host.attach(disca.first_block_cache(threshold=1e9)):
        host.sample()
    assert calls == [4 * host.branches, *[host.branches] * (len(calls) - 1)]


def inner_layers(transformer: nn.Module, block: nn.Module) -> list[nn.Module]:
    """A module inside of each layer, which runs exactly where the layer is computed."""
    stacks = adapter_for(transformer).sublayers.values()
    names = {name for stack in stacks for layer in stack for name in (layer.module, *layer.parts)}
    children = [getattr(block, name) for name in sorted(names) if getattr(block, name, None) is not None]
    return [next(inner for inner in child.modules() if not list(inner.children())) for child in children if
            list(child.children())]  # fmt: skip


def count_calls(blocks: list[nn.Module], *, inner: bool = False) -> list[int]:
    """Counts, from here on, the calls of each block, or of what projects its queries."""
    blocks = [block.to_q for block in blocks] if inner else blocks
    counts = [0] * len(blocks)

    def count(index: int) -> Any:
        def one_more(*_: Any) -> None:
            counts[index] += 1

        return one_more

    assert len(blocks) > 1
    for index, block in enumerate(blocks):
        block.register_forward_pre_hook(count(index))
    return counts
