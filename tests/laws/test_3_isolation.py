"""Law 3: two branches never see each other's features; two runs in one process never see each other's; a run after an
aborted run equals a fresh run."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.families import FAMILIES
from tests.pipelines import PIPELINES


@pytest.mark.hosts("hunyuan_video", "hunyuan_video/nameless", *(name for name in FAMILIES if name != "hunyuan_video"))
def test_branches_do_not_see_each_other(host: Any, method: Any) -> None:
    """What one branch gets is what it would get alone."""

    @torch.no_grad()
    def first_branch(branches: tuple[str, ...]) -> list[Tensor]:
        outputs = []
        with host.attach(method(every=2)):
            for step in range(4):
                for index, branch in enumerate(branches):
                    inputs = host.sample.inputs(seed=10 * step + index)
                    velocity = host.sample.velocity(inputs, branch, step)
                    outputs += [velocity] if index == 0 else []
        return outputs

    alone, together = first_branch(("cond",)), first_branch(("cond", "uncond"))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_runs_do_not_see_each_other(host: Any, method: Any) -> None:
    """Neither a run of another prompt, nor one of other shapes, nor one of another batch."""
    ways: list[dict[str, Any]] = [{"seed": 1}, {"seed": 2, "batch": 3, "size": 4}, {"seed": 1}]

    def fresh(way: dict[str, Any]) -> tuple[Tensor, int]:
        with host.attach(method(every=2)) as run:
            return host.sample(**way), run.summary().transformer_evaluations

    expected = [fresh(way) for way in ways]
    with host.attach(method(every=2)) as run:
        for way, (latents, evaluations) in zip(ways, expected, strict=True):
            assert torch.equal(host.sample(**way), latents)
            assert run.summary().transformer_evaluations == evaluations < 4 * host.branches
            assert run.bytes_held() == 0


@pytest.mark.parametrize("stop_after", [0, 1])
def test_a_run_after_an_aborted_run_equals_a_fresh_run(host: Any, method: Any, stop_after: int) -> None:
    with host.attach(method(every=2)):
        expected = host.sample(seed=1)
    with host.attach(method(every=2)) as run:
        with pytest.raises(Exception, match="stopped"):
            host.sample(seed=2, stop_after=stop_after)
        if host.must_restart and stop_after == 0:
            run.restart()
        assert torch.equal(host.sample(seed=1), expected)
        assert len(run.summary().branches) == host.branches


def test_a_run_after_a_failure_in_its_first_call_equals_a_fresh_run(host: Any, method: Any) -> None:
    block = host.blocks(0)[-1]
    with host.attach(method(every=2)):
        expected = host.sample(seed=1)
    with host.attach(method(every=2)) as run:
        fail = block.register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            host.sample(seed=2)
        fail.remove()
        assert torch.equal(host.sample(seed=1), expected)
        assert len(run.summary().branches) == host.branches


@pytest.mark.hosts(*(name for name, stock in PIPELINES.items() if stock.calls_back))
def test_a_run_after_one_that_a_callback_ended_equals_a_fresh_run(host: Any, method: Any) -> None:
    """Pipelines skip the steps that are left, and end as usual."""

    def end(pipe: Any, step: int, timestep: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        pipe._interrupt = step == 1
        return tensors

    with host.attach(method(every=2)):
        expected = host.sample(seed=1)
    with host.attach(method(every=2)) as run:
        host.sample(seed=2, callback_on_step_end=end)
        assert {len(steps.full + steps.forecast) for steps in run.summary().branches.values()} == {2}
        if hasattr(host.transformer, "_reset_stateful_cache"):  # AnyFlow is not told that its pipeline is done
            assert run.bytes_held() == 0
        assert torch.equal(host.sample(seed=1), expected)


@pytest.mark.hosts("hunyuan_video")
def test_one_policy_serves_two_threads(host: Any, make_host: Any, method: Any) -> None:
    policy, hosts = method(every=2), [host, make_host("hunyuan_video", seed=1)]

    def sample(host: Any) -> Tensor:
        with host.attach(policy):
            return host.sample()

    expected = [sample(host) for host in hosts]
    with ThreadPoolExecutor(2) as pool:
        assert all(torch.equal(a, b) for a, b in zip(expected, pool.map(sample, hosts), strict=True))
