"""What can be sampled is what the command line named, and no code comes with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from disca.demo.subjects import Shelf, check_no_code, subjects
from disca.lab import weights
from disca.lab.bundle import bundle


def folder(path: Path, **index: object) -> Path:
    path.mkdir(exist_ok=True)
    parts = {"_class_name": "HunyuanVideoPipeline", "transformer": ["diffusers", "HunyuanVideoTransformer3DModel"]}
    (path / "model_index.json").write_text(json.dumps(parts | index))
    return path


def test_the_lab_is_three_stages() -> None:
    found = {one.name: one for one in subjects(("lab",), ())}
    assert list(found) == ["lab-student", "lab-distilled", "lab-base"]
    assert found["lab-student"].methods[0] == "disca" and "disca" not in found["lab-base"].methods
    with pytest.raises(ValueError, match="'purple'"):
        found["lab-base"].check("a purple seven drifting left")


def test_one_model_is_loaded_at_a_time() -> None:
    shelf = Shelf(subjects(("lab-student", "lab-base"), ()))
    student = shelf.load("lab-student")
    assert shelf.load("lab-student") is student
    assert shelf.load("lab-base") is not student and shelf.load("lab-student") is not student
    with pytest.raises(ValueError, match="Unknown model '/etc'"):
        shelf.load("/etc")


def test_names_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model_index\.json"):
        subjects((str(tmp_path),), ())
    with pytest.raises(ValueError, match="Did you mean 'lab-student'"):
        subjects(("lab-studnt",), ())
    (tmp_path / "bundle.json").write_text("{}")
    with pytest.raises(ValueError, match="--bundle"):
        subjects((str(tmp_path),), ())
    with pytest.raises(ValueError, match="is no bundle"):
        subjects(("lab",), (tmp_path / "nothing",))
    twice = [str(folder(place / "one")) for place in (tmp_path, tmp_path / "other") if not place.mkdir(exist_ok=True)]
    with pytest.raises(ValueError, match="one name"):
        subjects(twice, ())


def test_a_pipeline_with_code_of_its_own_is_refused(tmp_path: Path) -> None:
    check_no_code(
        folder(tmp_path, scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"], image_encoder=[None, None])
    )
    for own in ({"transformer": ["my_code", "Mine"]}, {"_class_name": ["pipeline", "Mine"]}, {"_class_name": "Mine"}):
        with pytest.raises(ValueError, match="code of its own"):
            check_no_code(folder(tmp_path, **own))
    (tmp_path / "model_index.json").write_text("no json")
    with pytest.raises(ValueError, match="cannot be read"):
        check_no_code(tmp_path)


def test_a_bundle_is_offered_where_it_fits(tmp_path: Path) -> None:
    packed = bundle().save_pretrained(tmp_path / "packed")
    found = subjects(("lab",), (packed,))
    assert [one.name for one in found] == ["lab-distilled + packed", "lab-student", "lab-distilled", "lab-base"]
    joined = found[0]
    assert joined.learned and joined.steps == 8 and joined.methods[0] == "disca"
    model = joined.open()
    assert model.student and model.bundle is not None
    with pytest.raises(ValueError, match="fits none of the models"):
        subjects(("lab-base",), (packed,))
    assert weights.pipeline("base").transformer.config.guidance_embeds is False
