"""A tiny pipeline of the lab's kind, with random weights."""

from __future__ import annotations

import pytest

from disca.bench.models import Model
from tests.bench.conftest import tiny_pipe


@pytest.fixture
def model() -> Model:
    return Model(pipe=tiny_pipe(), call={"guidance_scale": 1.0, "num_inference_steps": 4})
