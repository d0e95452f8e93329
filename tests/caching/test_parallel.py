"""Context parallelism: each rank caches and forecasts its own shard of the tokens."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
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
    assert set(found) == {"disca", "taylor", "repeat_change"}
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
