"""Context parallelism: each rank caches and forecasts its own shard of the tokens."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.hooks import ModelHook
from torch import nn

import disca
from disca import hooks


@pytest.mark.long
def test_two_ranks_give_what_one_gives() -> None:
    program = Path(__file__).with_name("two_ranks.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    named = {"disca", "disca/all", "taylor", "repeat_change", "fora", "teacache", "first_block_cache", "budgeted"}
    assert named == set(found)
    for name, values in found.items():
        assert values["error"] <= 1e-5, name
        assert values["share"] == 0.5, name


def test_a_predictor_attends_as_its_host_does_while_attached(hunyuan: nn.Module) -> None:
    predictor = disca.Predictor.from_host(hunyuan)
    hunyuan.set_attention_backend("native")
    own, copied = (next(hooks._processors(network)) for network in (hunyuan, predictor))
    assert copied._attention_backend != own._attention_backend
    before = copied._attention_backend
    with disca.attach(hunyuan, disca.disca(predictor, every=2), timesteps=[1000.0, 500.0]):
        assert copied._attention_backend == own._attention_backend
    assert copied._attention_backend == before


def test_a_predictor_follows_the_device_of_its_inputs(hunyuan: nn.Module) -> None:
    with torch.device("meta"):
        features = (torch.empty(1, 12, 32), torch.empty(1, 6, 32))
        conditioning = {"temb": torch.empty(1, 32), "attention_mask": None, "freqs_cis": None}
    predictor = disca.Predictor.from_host(hunyuan)
    hidden, _ = predictor(features, features, conditioning)
    assert hidden.is_meta and predictor.device.type == "meta"


def test_plans_that_split_at_several_blocks_are_refused(hunyuan: nn.Module) -> None:
    hooks.install(hunyuan.single_transformer_blocks[0], ModelHook(), f"{hooks.SPLITS}single_transformer_blocks.*")
    with pytest.raises(ValueError, match="splits inputs of several blocks"):
        disca.attach(hunyuan, disca.reuse(every=2), timesteps=[1000.0, 500.0])
    assert not hooks.is_installed(hunyuan, "disca_run")
    assert type(hunyuan.transformer_blocks) is nn.ModuleList


def test_a_plan_that_comes_while_attached_is_refused(hunyuan: nn.Module, make_inputs: Any) -> None:
    inputs = make_inputs(hunyuan)
    with disca.attach(hunyuan, disca.reuse(every=2), timesteps=[1000.0, 500.0]):
        hooks.install(hunyuan.transformer_blocks[0], ModelHook(), f"{hooks.SPLITS}transformer_blocks.0")
        with pytest.raises(RuntimeError, match="Enable it before attaching"):
            hunyuan(timestep=torch.tensor([1000.0]), **inputs)
