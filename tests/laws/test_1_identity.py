"""Law 1: computing every step leaves the output identical, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch


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
