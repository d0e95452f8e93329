"""Feature trajectories: recorded, stored, and drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

import disca
from disca import trajectories
from disca.bench.models import Model
from disca.bench.trajectories import of_the_trunk, principal, record
from disca.report.trajectories import pictures
from disca.trajectories import Trajectories
from tests.bench.conftest import PROMPTS, tiny_pipe


@pytest.fixture(scope="module")
def found() -> Trajectories:
    """A tiny model's: every step full, twice, and reuse."""
    model = Model(pipe=tiny_pipe(), call={"guidance_scale": 1.0})
    policies = {"again": disca.taylor(every=1), "reuse": disca.reuse(full_steps=(0, 3))}
    return record(model, policies, reference="full", prompt=PROMPTS[0], seed=0, steps=5)


def test_full_steps_are_where_the_full_run_is_and_reuse_stays_where_it_was(found: Trajectories) -> None:
    full, again, reuse = found.runs
    assert [run.name for run in found.runs] == ["full", "again", "reuse"] and found.reference == "full"
    assert again.points == full.points and set(again.distance) == {0.0} and all(again.full)
    assert reuse.full == (True, False, False, True, False)
    assert reuse.points[0] == reuse.points[1] == reuse.points[2] == full.points[0]
    assert reuse.points[3] == reuse.points[4] != full.points[3]
    assert reuse.distance[0] == 0 and min(reuse.distance[1:]) > 0
    assert full.points[-1][0] > full.points[0][0]


def test_recording_changes_no_clip(found: Trajectories) -> None:
    pipe = tiny_pipe()

    def clip() -> torch.Tensor:
        with disca.attach(pipe, disca.reuse(every=2)):
            noise = torch.Generator().manual_seed(1)
            return pipe(PROMPTS[0], num_inference_steps=4, generator=noise, output_type="latent").frames

    before = clip()
    record(Model(pipe=pipe), {"reuse": disca.reuse(every=2)}, reference="full", prompt=PROMPTS[0], seed=1, steps=4)
    assert torch.equal(clip(), before)


def test_components_are_those_of_the_covariance() -> None:
    features = torch.randn(6, 40, generator=torch.Generator().manual_seed(0)).double()
    axes, explained = principal(features)
    values, vectors = torch.linalg.eigh((features - features.mean(0)).T @ (features - features.mean(0)))
    torch.testing.assert_close(axes.abs(), vectors.flip(1).T[:2].abs())
    assert explained == pytest.approx((values.flip(0)[:2] / values.sum()).tolist())


def test_policies_inside_of_blocks_have_no_features_of_the_trunk(found: Trajectories) -> None:
    model = Model(pipe=tiny_pipe(), call={"guidance_scale": 1.0})
    assert of_the_trunk(disca.reuse(every=2)) and not of_the_trunk(disca.fora(every=2)) and not of_the_trunk(())
    options = {"reference": "full", "prompt": PROMPTS[0], "seed": 0}
    with pytest.raises(ValueError, match="fora is not one rule"):
        record(model, {"fora": disca.fora(every=2)}, steps=4, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="three steps"):
        record(model, {}, steps=2, **options)  # type: ignore[arg-type]


def test_a_file_gives_back_what_was_written(found: Trajectories, tmp_path: Path) -> None:
    assert trajectories.read(tmp_path) == []
    path = trajectories.write(tmp_path, [found])
    assert trajectories.read(tmp_path) == [found]
    text = path.read_text()
    for damaged in (text[:-20], text.replace('"schema": 1', '"schema": 9'), text.replace('"seed"', '"sead"')):
        path.write_text(damaged)
        with pytest.raises(ValueError, match=r"trajectories\.json is damaged"):
            trajectories.read(tmp_path)


def test_what_does_not_fit_together_is_no_trajectory(found: Trajectories) -> None:
    with pytest.raises(ValueError, match="first trajectory"):
        replace(found, reference="reuse")
    with pytest.raises(ValueError, match="as many steps"):
        short = found.runs[1]
        cut = replace(short, points=short.points[:3], full=short.full[:3], distance=short.distance[:3])
        replace(found, runs=(found.runs[0], cut))
    with pytest.raises(ValueError, match="for each step"):
        replace(found.runs[1], full=(True,))


def test_pictures_show_every_step_of_every_run_and_its_kind(found: Trajectories) -> None:
    drawn = [ElementTree.fromstring(svg) for svg in pictures(found, {"reuse": "a <reuse> & more"})]
    assert len(drawn) == 3  # one for each run beside the reference, and the distances
    kinds = [group.get("class") for group in drawn[1].findall("g")]
    assert kinds == ["step full", "step forecast", "step forecast", "step full", "step forecast"]
    _, _, width, height = map(float, drawn[1].get("viewBox", "").split())
    for circle in drawn[1].iter("circle"):
        assert 0 < float(circle.get("cx", "")) < width and 0 < float(circle.get("cy", "")) < height
    assert drawn[1].find("text").text == "a <reuse> & more"  # type: ignore[union-attr]
    assert len(drawn[2].findall("g")) == 2 and len(list(drawn[2].iter("circle"))) == 10
    assert pictures(replace(found, runs=found.runs[:1]), {}) == []
