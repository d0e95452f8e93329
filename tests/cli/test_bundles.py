"""The verbs that make and check bundles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from disca import official
from disca.bundle import Bundle
from disca.cli import main
from tests.official.golden import Golden


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The golden model's dimensions, as diffusers stores them."""
    path = tmp_path / "config.json"
    path.write_text(Golden("hyvideo10_t2v").host().to_json_string())
    return path


def test_official_files_become_a_bundle(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    golden, folder = Golden("hyvideo10_t2v"), tmp_path / "bundle"
    files = ["--transformer", str(golden.folder / "dit.safetensors")]
    files += ["--predictor", str(golden.folder / "predictor.safetensors")]
    assert main(["import", "official-hyvideo10", *files, "--config", str(config), "--output", str(folder)]) == 0
    assert "United Kingdom" in capsys.readouterr().out
    bundle = Bundle.from_pretrained(folder)
    assert bundle.made_for.guidance == 6.0 and [one.steps for one in bundle.schedules] == [20]
    assert bundle.second_time.config.layout == "average"
    assert not any("_r." in name for name in bundle.student.state_dict())
    bundle.second_time.install(bundle.student)
    bundle.second_time.adopt(bundle.student)
    for file, module in (("dit", bundle.student), ("predictor", bundle.predictor)):
        there, back = load_file(golden.folder / f"{file}.safetensors"), official.export(module)
        assert set(there) == set(back) and all(torch.equal(there[name], back[name]) for name in there)


def test_what_cannot_be_imported_says_why(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = ["--output", str(tmp_path / "bundle")]
    pickled = ["--transformer", str(tmp_path / "dit.pt")]
    for arguments, message in (
        (["official-hyvideo11", *pickled], "Did you mean 'official-hyvideo1"),
        (["official-hyvideo10"], "nothing to import"),
        (["official-hyvideo10", *pickled, "--config", str(config)], "unpickling runs"),
        (["official-hyvideo10", *pickled, "--config", str(tmp_path)], "is no config.json"),
    ):
        assert main(["import", *arguments, *output]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


def test_the_lab_s_bundle_is_checked_against_what_was_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "bundle"
    assert main(["lab", "bundle", "--output", str(folder)]) == 0
    check = ["check", "lab-distilled", str(folder), "--json"]
    asked = ["--prompt", "a red seven drifting left", "--seeds", "0"]
    assert main([*check, *asked]) == 2
    assert "--record" in capsys.readouterr().err
    assert main([*check, "--record"]) == 2
    assert "--prompt" in capsys.readouterr().err
    assert main([*check, *asked, "--record"]) == 0
    assert main(check) == main([*check, *asked]) == 0  # the same as recorded, said or not
    first, second, third = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert second == third == {**first, "verdict": "as expected"}
    assert 0 < first["relative_l2"] < first["most"] and first["verdict"] == "recorded"
    assert main([*check, "--steps", "20"]) == 2
    assert "Check the same" in capsys.readouterr().err
    assert main(["describe", str(folder)]) == 0
    assert "8 steps, full 0 2 5 7" in " ".join(capsys.readouterr().out.split())
    stored = json.loads((folder / "bundle.json").read_text())
    stored["measured"]["most"] = 0.5 * first["relative_l2"]
    (folder / "bundle.json").write_text(json.dumps(stored))
    assert main(check) == 1
    assert "beyond" in capsys.readouterr().err
    assert main(["check", "lab-dstilled", str(folder)]) == 2
    assert "Did you mean 'lab-distilled'" in capsys.readouterr().err
