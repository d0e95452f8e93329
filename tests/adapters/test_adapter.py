"""Adapters: what a family's blocks take and give."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from disca.adapters import ADAPTERS, Adapter, adapter_for, describe


def test_hunyuan_video_is_known(hunyuan: nn.Module) -> None:
    adapter = adapter_for(hunyuan)
    assert adapter.blocks(hunyuan) == [*hunyuan.transformer_blocks, *hunyuan.single_transformer_blocks]
    assert isinstance(hunyuan.get_submodule(adapter.time_embedder), nn.Module)


def test_a_class_derived_from_a_known_one_is_known(hunyuan: nn.Module) -> None:
    class Mine(type(hunyuan)):  # type: ignore[misc]
        pass

    assert adapter_for(Mine.__new__(Mine)) is adapter_for(hunyuan)


def test_an_unknown_class_is_told_how_to_become_known(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"No adapter describes Linear\. Known: .*HunyuanVideo.*describe\(Adapter\("):
        adapter_for(nn.Linear(1, 1))
    monkeypatch.setattr("disca.adapters.ADAPTERS", dict(ADAPTERS))
    mine = describe(Adapter(transformer="Linear", stacks=("blocks",)))
    assert adapter_for(nn.Linear(1, 1)) is mine


class Block(nn.Module):
    def forward(self, hidden_states: Any, encoder_hidden_states: Any, temb: Any = None, *args: Any) -> Any:
        return hidden_states, encoder_hidden_states


@pytest.mark.parametrize("by_keyword", [True, False])
def test_arguments_are_bound_however_they_are_passed(by_keyword: bool) -> None:
    adapter = Adapter(transformer="Mine", stacks=("blocks",))
    args: tuple[Any, ...] = () if by_keyword else ("hidden", "context", "temb", 5)
    kwargs = {"temb": "temb", "encoder_hidden_states": "context", "hidden_states": "hidden"} if by_keyword else {}
    takes, beside = adapter.takes(Block()), {"temb": "temb"}  # what the block does not name it ignores
    assert adapter.received(takes, args, kwargs) == (("hidden", "context"), beside)
    args, kwargs = adapter.replace(Block(), args, kwargs, ("H", "C"))
    assert adapter.received(takes, args, kwargs) == (("H", "C"), beside)
    assert bool(kwargs) == by_keyword


def test_a_compiled_block_is_bound_like_the_block() -> None:
    adapter, compiled = Adapter(transformer="Mine", stacks=()), torch.compile(Block(), backend="eager")
    received = adapter.received(adapter.takes(compiled), ("hidden", "context"), {"temb": 1})
    assert received == (("hidden", "context"), {"temb": 1})


@pytest.mark.parametrize(
    ("options", "returned", "features"),
    [
        ({}, ("hidden", "context"), ("hidden", "context")),
        ({"context_first": True}, ("context", "hidden"), ("hidden", "context")),
        ({"context": None}, "hidden", ("hidden",)),
    ],
)
def test_what_blocks_give_is_features_and_back(options: Any, returned: Any, features: Any) -> None:
    adapter = Adapter(transformer="Mine", stacks=("blocks",), **options)
    assert adapter.features(returned) == features
    assert adapter.returned(features) == returned


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"stacks": ("blocks",)}, "blocks are in 'blocks'. ModuleLists there: ('transformer_blocks', "),
        ({"stacks": ("x_embedder",)}, "blocks are in 'x_embedder'"),
        ({"hidden": "x"}, "HunyuanVideoTransformerBlock takes 'x', but it takes ['hidden_states', "),
        ({"context": "text"}, "HunyuanVideoTransformerBlock takes 'text', but it takes"),
        ({"timestep": "sigma"}, "HunyuanVideoTransformer3DModel takes 'sigma', but it takes ['hidden_states', "),
    ],
)
def test_an_adapter_that_says_what_is_not_so_is_refused(hunyuan: nn.Module, changes: Any, said: str) -> None:
    adapter = replace(adapter_for(hunyuan), **changes)
    with pytest.raises(ValueError, match=re.escape(said)):
        adapter.check(hunyuan)
    adapter_for(hunyuan).check(hunyuan)


def test_a_host_without_blocks_is_refused(make_hunyuan: Any) -> None:
    hunyuan = make_hunyuan(num_layers=0, num_single_layers=0)
    with pytest.raises(ValueError, match="has no blocks in"):
        adapter_for(hunyuan).check(hunyuan)


@pytest.mark.parametrize(("context", "returned"), [(None, ("hidden", "context")), ("text", "hidden")])
def test_blocks_that_give_other_streams_are_refused(context: Any, returned: Any) -> None:
    adapter = Adapter(transformer="Mine", stacks=(), context=context)
    with pytest.raises(ValueError, match="Give it context=None where blocks return the video only"):
        adapter.features(returned)
