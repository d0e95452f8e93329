"""The pipeline to rehearse with: any stock pipeline's folder, made without a download."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline, WanPipeline

import disca
from disca.cli import main
from disca.cli.encode import parse_size
from disca.lab.tiny import SIZE, save


def clip(pipe: WanPipeline, prompt: str = "a red boat on a lake") -> torch.Tensor:
    width, height, frames = parse_size(SIZE)
    size = {"width": width, "height": height, "num_frames": frames}
    noise = torch.Generator().manual_seed(0)
    return pipe(prompt, num_inference_steps=4, generator=noise, output_type="latent", **size).frames


def test_it_is_a_stock_pipeline_that_listens_to_its_prompt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "tiny", "--output", str(tmp_path / "model")]) == 0
    assert SIZE in capsys.readouterr().out
    pipe = DiffusionPipeline.from_pretrained(tmp_path / "model", use_safetensors=True)
    pipe.set_progress_bar_config(disable=True)
    assert type(pipe) is WanPipeline
    assert clip(pipe).isfinite().all()
    assert not torch.equal(clip(pipe), clip(pipe, "a dog runs"))
    with disca.attach(pipe, disca.reuse(every=2)) as run:
        assert not torch.equal(clip(pipe), clip(DiffusionPipeline.from_pretrained(tmp_path / "model")))
    assert run.summary().forecasts


def test_seeds_and_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = torch.get_rng_state()
    weights = [
        (save(tmp_path / name, seed=seed) / "transformer" / "diffusion_pytorch_model.safetensors").read_bytes()
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert weights[0] == weights[1] != weights[2]
    assert torch.equal(torch.get_rng_state(), state)
    assert main(["lab", "tiny", "--output", str(tmp_path / "a")]) == 2
    assert "holds something already" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]
