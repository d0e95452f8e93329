"""Calibration: constants that are those of the model, thresholds that give the steps that were asked for."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import disca
from disca.bench.calibrate import THRESHOLDS, calibrate, from_calibration, load
from disca.cli import main
from tests.pipelines import PIPELINES, Sampler

PROMPTS = ("one", "another")


@pytest.fixture
def sampler() -> Sampler:
    return Sampler(PIPELINES["WanPipeline"], 0)


def measured(sampler: Sampler, method: str, **options: Any) -> Any:
    wanted = options.pop("wanted", None)
    return calibrate(sampler.pipe, method, lambda i: sampler(steps=6, seed=i), PROMPTS, wanted=wanted, options=options)


def test_ratios_are_those_of_the_changes_of_the_trunk(sampler: Sampler) -> None:
    """Measured another way: by looking at what goes into the blocks and what comes out."""
    blocks = sampler.transformers[0].blocks
    entering, leaving = [], []
    hooks = [
        blocks[0].register_forward_pre_hook(lambda m, args, kw: entering.append((*args, *kw.values())[0]),
        with_kwargs=True), blocks[-1].register_forward_hook(lambda m, args, output: leaving.append(output)),
    ]  # fmt: skip
    sampler(steps=6, seed=0)
    for hook in hooks:
        hook.remove()
    changes = [(after - before).norm(dim=-1) for before, after in zip(entering, leaving, strict=True)][::2]  # of cond
    expected = [1.0, *(float((b / a).mean()) for a, b in itertools.pairwise(changes))]
    found = calibrate(sampler.pipe, "magcache", lambda i: sampler(steps=6, seed=0), PROMPTS[:1])
    assert found.constants["ratios"] == pytest.approx(expected, rel=1e-4)
    assert found.transformer == "WanTransformer3DModel"
    assert len(found.times) == 7 and found.times[0] == pytest.approx(1) and found.times[-1] == 0


def test_the_polynomial_passes_through_what_was_measured(sampler: Sampler) -> None:
    found = calibrate(sampler.pipe, "teacache", lambda i: sampler(steps=6, seed=0), PROMPTS[:1])
    assert len(found.constants["polynomial"]) == 5  # degree 4 through the five changes of one run: exact
    assert found.constants["correlation"] == pytest.approx(1, abs=1e-6)
    low, high = found.constants["range"]
    assert 0 < low < high


@pytest.mark.parametrize("method", THRESHOLDS)
def test_a_threshold_gives_the_steps_that_were_wanted(sampler: Sampler, method: str, tmp_path: Path) -> None:
    limits = {"magcache": {"skips": 4}, "speca": {"fewest": 1, "most": 4, "floor": 0.0}, "easycache": {"warmup": 2}}
    found = measured(sampler, method, wanted=3, **limits.get(method, {}))
    assert found.reached == pytest.approx(3, abs=0.6)
    found.save(tmp_path / "found.json")
    assert load(tmp_path / "found.json").options == found.options
    with disca.attach(sampler.pipe, from_calibration(tmp_path / "found.json")) as run:
        counts = []
        for seed in range(len(PROMPTS)):
            sampler(steps=6, seed=seed)
            counts.append(min(len(branch.full) for branch in run.summary().branches.values()))
    assert sum(counts) / len(counts) == found.reached


def test_another_host_is_refused_and_another_run_warned_of(sampler: Sampler, tmp_path: Path) -> None:
    measured(sampler, "teacache", wanted=3).save(tmp_path / "found.json")
    policy = from_calibration(tmp_path / "found.json")
    stranger = Sampler(PIPELINES["HunyuanVideoPipeline"], 0)
    with pytest.raises(ValueError, match=r"measured on WanTransformer3DModel \(2 blocks\), not on HunyuanVideo"):
        disca.attach(stranger.pipe, policy)
    with disca.attach(sampler.pipe, policy):
        with pytest.warns(UserWarning, match="a run of 6 steps; this has 4"):
            sampler(steps=4)
        sampler.pipe.scheduler.register_to_config(shift=9.0)
        sampler.pipe.scheduler.set_shift(9.0)
        with pytest.warns(UserWarning, match="another shift"):
            sampler(steps=6)
    with disca.attach(sampler.pipe, disca.teacache(threshold=0.1, constants=tmp_path / "found.json")) as run:
        assert run.experts[0].policy[0].when.made_for is not None


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("tecache", {}, "Did you mean 'teacache'"),
        ("fora", {}, "fora has no constants and no threshold"),
        ("easycache", {}, "say how many full steps"),
        ("easycache", {"wanted": 9}, "Of 6 steps, 9 cannot be full"),
        ("speca", {"wanted": 6}, "Of 6 steps, 6 cannot be full: 1 to 2 can"),
        ("magcache", {"wanted": 3}, "magcache needs skips"),
        ("teacache", {"every": 3}, "option of teacache 'every'"),
    ],
)
def test_what_cannot_be_measured_is_refused(sampler: Sampler, method: str, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measured(sampler, method, **options)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="There is no file"):
        disca.teacache(threshold=0.1, constants=tmp_path / "missing.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ValueError, match="is no calibration"):
        disca.teacache(threshold=0.1, constants=tmp_path / "broken.json")
    (tmp_path / "other.json").write_text(json.dumps({"schema": 1, "method": "magcache"}))
    with pytest.raises(ValueError, match="a calibration of magcache"):
        disca.teacache(threshold=0.1, constants=tmp_path / "other.json")


def test_the_command_measures_the_lab(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "magcache.json"
    args = ["calibrate", "magcache", "--model", "lab", "--steps", "4", "--skips", "2", "--wanted", "3"]
    assert main([*args, "--retention", "0", "--output", str(output)]) == 0
    assert "3 of 4 steps are full" in capsys.readouterr().out
    found = json.loads(output.read_text())
    assert found["schema"] == 1 and found["command"] and len(found["ratios"]) == 4
    assert torch.isfinite(torch.tensor(found["ratios"])).all()
