"""Law 1: computing every step leaves the output identical, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.writers import two_of_each


def test_computing_every_step_changes_no_bit(host: Any, method: Any) -> None:
    plain = host.sample(batch=2)
    with host.attach(method(every=1)):
        assert torch.equal(host.sample(batch=2), plain)


def test_measuring_changes_no_bit(host: Any) -> None:
    plain = host.sample()
    for nothing in (None, ()):
        with host.attach(nothing) as run:
            assert torch.equal(host.sample(), plain)
        assert run.summary().transformer_evaluations == 4 * host.branches
        assert run.summary().bytes_held == 0


@pytest.mark.hosts("HunyuanVideoPipeline", "WanPipeline", "CogVideoXPipeline/DDIM", "MochiPipeline", "FluxPipeline")
def test_computing_every_step_changes_no_bit_in_bfloat16(host: Any, method: Any) -> None:
    """The host receives its own rounded timestep, whatever the run reads off the scheduler."""
    host.transformer.to(torch.bfloat16)
    plain = host.sample()
    with host.attach(method(every=1)):
        assert torch.equal(host.sample(), plain)


def test_a_forecast_is_another_output(host: Any, method: Any) -> None:
    """Without this, law 1 would hold for a library that does nothing."""
    plain = host.sample()
    with host.attach(method(every=2)):
        assert not torch.allclose(host.sample(), plain)


@pytest.mark.hosts(
    "HunyuanVideoPipeline",
    "WanPipeline",
    "WanPipeline/two_experts",
    "AnyFlowPipeline",
    "LTXPipeline",
    "MochiPipeline",
    "FluxPipeline",
)
def test_several_videos_of_a_prompt_change_nothing(host: Any, method: Any) -> None:
    plain = two_of_each(host.sample)
    assert len(plain) == 4
    with host.attach(method(every=1)):
        assert torch.equal(two_of_each(host.sample), plain)
    with host.attach(method(every=2)) as run:
        assert not torch.allclose(two_of_each(host.sample), plain)
    assert run.summary().transformer_evaluations == len(host.full((0, 2))) * host.branches


@pytest.mark.hosts("HunyuanVideo15ImageToVideoPipeline", "QwenImagePipeline")
def test_several_videos_of_an_embedding_change_nothing(host: Any, method: Any) -> None:
    copies = {"num_images_per_prompt" if "Qwen" in type(host.target).__name__ else "num_videos_per_prompt": 2}
    plain = host.sample(batch=2, **copies)
    assert len(plain) == 4
    with host.attach(method(every=1)):
        assert torch.equal(host.sample(batch=2, **copies), plain)
