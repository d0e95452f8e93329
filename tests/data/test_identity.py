"""Encoders are known by what they compute, however they were loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from disca.data.identity import VALUES, fingerprint, identities
from tests.data.hosts import HOSTS, tokenizer


@pytest.mark.parametrize(
    "name", ["WanPipeline", "HunyuanVideoPipeline", "WanImageToVideoPipeline", "HunyuanVideo15Pipeline"]
)
def test_saving_loading_and_rounding_change_no_identity(name: str, tmp_path: Path) -> None:
    pipe = HOSTS[name]()
    before = identities(pipe)
    assert {"vae", "text_encoder", "tokenizer"} <= set(before)
    pipe.save_pretrained(tmp_path)
    for dtype in (torch.float32, torch.bfloat16):
        assert identities(type(pipe).from_pretrained(tmp_path, torch_dtype=dtype)) == before


def test_any_trained_tensor_changes_the_fingerprint() -> None:
    encoder = HOSTS["WanPipeline"]().text_encoder
    seen = {fingerprint(encoder)}
    for parameter in encoder.parameters():
        with torch.no_grad():
            parameter.mul_(1.02)
        seen.add(fingerprint(encoder))
    assert len(seen) == 1 + len(list(encoder.parameters()))


def test_large_tensors_are_seen_to_their_end() -> None:
    layer: Any = torch.nn.Linear(VALUES, 5)
    before = fingerprint(layer)
    with torch.no_grad():
        layer.weight[-1] += 1
    assert fingerprint(layer) != before


def test_configuration_and_vocabulary_count() -> None:
    pipe = HOSTS["WanPipeline"]()
    before = identities(pipe)
    pipe.vae.register_to_config(latents_mean=[0.0, 0.0, 0.0, 0.0])
    pipe.tokenizer = tokenizer("other {}")
    after = identities(pipe)
    assert [name for name in before if before[name] != after[name]] == ["vae", "tokenizer"]
    assert before["vae"].difference(after["vae"]).startswith("config ")
