"""From real video files to a step of every stage: the whole way on the command line, with real VAE classes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from disca.cli import main
from tests.data.clips import grey, write_video
from tests.data.hosts import HOSTS

STAGES = {
    "guidance": "low = 2.0\nhigh = 2.0\nscale = 2.0",
    "mean_flow": "low = 2.0\nhigh = 2.0\nscale = 2.0\nsteps = [4]",
    "predictor": "low = 2.0\nhigh = 2.0\nscale = 2.0\nsteps = [4]\nfull_steps = [[0, 2]]\nshares = [1.0]",
}


def recipe(folder: Path, stage: str) -> Path:
    path = folder / f"{stage}.toml"
    path.write_text(
        f'name = "tiny"\nstage = "{stage}"\nstart = "{folder / "model"}"\niterations = 1\nbatch = 2\ntrackers = []\n'
        f'[model]\ndata = "{folder / "shards"}"\n[optimiser]\nlr = 1e-3\nwarmup = 1\n[objective]\n{STAGES[stage]}\n'
    )
    return path


@pytest.mark.parametrize(
    "name",
    [
        "WanPipeline",
        "WanImageToVideoPipeline",
        "WanImageToVideoPipeline/expand_timesteps",
        "HunyuanVideoPipeline",
        "HunyuanVideoImageToVideoPipeline/latent_concat",
        "HunyuanVideoImageToVideoPipeline/token_replace",
    ],
)
def test_real_videos_train_every_stage(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = HOSTS[name]
    host().save_pretrained(tmp_path / "model")
    for file, text in {"a.mp4": "a dog runs", "b.webm": "two birds", "c.mov": "a red boat on a lake"}.items():
        write_video(tmp_path / "videos" / file, grey(9))
        (tmp_path / "videos" / file).with_suffix(".txt").write_text(text)
    command = ["encode", str(tmp_path / "videos"), "--model", str(tmp_path / "model")]
    assert main([*command, "--output", str(tmp_path / "shards"), "--size", host.size, "--dtype", "float32"]) == 0
    for stage in STAGES:
        output = tmp_path / "runs" / stage
        assert main(["train", str(recipe(tmp_path, stage)), "--output", str(output)]) == 0, capsys.readouterr().err
        rows = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
        assert any(row.get("mse", 0) > 0 for row in rows), rows
        assert (output / "final").is_dir()
