"""A run that is interrupted in any way goes on as if it had not been."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from disca.training.loop import Loop, checkpoints
from disca.training.train import train

ROOT = Path(__file__).parents[2]
Write = Callable[..., Path]
TENSORS = ("weights", "average", "optimiser")


def same(one: Path, other: Path, *names: str) -> bool:
    """Whether the last checkpoints of two runs hold the same bits."""
    for name in names or TENSORS:
        a, b = (load_file(checkpoints(run)[-1] / f"{name}.safetensors") for run in (one, other))
        if a.keys() != b.keys() or not all(torch.equal(a[key], b[key]) for key in a):
            return False
    return True


def start(path: Path, output: Path, *more: str) -> subprocess.Popen[bytes]:
    """A run in a process of its own, on as many threads as here: sums depend on their number."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT / "src", ROOT)))
    command = [sys.executable, "-m", "disca.cli", "train", str(path), "--output", str(output), "--resume", *more]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def rows_of(output: Path) -> int:
    log = output / "log.jsonl"
    return len(log.read_text().splitlines()) if log.exists() else 0


def wait_for_rows(process: subprocess.Popen[bytes], output: Path, count: int) -> bool:
    """Until the log has so many rows; False where the process ended before."""
    while process.poll() is None:
        if rows_of(output) >= count:
            return True
    return False


@pytest.mark.long
def test_twenty_kills_change_no_bit(recipe: Write, chain: dict[str, Path], tmp_path: Path) -> None:
    """Of the predictor with its discriminator, the run with the most to remember; a kill may fall into a checkpoint."""
    path = recipe("predictor", str(chain["student"]), iterations=400)
    changes = [
        "objective.adversarial=1.0", "objective.alone=10", "objective.width=16", "checkpoint_every=3", "batch=2",
        "validate_every=1000",
    ]  # fmt: skip
    train(path, output=tmp_path / "whole", overrides=changes)
    context = multiprocessing.get_context("forkserver")  # each starts with everything imported
    context.set_forkserver_preload(["disca.training.train", "tests.training.conftest"])
    arguments = {"overrides": changes, "output": tmp_path / "cut", "resume": True}
    chance, kills, cut = random.Random(0), 0, tmp_path / "cut"
    while kills < 20:
        process = context.Process(target=train, args=(path,), kwargs=arguments)
        process.start()
        wanted = rows_of(cut) + chance.randint(0, 14)
        while process.is_alive() and rows_of(cut) < wanted:
            process.join(0.01)
        process.join(0.1 * chance.random())
        assert process.is_alive(), "it should be at work still"
        process.kill()
        process.join()
        kills += 1
    assert 0 < int(checkpoints(cut)[-1].name) < 400
    train(path, **arguments)
    assert same(tmp_path / "whole", cut, *TENSORS, "critic")


def test_a_run_that_is_told_to_stop_saves_and_goes_on_exactly(recipe: Write, tmp_path: Path) -> None:
    path = recipe("flow_matching", iterations=60)
    changes = ["checkpoint_every=0"]
    train(path, output=tmp_path / "whole", overrides=changes)
    process = start(path, tmp_path / "cut", "--set", *changes)
    assert wait_for_rows(process, tmp_path / "cut", 2)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and b"--resume" in said
    assert 0 < int(checkpoints(tmp_path / "cut")[-1].name) < 60
    train(path, output=tmp_path / "cut", overrides=changes, resume=True)
    assert same(tmp_path / "whole", tmp_path / "cut")


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes: what a full disk does, without filling one."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def test_a_full_disk_leaves_the_last_checkpoint_and_training_goes_on(
    recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save = Loop.save

    def on_a_full_disk(self: Loop) -> None:
        if self.iteration != 4:
            return save(self)
        with files_at_most(10_000):
            return save(self)

    path = recipe("flow_matching", iterations=6)
    monkeypatch.setattr(Loop, "save", on_a_full_disk)
    train(path, output=tmp_path / "run")
    said = "".join(capsys.readouterr().out.split())
    assert "couldnotbewritten" in said and "000002,isintact" in said and "Freesomespace" in said, said
    folder = tmp_path / "run" / "checkpoints"
    assert sorted(found.name for found in folder.iterdir()) == ["000002", "000006"]
    monkeypatch.undo()
    train(path, output=tmp_path / "whole")
    assert same(tmp_path / "whole", tmp_path / "run")


def test_a_full_disk_at_the_end_is_an_error(recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = Loop.save

    def on_a_full_disk(self: Loop) -> None:
        with files_at_most(10_000):
            return save(self)

    monkeypatch.setattr(Loop, "save", on_a_full_disk)
    with pytest.raises(OSError, match="There is none yet"):
        train(recipe("flow_matching", iterations=2), output=tmp_path / "run")


def test_steps_that_are_not_finite_are_skipped_and_too_many_stop_the_run(
    recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.training.conftest import TinySource

    batch = TinySource.batch
    bad: set[int] = {2, 3}

    def spoilt(self: TinySource, size: int, generator: torch.Generator) -> tuple[list[str], torch.Tensor]:
        number = generator.initial_seed()
        texts, latents = batch(self, size, generator)
        return texts, latents * float("nan") if number in bad else latents

    monkeypatch.setattr(TinySource, "batch", spoilt)
    path = recipe("flow_matching", iterations=6)
    train(path, output=tmp_path / "run", overrides=["patience=3"])
    rows = [json.loads(row) for row in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows if "skipped" in row] == [3, 4]
    assert all(
        value.isfinite().all()
        for value in load_file(checkpoints(tmp_path / "run")[-1] / "weights.safetensors").values()
    )
    bad |= {4}
    with pytest.raises(ValueError, match=r"3 times in a row, up to iteration 5.*000004"):
        train(path, output=tmp_path / "bad", overrides=["patience=3"])
    evidence = json.loads((tmp_path / "bad" / "not_finite.json").read_text())
    assert "nan" in evidence["samples"][0]["mse"]
    kept = load_file(checkpoints(tmp_path / "bad")[-1] / "weights.safetensors")
    assert all(value.isfinite().all() for value in kept.values())
