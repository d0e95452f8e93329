from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import disca
from disca.bench.describe import describe
from disca.cli import main


def count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_numbers_are_those_of_the_real_things(make_hunyuan: Any) -> None:
    host = make_hunyuan()
    found = describe(host)
    assert found.parameters == count(host)
    assert {s.name: (s.blocks, s.parameters) for s in found.stacks} == {
        name: (len(getattr(host, name)), count(getattr(host, name)))
        for name in ("transformer_blocks", "single_transformer_blocks")
    }
    for depth in (1, 2, 3, 4):
        predictor = disca.Predictor.from_host(host, depth=depth)
        assert found.predictors[depth] == count(predictor)
        assert found.share(depth) == pytest.approx(predictor.parameter_share(host))
    assert "time_text_embed.timestep_embedder" in found.second_time


def test_published_models_have_the_published_shares() -> None:
    """Under 4 % for two blocks (arXiv 2602.05449), at full size."""
    import diffusers

    with torch.device("meta"):
        old = diffusers.HunyuanVideoTransformer3DModel(guidance_embeds=True)
        new = diffusers.HunyuanVideo15Transformer3DModel(use_meanflow=True)
    assert describe(old).share(2) == pytest.approx(0.0243, abs=0.0005)
    assert describe(new).share(2) == pytest.approx(0.0393, abs=0.0005)
    assert describe(new).second_time == "its own, timestep_r"


def test_folders_of_every_kind_are_read(make_hunyuan: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = make_hunyuan()
    host.save_pretrained(tmp_path / "pipe" / "transformer")
    disca.Bundle.for_host(host).save_pretrained(tmp_path / "bundle")
    answers = []
    for folder in (tmp_path / "pipe", tmp_path / "pipe" / "transformer", tmp_path / "bundle"):
        assert main(["describe", str(folder), "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[2].pop("bundle")["parts"] == []
    assert answers[0] == answers[1] == answers[2]
    assert answers[0]["parameters"] == count(host)
    assert main(["describe", str(tmp_path / "pipe")]) == 0
    assert "share of the host" in capsys.readouterr().out
    assert main(["describe", str(tmp_path)]) == 2
    assert "no configuration file" in capsys.readouterr().err


def test_a_size_adds_what_steps_cost_and_what_a_schedule_gains(
    make_hunyuan: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_hunyuan().save_pretrained(tmp_path / "transformer")
    asked = [
        "describe",
        str(tmp_path),
        "--size",
        "128x64x9",
        "--steps",
        "4",
        "--full-steps",
        "0",
        "2",
        "--card",
        "h100",
    ]
    assert main([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    outlook, prediction = found["outlook"], found["prediction"]
    full, forecast = (outlook["cost"][name]["flops"] for name in ("full", "forecast"))
    assert outlook["bound"] == pytest.approx(100 * full / (2 * full + 2 * forecast))
    assert outlook["bound_over_stock"] == pytest.approx(outlook["bound"] / 2)
    assert outlook["cost"]["cache_bytes"] == 2 * 32 * sum(outlook["cost"]["tokens"])
    assert prediction["machine"]["derived"]
    run = 2 * (prediction["seconds_full"] + prediction["seconds_forecast"])
    assert prediction["seconds_run"] == pytest.approx(run)
    assert prediction["speedup"] == pytest.approx(100 * prediction["seconds_full"] / run)
    assert main(asked) == 0
    assert "derived from its data sheet, not measured" in " ".join(capsys.readouterr().out.split())


def test_what_cannot_be_predicted_is_refused(
    make_hunyuan: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_hunyuan().save_pretrained(tmp_path)
    for asked, said in ((["--card", "H100"], "give --size too"), (["--size", "100x64x9"], "that 16 divides")):
        assert main(["describe", str(tmp_path), *asked]) == 2
        assert said in " ".join(capsys.readouterr().err.split())
