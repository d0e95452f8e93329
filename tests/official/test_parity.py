"""What the authors' code computes is what we compute, on the CPU in float32."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.official.golden import MODELS

STEP, LOOP = {"relative": 1e-5, "absolute": 5e-5}, {"relative": 1e-4, "absolute": 5e-4}


Distances = dict[str, dict[str, dict[str, float]]]
"""By model, what was compared, and kind."""


@pytest.fixture(scope="module")
def distances() -> Distances:
    program = Path(__file__).with_name("parity.py")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("model", MODELS)
def test_steps_and_loops_are_those_of_the_authors(model: str, distances: Distances) -> None:
    assert len(distances[model]) == 7
    for what, found in distances[model].items():
        bounds = LOOP if "loop" in what else STEP
        assert all(found[kind] <= bounds[kind] for kind in bounds), f"{model}, {what}: {found}"
