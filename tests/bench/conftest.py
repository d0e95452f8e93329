"""A tiny untrained pipeline of the lab as a model of the bench, and its grids."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from disca.bench.grid import Grid, ModelEntry
from disca.bench.models import Model
from disca.lab.build import pipeline
from disca.lab.pipeline import LabPipeline
from tests.lab.conftest import TINY

PROMPTS = ("a red seven drifting left", "a blue three bouncing up", "a green one drifting right")


def tiny_pipe() -> LabPipeline:
    """Random weights, none of them zero."""
    pipe = pipeline(TINY, seed=0)
    generator = torch.Generator().manual_seed(0)
    for parameter in pipe.transformer.parameters():
        parameter.data.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make_grid(**changes: Any) -> Grid:
    """One model at 4 steps, three clips."""
    entry = ModelEntry(name="tiny", source="tiny", steps=(4,), call={"guidance_scale": 1.0})
    return replace(Grid(models=(entry,), prompts=PROMPTS, batch=2, rivals=("euler",)), **changes)


@pytest.fixture
def model() -> Model:
    return Model(pipe=tiny_pipe(), call={"guidance_scale": 1.0})
