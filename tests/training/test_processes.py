"""Two processes give what one gives at the same global batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.processes import ITERATIONS, RUNS

ROOT = Path(__file__).parents[2]


def losses(engine: str, count: int, models: Path, output: Path) -> dict[str, list[float]]:
    """Of every stage, in that many processes."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    script = [str(ROOT / "tests/training/processes.py"), engine, str(models), str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "src", ROOT)))}
    subprocess.run([*torchrun, *script], check=True, capture_output=True, timeout=500, env=environment)
    return json.loads((output / "losses.json").read_text())


@pytest.mark.long
def test_two_processes_train_as_one_does(chain: dict[str, Path], tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    for name, folder in chain.items():
        (models / name).symlink_to(folder)
    one = losses("ddp", 1, models, tmp_path / "one")
    for engine in ("ddp", "fsdp"):
        two = losses(engine, 2, models, tmp_path / engine)
        for name in RUNS:
            assert len(two[name]) == len(one[name]) == ITERATIONS
            assert two[name] == pytest.approx(one[name], rel=1e-4), (engine, name)
