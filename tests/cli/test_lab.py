"""The lab from the command line, with the weights that come with the package."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from disca import trajectories
from disca.cli import main
from disca.records import read
from disca.report.clips import read_images

ROOT = Path(__file__).parents[2]
ROWS = ["base_50", "distilled_50", "base_8", "student_8", "disca_8_4", "reuse_8_4", "taylor_8_4"]


def test_a_clip_is_sampled_and_equal_seeds_give_equal_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / name for name in ("a.gif", "b.gif", "c.gif")]
    for file, seed in zip(files, ("1", "1", "2"), strict=True):
        assert main(["sample", "a blue three bouncing up", "--seed", seed, "--output", str(file)]) == 0
    a, b, c = (file.read_bytes() for file in files)
    assert a == b != c
    assert read_images(files[0])[0].shape[0] == 8
    assert "4 transformer evaluations, 4 forecasts" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["a purple seven drifting left"], "'purple'"),
        (["a red seven drifting left", "--policy", "tailor"], "Did you mean 'taylor'"),
        (["a red seven drifting left", "--model", "labb"], "Did you mean 'lab'"),
        (["a red seven drifting left", "--steps", "4", "--full-steps", "0", "6"], "6"),
        (["a red seven drifting left", "--steps", "4", "--full-steps", "1", "2"], "0"),
        (["a red seven drifting left", "--output", "clip.bmp"], ".gif"),
        (["three", "--output", "new/folder/clip.gif"], "COLOUR"),
    ],
)
def test_a_bad_wish_is_one_clear_line(
    args: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sample", *args]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_the_quickstart_writes_records_clips_and_a_page(tmp_path: Path) -> None:
    assert main(["lab", "show", "--prompts", "6", "--output", str(tmp_path)]) == 0
    rows = read(tmp_path / "records.jsonl")
    assert [row.name for row in rows] == ROWS
    by_name = {row.name: row for row in rows}
    assert by_name["base_50"].transformer_evaluations == 100 and by_name["disca_8_4"].transformer_evaluations == 4
    assert by_name["disca_8_4"].full_steps == (0, 2, 5, 7)
    assert all(row.seconds and row.speedup and row.flops and row.semantic_accuracy is not None for row in rows)
    assert all(row.relative_l2 is not None and row.reference == "student_8" for row in rows if row.name != "student_8")
    assert len(list((tmp_path / "clips").glob("*.gif"))) == 6 * len(ROWS)
    (paths,) = trajectories.read(tmp_path)
    assert [run.name for run in paths.runs] == ["student_8", "disca_8_4", "reuse_8_4", "taylor_8_4"]
    assert [step for step, full in enumerate(paths.runs[1].full) if full] == [0, 2, 5, 7]
    page = (tmp_path / "index.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page
    assert not [file for file in tmp_path.rglob("*") if "draft" in file.name or file.suffix == ".tmp"]


@pytest.mark.long
def test_a_killed_training_resumes_exactly(tmp_path: Path) -> None:
    """SIGKILL in the middle, then --resume: the weights of an undisturbed run."""
    common = ["iterations=12", "batch=4", "compile=false", "checkpoint_every=2", "validate_every=100", "log_every=1"]
    command = [sys.executable, "-m", "disca.cli", "train", str(ROOT / "recipes" / "lab_judge.toml")]
    command += [word for change in common for word in ("--set", change)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run([*command, "--output", str(whole)], check=True, env=environment, capture_output=True)
    running = subprocess.Popen([*command, "--output", str(cut)], env=environment, stdout=subprocess.DEVNULL)
    while not (cut / "checkpoints" / "000004" / "state.json").is_file():
        assert running.poll() is None, "the run ended before it could be killed"
    running.send_signal(signal.SIGKILL)
    running.wait()
    subprocess.run([*command, "--output", str(cut), "--resume"], check=True, env=environment, capture_output=True)
    name = "checkpoints/000012/weights.safetensors"
    assert (whole / name).read_bytes() == (cut / name).read_bytes()
    rows = [
        [json.loads(row)["iteration"] for row in (run / "log.jsonl").read_text().splitlines()] for run in (whole, cut)
    ]
    assert rows[0] == rows[1]
