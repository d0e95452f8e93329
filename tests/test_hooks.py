"""Hooks: installed and removed in any order, without a trace."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.hooks.hooks import HookRegistry, ModelHook
from torch import nn

from disca import hooks


class Add(ModelHook):
    def __init__(self, amount: float) -> None:
        super().__init__()
        self.amount = amount

    def post_forward(self, module: nn.Module, output: Any) -> Any:
        return output + self.amount


@pytest.fixture
def module() -> nn.Module:
    return nn.Sequential(nn.Identity(), nn.Identity())


def test_a_removed_hook_leaves_no_trace(module: nn.Module) -> None:
    before = dict(vars(module))
    hooks.install(module, Add(1), "one")
    assert hooks.is_installed(module, "one")
    assert module(torch.zeros(())) == 1
    hooks.remove(module, "one")
    assert vars(module) == before
    assert not hooks.is_installed(module, "one")


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
def test_hooks_go_in_any_order(module: nn.Module, order: tuple[str, str]) -> None:
    before = dict(vars(module))
    hooks.install(module, Add(1), "one")
    hooks.install(module, Add(2), "two")
    assert module(torch.zeros(())) == 3
    hooks.remove(module, order[0])
    assert module(torch.zeros(())) == {"one": 2, "two": 1}[order[0]]
    hooks.remove(module, order[1])
    assert vars(module) == before


def test_a_registry_that_was_there_stays(module: nn.Module) -> None:
    registry = HookRegistry.check_if_exists_or_initialize(module)
    hooks.install(module, Add(1), "one")
    hooks.remove(module, "one")
    assert module._diffusers_hook is registry
    assert "forward" not in vars(module)


def test_a_forward_that_was_there_stays(module: nn.Module) -> None:
    module.forward = lambda x: x + 10
    before = dict(vars(module))
    hooks.install(module, Add(1), "one")
    assert module(torch.zeros(())) == 11
    hooks.remove(module, "one")
    assert vars(module) == before


def test_removing_what_is_not_there_does_nothing(module: nn.Module) -> None:
    before = dict(vars(module))
    hooks.remove(module, "one")
    assert vars(module) == before


class Calls:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def before(self, arguments: Any, branch: str | None) -> dict[str, Any]:
        self.seen.append((float(arguments["timestep"][0]), branch))
        return {}

    def after(self) -> None:
        self.seen.append("after")

    def reset(self) -> None:
        self.seen.append("reset")


@pytest.mark.parametrize("by_keyword", [True, False])
def test_the_watch_tells_timestep_and_branch(hunyuan: nn.Module, make_inputs: Any, by_keyword: bool) -> None:
    calls, inputs, timestep = Calls(), make_inputs(hunyuan), torch.tensor([700.0])
    hooks.install(hunyuan, hooks.Watch(calls), "watch")

    def call() -> None:
        if by_keyword:
            hunyuan(timestep=timestep, **inputs)
        else:
            hunyuan(inputs.pop("hidden_states"), timestep, **inputs)

    with torch.no_grad(), hunyuan.cache_context("cond"):
        call()
    hunyuan._reset_stateful_cache()
    inputs = make_inputs(hunyuan)
    with torch.no_grad():
        call()
    assert calls.seen == [(700.0, "cond"), "after", "reset", (700.0, None), "after"]


def test_held_blocks_keep_their_names_and_do_not_run(hunyuan: nn.Module) -> None:
    blocks, keys = list(hunyuan.transformer_blocks), list(hunyuan.state_dict())
    original = hunyuan.transformer_blocks
    hooks.hold(hunyuan, "transformer_blocks", {0: (stand_in := object()), 1: None})
    assert list(hunyuan.transformer_blocks) == [stand_in]
    assert len(hunyuan.transformer_blocks) == len(blocks)
    assert list(hunyuan.transformer_blocks.children()) == blocks
    assert list(hunyuan.transformer_blocks[:1]) == blocks[:1]
    assert hunyuan.transformer_blocks[1] is blocks[1]
    assert list(hunyuan.state_dict()) == keys
    hooks.let_go(hunyuan, "transformer_blocks")
    assert hunyuan.transformer_blocks is original
    assert list(hunyuan.transformer_blocks) == blocks


def test_what_happens_to_held_blocks_stays(hunyuan: nn.Module) -> None:
    hooks.hold(hunyuan, "transformer_blocks", {1: None})
    hunyuan.transformer_blocks[1] = other = nn.Identity()
    hunyuan.train()
    hooks.let_go(hunyuan, "transformer_blocks")
    assert hunyuan.transformer_blocks[1] is other
    assert hunyuan.transformer_blocks.training


def test_blocks_are_held_once(hunyuan: nn.Module) -> None:
    hooks.hold(hunyuan, "transformer_blocks", {1: None})
    with pytest.raises(ValueError, match="held already"):
        hooks.hold(hunyuan, "transformer_blocks", {1: None})
