"""A bundle's model card says what the bundle's files say, and no more."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch import nn

import disca
from disca import records
from disca.bundle import Bundle
from disca.bundle.card import CARD, Facts, card, write_card
from disca.bundle.hub import upload
from disca.cli import main
from disca.lab import bundle as lab
from disca.records import Record


@pytest.fixture(scope="module")
def lab_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lab.bundle().save_pretrained(tmp_path_factory.mktemp("lab") / "lab-bundle")


ROW = Record(
    name="disca_8_4", steps=8, full_steps=(0, 2, 4, 7), transformer_evaluations=4, seconds=0.014, speedup=2.5,
    speedup_over="bundle_8", reference="bundle_8", psnr=39.7, relative_l2=0.047, semantic_accuracy=0.967,
    intervals={"psnr": (39.2, 40.3)}, prompts=("a", "b"), seeds=(0, 1), versions={"torch": "2.13.0"},
    hardware={"cpu": "a processor", "cores": 2}, command="disca bench --bundle lab-bundle", date="2026-11-24",
)  # fmt: skip


def front(text: str) -> dict[str, Any]:
    matter = re.match(r"---\n(.*?)---\n", text, re.DOTALL)
    assert matter
    return yaml.safe_load(matter[1])


def test_the_card_of_the_lab_s_bundle_is_its_records(lab_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(lab_bundle, tmp_path / "lab-bundle"))
    records.write(folder / "records.jsonl", [ROW])
    text = write_card(folder).read_text()
    assert text == (folder / CARD).read_text()
    assert front(text) == {
        "library_name": "disca",
        "license": "apache-2.0",
        "pipeline_tag": "text-to-video",
        "tags": [
            "diffusers",
            "disca",
            "feature-caching",
            "distillation",
            "mean-flow",
            "HunyuanVideoTransformer3DModel",
        ],
    }  # its base is words, and no model of the hub
    loaded = Bundle.from_pretrained(folder)
    for part in ("student", "second_time", "predictor"):
        count = sum(parameter.numel() for parameter in getattr(loaded, part).parameters())
        assert re.search(rf"\*\*{part}\*\*: .*; {count:,} parameters", text)
    assert "8 steps with 0 2 5 7 in full" in text and "num_inference_steps=8" in text
    for name in ("student", "predictor"):
        about = json.loads((folder / "training" / f"{name}.json").read_text())
        assert f"**{name}**: recipe `{about['recipe']['name']}`" in text and about["date"] in text
        assert f"iterations {about['recipe']['iterations']}" in text
        for measure, value in about["validation"].items():
            assert f"{measure} {value:.4g}" in text
    assert "| disca_8_4 | 8 | 4 | 0.014 | 2.5× | 39.7 (39.2–40.3) | 0.047 | 0.967 |" in text
    for words in ("2 clips", "over `bundle_8`", "a processor, 2 cores, torch 2.13.0, 2026-11-24", ROW.command):
        assert words in text
    assert "latents 4 x 4 x 4" in text and "licence of the base: apache-2.0" in text


def test_a_bundle_without_records_says_so(hunyuan: nn.Module, tmp_path: Path) -> None:
    folder = Bundle.for_host(hunyuan).save_pretrained(tmp_path / "bare")
    text = card(Facts.of(folder))
    assert set(front(text)) == {"library_name", "pipeline_tag", "tags"}
    for words in (
        "a base that the bundle does not name",
        "It has no parts",
        "does not record how it was trained",
        "neither speed nor quality is known",
        "does not record which resolution",
        "does not record the licence",
        "No speed was recorded",
    ):
        assert words in text
    numbers = set(re.findall(r"\d[\d,.]*\d", text.partition("---\n\n")[2]))
    assert numbers == {"2602.05449", f"{sum(p.numel() for p in hunyuan.parameters()):,}"}


@pytest.mark.parametrize(
    ("base", "licence", "wanted"),
    [
        ("Wan-AI/Wan2.1", "Apache-2.0", {"base_model": "Wan-AI/Wan2.1", "license": "apache-2.0"}),
        ("the I2V one", "Tencent Hunyuan License", {"license": "other", "license_name": "tencent-hunyuan-license"}),
    ],
)
def test_base_and_licence_are_as_the_hub_has_them(
    base: str, licence: str, wanted: dict[str, str], hunyuan: nn.Module, tmp_path: Path
) -> None:
    folder = Bundle.for_host(hunyuan, base=base, licence=licence).save_pretrained(tmp_path / "b")
    text = card(Facts.of(folder))
    matter = front(text)
    assert {name: matter.get(name) for name in wanted} == wanted and licence in text
    assert matter["pipeline_tag"] == ("image-to-video" if "I2V" in base else "text-to-video")


def test_records_and_training_stay_with_a_bundle(hunyuan: nn.Module, tmp_path: Path) -> None:
    about = {"recipe": {"name": "mine"}}
    one = Bundle.for_host(hunyuan, training={"student": about}, records=(ROW,))
    again = Bundle.from_pretrained(one.save_pretrained(tmp_path / "one"))
    assert again.training == {"student": about} and again.records == (ROW,)
    own = Bundle.for_host(hunyuan).save_pretrained(tmp_path / "two")
    (own / "training.json").write_text(json.dumps(about))  # as disca train leaves it
    assert Bundle.from_pretrained(own).training == {"student": about}
    (own / "training.json").write_text("{")
    with pytest.raises(ValueError, match=r"training\.json cannot be read"):
        Bundle.from_pretrained(own)


class LocalHub:
    """A hub in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: dict[str, bool] = {}

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> str:
        self.made[repo_id] = private
        return f"https://hub/{repo_id}"

    def upload_folder(
        self, *, repo_id: str, folder_path: Path, commit_message: str, ignore_patterns: list[str]
    ) -> None:
        shutil.copytree(folder_path, self.folder / repo_id)


def test_what_is_pushed_is_the_bundle_with_its_card(hunyuan: nn.Module, tmp_path: Path) -> None:
    hub = LocalHub(tmp_path)
    student = replace(Bundle.for_host(hunyuan, licence="mit"), student=hunyuan)
    assert student.push_to_hub("me/mine", api=hub) == "https://hub/me/mine"
    assert hub.made == {"me/mine": True}
    text = (tmp_path / "me/mine" / CARD).read_text()
    assert text.splitlines()[text.splitlines().index("# mine")] and 'from_pretrained("me/mine")' in text
    assert isinstance(Bundle.from_pretrained(tmp_path / "me/mine").student, type(hunyuan))
    bare = Bundle.for_host(hunyuan).save_pretrained(tmp_path / "bare")
    with pytest.raises(ValueError, match="disca card"):
        upload(bare, "me/other", api=hub)


def test_the_command_shows_the_card_and_keeps_records(
    hunyuan: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = disca.Bundle.for_host(hunyuan).save_pretrained(tmp_path / "mine")
    rows = tmp_path / "rows.jsonl"
    records.write(rows, [ROW])
    assert main(["card", str(folder), "--records", str(rows)]) == 0
    assert "| disca_8_4 |" in capsys.readouterr().out
    assert records.read(folder / "records.jsonl") == [ROW] and "| disca_8_4 |" in (folder / CARD).read_text()
    assert main(["card", str(tmp_path), "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and "is no whole bundle" in captured.err
