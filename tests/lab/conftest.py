"""A tiny untrained pipeline of the lab, with every weight redrawn so that nothing is zero."""

from __future__ import annotations

import pytest
import torch

from disca.lab.build import Size, pipeline
from disca.lab.pipeline import LabPipeline

TINY = Size(
    heads=2, head_width=16, dual_blocks=1, single_blocks=2, text_width=16, components=8, shift=3.0, codec_clips=64
)


@pytest.fixture
def pipe() -> LabPipeline:
    made = pipeline(TINY, seed=0)
    generator = torch.Generator().manual_seed(0)
    for parameter in made.transformer.parameters():
        parameter.data.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    made.set_progress_bar_config(disable=True)
    return made
