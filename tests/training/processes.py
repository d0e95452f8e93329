"""Twenty iterations of every stage, in as many processes as torchrun started, by one engine; prints the losses.

torchrun --nproc-per-node 2 processes.py ENGINE START_FOLDER OUTPUT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from disca.training.loop import Loop
from disca.training.recipe import Optimiser, Recipe
from disca.training.shard import processes, share
from disca.training.stages import STAGES
from tests.training.conftest import TinySource

ITERATIONS = 20
PREDICTOR: dict[str, Any] = {"tokens": 0.1, "matching": 1.0, "adversarial": 1.0, "alone": 5, "width": 16}
RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "guidance": ("guidance", "base", {}),
    "mean_flow": ("mean_flow", "distilled", {"target": "difference", "restricted_share": 0.5}),
    "predictor": ("predictor", "student", {}),
    "adversarial": ("predictor", "student", PREDICTOR),
}


def losses(name: str, engine: str, models: Path, output: Path) -> list[float]:
    """Of a run of one stage, ITERATIONS long; it ends with a checkpoint, an export and a validation."""
    stage, start, options = RUNS[name]
    settings = Recipe(
        name=name,
        stage=stage,
        source="tests",
        start=str(models / start),
        iterations=ITERATIONS,
        batch=8,
        microbatch=4,
        log_every=1,
        validate_every=ITERATIONS,
        engine=engine,  # type: ignore[arg-type]
        optimiser=Optimiser(lr=1e-3, warmup=2),
        trackers=(),
    )
    mine = Recipe(**{**vars(settings), "batch": share(8, 4)[0]})
    loop = Loop(settings, STAGES[stage](**options).task(mine, TinySource()), output)
    output.mkdir(parents=True, exist_ok=True)
    loop.run()
    assert (output / "final").is_dir()
    if not processes().is_main_process:
        return []
    rows = map(json.loads, (output / "log.jsonl").read_text().splitlines())
    return [row["mse"] for row in rows if "mse" in row]


def main() -> None:
    engine, models, output = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    found = {name: losses(name, engine, models, output / name) for name in RUNS}
    if processes().is_main_process:
        (output / "losses.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
