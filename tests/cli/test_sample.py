"""`disca sample --prompts` as people run it: in several processes, and killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from disca.cli import main
from disca.report.clips import read_images

ROOT = Path(__file__).parents[2]
COLOURS = ("red", "blue", "green", "pink", "white", "yellow")


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "src", ROOT))), **more}


def command(prompts: Path, output: Path) -> list[str]:
    given = ["--prompts", str(prompts), "--output", str(output), "--suffix", "gif", "--steps", "4"]
    return ["-m", "disca.cli", "sample", *given]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("".join(f"a {colour} seven drifting left\n" for colour in COLOURS))
    return path


def manifest(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def is_whole(folder: Path) -> bool:
    """All clips there, each of 8 frames, and nothing half-written."""
    names = [f"{number:04d}" for number in range(len(COLOURS))]
    assert sorted(path.name for path in folder.glob("*.gif")) == [f"{name}.gif" for name in names]
    assert not list(folder.rglob(".*.gif"))
    assert [line["name"] for line in manifest(folder)] == names
    return all(read_images(folder / f"{name}.gif")[0].shape[0] == 8 for name in names)


def test_two_processes_share_a_file_without_overlap(prompts: Path, tmp_path: Path) -> None:
    output = tmp_path / "clips"
    processes = [
        subprocess.Popen(
            [sys.executable, *command(prompts, output), "--json", "--quiet"],
            env=environment(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert [err for _, err in said] == ["", ""]
    results = [json.loads(out) for out, _ in said]
    assert [(one["process"], one["sampled"], one["there"]) for one in results] == [(0, 3, 0), (1, 3, 0)]
    assert is_whole(output)
    assert [line["seed"] for line in manifest(output)] == list(range(6))


def test_a_killed_run_goes_on_where_it_was(prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "clips"
    run = subprocess.Popen([sys.executable, *command(prompts, output), "--quiet"], env=environment())
    while len(list((output / "state").glob("*.json"))) < 2:
        assert run.poll() is None, "it ended before it could be killed"
    run.send_signal(signal.SIGKILL)
    run.wait()
    done = {path.stem: (output / f"{path.stem}.gif").stat().st_mtime_ns for path in (output / "state").glob("*.json")}
    assert 2 <= len(done) < len(COLOURS)
    assert main([*command(prompts, output)[2:], "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["there"], result["sampled"]) == (len(done), len(COLOURS) - len(done))
    assert is_whole(output)
    assert {name: (output / f"{name}.gif").stat().st_mtime_ns for name in done} == done


@pytest.mark.long
@pytest.mark.parametrize(
    "launcher",
    [
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
        ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
         "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"],
    ],
    ids=["torchrun", "accelerate"],
)  # fmt: skip
def test_launchers_split_the_work_and_a_failure_cuts_nobody_off(
    launcher: list[str], prompts: Path, tmp_path: Path
) -> None:
    prompts.write_text("a purple one drifting left\n" + prompts.read_text())
    output = tmp_path / "clips"
    done = subprocess.run(
        [sys.executable, *launcher, *command(prompts, output)], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    assert "1 of 7 clips failed, 0000 for one" in " ".join(done.stderr.split())
    assert sum("error" in line for line in manifest(output)) == 1 and len(manifest(output)) == 7
    assert len(list(output.glob("*.gif"))) == 6


def test_a_bundle_samples_on_its_pipeline_and_methods_take_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, prompt = str(tmp_path / "bundle"), "a blue three bouncing up"
    assert main(["lab", "bundle", "--output", bundle, "--quiet"]) == 0
    sampled = {}
    for name, more in {
        "own": [],
        "bundle": ["--model", "lab-distilled", "--bundle", bundle],
        "every": ["--policy", "taylor(every=4, order=1)"],
        "none": ["--policy", "none"],
    }.items():
        path = tmp_path / f"{name}.png"
        assert main(["sample", prompt, *more, "--output", str(path), "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        sampled[name] = (path.read_bytes(), result["full_steps"], result["policy"])
    assert sampled["own"][0] == sampled["bundle"][0] and sampled["own"][1]["cond"] == [0, 2, 5, 7]
    assert (sampled["own"][2], sampled["bundle"][2]) == ("disca", "the bundle's")
    assert sampled["every"][1]["cond"] == [0, 4] and sampled["none"][1]["cond"] == list(range(8))
    assert len({pixels for pixels, _, _ in sampled.values()}) == 3
    assert main(["sample", prompt, "--model", "lab-distilled", "--bundle", bundle, "--steps", "5"]) == 2
    assert "8, 20 steps" in capsys.readouterr().err


def test_a_pipeline_from_a_folder_is_sampled_at_a_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.data.hosts import wan

    folder = tmp_path / "pipe"
    wan().save_pretrained(folder)
    given = ["--model", str(folder), "--steps", "3", "--policy", "reuse(every=2)", "--output", str(tmp_path / "a.gif")]
    assert main(["sample", "a paper boat 🚂", *given, "--size", "32x16x5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shape"] == [5, 3, 16, 32]
    for more, words in (
        (["--size", "big"], "WIDTHxHEIGHTxFRAMES"),
        (["--policy", "tailor"], "Did you mean 'taylor'"),
        (["--steps", "0"], "at least 1"),
        (["--bundle", str(folder)], "is no bundle"),
    ):
        assert main(["sample", "a paper boat", *given, *more]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "Give either a prompt"),
        (["a red one standing still", "--prompts", "p.txt"], "Give either a prompt"),
        (["--prompts", "missing.txt"], "There is no file"),
        (["--prompts", "p.txt", "--output", "clip.mp4"], "--output is a folder"),
        (["a red one standing still", "--seed", "-1"], "--seed"),
        (["a red one standing still", "--fps", "0"], "--fps"),
    ],
)
def test_what_cannot_be_sampled_is_said_before_work(
    args: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sample", *args]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
