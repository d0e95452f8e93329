"""Many clips into one folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import disca
from disca.bench.models import Model
from disca.sampling.bulk import Outcome, sample_all
from disca.sampling.sampler import sampler
from disca.sampling.share import Share
from disca.sampling.shelf import MANIFEST, Shelf
from disca.sampling.wishes import Wish

WISHES = [
    Wish(name="a", prompt="a red seven drifting left", seed=1),
    Wish(name="b", prompt="a purple seven drifting left", seed=2),  # the lab knows no purple
    Wish(name="c", prompt="a red seven drifting left", seed=3),
]
SETTINGS = {"model": "tiny", "call": {"size": (8, 8)}}


def save(path: Path, frames: torch.Tensor) -> None:
    path.write_bytes(frames.numpy().tobytes())


def work(model: Model, folder: Path, wishes: Sequence[Wish] = WISHES, **options: Any) -> Outcome:
    shelf = Shelf(folder, SETTINGS)
    shelf.open(wishes)
    with sampler(model, disca.reuse(every=2)) as sampled:
        return sample_all(sampled, wishes, shelf, save, **options)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / MANIFEST).read_text().splitlines()]


def test_clips_come_with_what_made_them_and_one_that_fails_stops_no_other(model: Model, tmp_path: Path) -> None:
    heard: list[str] = []
    outcome = work(model, tmp_path, progress=lambda wish: heard.append(wish.name))
    assert (outcome.sampled, outcome.there, outcome.own_failures, outcome.left) == (2, 0, 1, 0)
    assert list(outcome.failed) == ["b"] and "purple" in outcome.failed["b"]
    assert heard == ["a", "b", "c"]
    a, b, _ = lines(tmp_path)
    assert (a["name"], a["prompt"], a["seed"], a["file"]) == ("a", WISHES[0].prompt, 1, "a.mp4")
    assert a["settings"] == {"model": "tiny", "call": {"size": [8, 8]}}
    assert a["transformer_evaluations"] == 2 and a["forecasts"] == 2 and a["full_steps"] == {"cond": [0, 2]}
    assert a["seconds"] > 0 and a["bytes"] == (tmp_path / "a.mp4").stat().st_size
    assert "purple" in b["error"] and "file" not in b and not (tmp_path / "b.mp4").exists()
    assert (tmp_path / "a.mp4").read_bytes() != (tmp_path / "c.mp4").read_bytes()


def test_a_clip_is_that_of_the_pipeline_alone(model: Model, tmp_path: Path) -> None:
    work(model, tmp_path)
    with disca.attach(model.pipe, disca.reuse(every=2)):
        noise = torch.Generator().manual_seed(3)
        frames = model.pipe(WISHES[2].prompt, generator=noise, output_type="pt", **model.call).frames[0]
    assert (tmp_path / "c.mp4").read_bytes() == frames.numpy().tobytes()


def test_what_is_whole_is_not_made_again_and_what_failed_or_was_cut_is(model: Model, tmp_path: Path) -> None:
    work(model, tmp_path)
    whole = {name: (tmp_path / f"{name}.mp4").read_bytes() for name in "ac"}
    stamps = {name: (tmp_path / f"{name}.mp4").stat().st_mtime_ns for name in "ac"}
    (tmp_path / "c.mp4").write_bytes(whole["c"][:-10])
    (tmp_path / ".c-01234567.mp4").write_bytes(b"left by a process that was killed")
    (tmp_path / "state" / "a.json").rename(tmp_path / "state" / "kept")
    outcome = work(model, tmp_path)
    assert (outcome.sampled, outcome.there, outcome.own_failures) == (2, 0, 1)
    (tmp_path / "state" / "kept").rename(tmp_path / "state" / "a.json")
    outcome = work(model, tmp_path)
    assert (outcome.sampled, outcome.there, outcome.own_failures) == (0, 2, 1)
    assert {name: (tmp_path / f"{name}.mp4").read_bytes() for name in "ac"} == whole
    assert (tmp_path / "c.mp4").stat().st_mtime_ns > stamps["c"]
    assert not list(tmp_path.glob(".*.mp4"))


def test_an_interruption_leaves_a_manifest_of_what_is_done(model: Model, tmp_path: Path) -> None:
    def stop(wish: Wish) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work(model, tmp_path, progress=stop)
    assert [line["name"] for line in lines(tmp_path)] == ["a"]


def test_the_last_process_to_end_tells_of_all_failures(model: Model, tmp_path: Path) -> None:
    """A launcher ends all processes when one fails, so that one with work left must not be cut off."""
    first = work(model, tmp_path, share=Share(1, 2))
    assert (first.own_failures, first.failed, first.left) == (1, {}, 2)
    last = work(model, tmp_path, share=Share(0, 2))
    assert (last.sampled, last.own_failures, list(last.failed), last.left) == (2, 0, ["b"], 0)
    assert [line["name"] for line in lines(tmp_path)] == ["a", "b", "c"]


def test_a_folder_of_other_clips_is_refused_and_stays(model: Model, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("somebody's")
    with pytest.raises(ValueError, match=r"a\.mp4 is there already"):
        work(model, tmp_path)
    (tmp_path / "a.mp4").unlink()
    work(model, tmp_path)
    with pytest.raises(ValueError, match=r"other settings \(model\)"):
        Shelf(tmp_path, {**SETTINGS, "model": "another"}).open(WISHES)
    other = [Wish(name="a", prompt="a blue one drifting up", seed=1)]
    with pytest.raises(ValueError, match="a clip a of another prompt"):
        work(model, tmp_path, other)
    work(model, tmp_path, [Wish(name="b", prompt="a blue one drifting up", seed=1)])  # what failed may be mended
    assert lines(tmp_path)[0]["prompt"] == "a blue one drifting up" and "error" not in lines(tmp_path)[0]


def test_the_pipeline_is_afterwards_as_it_was(model: Model) -> None:
    before = list(model.pipe.transformer.state_dict())
    with sampler(model, disca.reuse(every=2)):
        pass
    assert list(model.pipe.transformer.state_dict()) == before
    with disca.attach(model.pipe, ()):
        pass


def test_an_image_for_a_pipeline_without_one_fails_clearly(model: Model, tmp_path: Path) -> None:
    outcome = work(model, tmp_path, [Wish(name="a", prompt=WISHES[0].prompt, seed=0, image=tmp_path / "a.png")])
    assert "LabPipeline takes no image" in outcome.failed["a"]
