"""Training resumes exactly, and nothing is half-written."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from disca.training.loop import checkpoints, rate
from disca.training.recipe import Optimiser
from disca.training.train import train

Write = Callable[..., Path]


def weights(run: Path, name: str = "weights") -> dict[str, torch.Tensor]:
    return load_file(checkpoints(run)[-1] / f"{name}.safetensors")


def test_an_interrupted_run_resumes_exactly(recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = recipe("flow_matching", iterations=5)
    train(path, output=tmp_path / "whole")

    from disca.training.loop import Loop

    step = Loop._step

    def interrupted(self: Loop) -> dict[str, float]:
        if self.iteration == 3:
            raise KeyboardInterrupt
        return step(self)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Loop, "_step", interrupted)
        train(path, output=tmp_path / "cut")
    assert [folder.name for folder in checkpoints(tmp_path / "cut")] == ["000002"]
    train(path, output=tmp_path / "cut", resume=True)
    for name in ("weights", "average", "optimiser"):
        whole, cut = weights(tmp_path / "whole", name), weights(tmp_path / "cut", name)
        assert whole.keys() == cut.keys() and all(torch.equal(whole[key], cut[key]) for key in whole)
    logs = [
        [json.loads(row) for row in (tmp_path / run / "log.jsonl").read_text().splitlines()] for run in ("whole", "cut")
    ]
    assert [row["mse"] for row in logs[0] if "mse" in row] == [row["mse"] for row in logs[1] if "mse" in row]


def test_the_same_recipe_gives_the_same_weights_and_another_seed_others(recipe: Write, tmp_path: Path) -> None:
    path = recipe("flow_matching", iterations=2)
    for run, changes in (("a", []), ("b", []), ("c", ["seed=5"])):
        train(path, output=tmp_path / run, overrides=changes)
    a, b, c = (weights(tmp_path / run) for run in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert any(not torch.equal(a[key], c[key]) for key in a)


def test_a_run_is_not_overwritten_and_another_recipe_does_not_resume(recipe: Write, tmp_path: Path) -> None:
    path = recipe("flow_matching", iterations=2)
    final = train(path, output=tmp_path / "run")
    with pytest.raises(ValueError, match="--resume"):
        train(path, output=tmp_path / "run")
    with pytest.raises(ValueError, match="batch differ"):
        train(path, output=tmp_path / "run", resume=True, overrides=["batch=2"])
    about = json.loads((final / "training.json").read_text())
    assert about["recipe"]["objective"]["dropped"] == 0.1  # defaults are resolved
    assert about["versions"]["torch"] and about["processes"] == 1


def test_an_unfinished_checkpoint_is_not_resumed_from(recipe: Write, tmp_path: Path) -> None:
    path = recipe("flow_matching", iterations=2)
    train(path, output=tmp_path / "run")
    draft = tmp_path / "run" / "checkpoints" / "000009.draft"
    draft.mkdir()
    (draft / "state.json").write_text("{}")
    (tmp_path / "run" / "checkpoints" / "000007").mkdir()  # without its last file
    assert [folder.name for folder in checkpoints(tmp_path / "run")] == ["000002"]


def test_the_rate_rises_holds_and_falls() -> None:
    settings = Optimiser(lr=1.0, warmup=10, hold=0.5, floor=0.1)
    rates = [rate(settings, iteration, 100) for iteration in range(101)]
    assert rates[0] == 0.1 and rates[9:51] == [1.0] * 42
    assert all(a >= b for a, b in pairwise(rates[50:])) and rates[100] == pytest.approx(0.1)


def test_a_loss_that_is_not_finite_stops_the_run(recipe: Write, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"optimiser\.lr"):
        train(recipe("flow_matching"), output=tmp_path / "run", overrides=["optimiser.lr=1e30", "iterations=20"])
