"""The packaged weights: strict, complete, small, and what they are for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from disca.caching.methods import disca, reuse
from disca.caching.run import attach
from disca.lab import weights
from disca.lab.measure import GUIDANCE, held_out
from disca.lab.show import FULL_STEPS, STEPS
from disca.metrics.fidelity import relative_l2

MEGABYTE = 1_000_000


def test_all_of_them_together_stay_small_and_say_how_they_were_made() -> None:
    files = [file for file in weights.FOLDER.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 40 * MEGABYTE
    assert not {file.suffix for file in files} - {".json", ".safetensors", ".md"}
    for stage in (*weights.PARTS, "predictor", "judge"):
        about = json.loads((weights.FOLDER / stage / "training.json").read_text())
        assert {"recipe", "validation", "versions", "hardware", "command", "date"} <= set(about)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(weights.FOLDER, tmp_path / "trained"))


def test_missing_and_damaged_weights_are_named(copy: Path) -> None:
    with pytest.raises(ValueError, match="Did you mean 'student'"):
        weights.pipeline("students")
    file = next((copy / "distilled" / "transformer").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="distilled/transformer are damaged"):
        weights.pipeline("distilled", folder=copy)
    shutil.rmtree(copy / "predictor")
    with pytest.raises(FileNotFoundError, match="no trained/predictor"):
        weights.predictor(folder=copy.parent / "trained")


def test_a_weight_too_few_is_refused(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = next((copy / "student" / "transformer").glob("*.safetensors"))
    state = load_file(file)
    state.pop("proj_out.bias")
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"proj_out\.bias"):
        weights.pipeline("student", folder=copy)


def test_the_predictor_is_closer_to_the_full_run_than_reuse() -> None:
    """On a few held-out prompts; the records hold the claim with its interval."""
    pipe, pairs = weights.pipeline("student"), held_out(8, 5)

    def latents(policy: object) -> torch.Tensor:
        with attach(pipe, policy):
            return pipe(
                pairs.prompts,
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE,
                generator=pairs.generators(),
                output_type="latent",
            ).frames

    full = latents(())
    errors = [
        relative_l2(latents(policy), full).mean()
        for policy in (disca(weights.predictor(), full_steps=FULL_STEPS), reuse(full_steps=FULL_STEPS))
    ]
    assert errors[0] < errors[1]
