"""VBench's files: what it reads and what it writes, in small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from disca.bench.grid import MethodEntry
from disca.bench.models import Model
from disca.bench.vbench import DIMENSIONS, QUALITY, SEMANTIC, lay_out, layout, total, with_results
from disca.cli import main
from disca.records import Record, read
from tests.bench.conftest import PROMPTS, make_grid

INFO = [
    {"prompt_en": PROMPTS[0], "dimension": ["subject_consistency", "motion_smoothness"]},
    {"prompt_en": PROMPTS[1], "dimension": ["temporal_flickering"]},
    {"prompt_en": PROMPTS[1], "dimension": ["color"], "auxiliary_info": {"color": "blue"}},
]


@pytest.fixture
def info(tmp_path: Path) -> Path:
    path = tmp_path / "VBench_full_info.json"
    path.write_text(json.dumps(INFO))
    return path


def results(folder: Path, row: str, **scores: list[float]) -> Path:
    """A result file for videos of a row."""
    stored = {
        name: [
            sum(values) / len(values),
            [
                {"video_path": f"elsewhere/videos/{row}/p-{index}.mp4", "video_results": value}
                for index, value in enumerate(values)
            ],
        ]
        for name, values in scores.items()
    }
    path = folder / "results_2026_eval_results.json"
    path.write_text(json.dumps(stored))
    return path


def row(name: str) -> Record:
    return Record(name=name, steps=4, full_steps=(0, 2), transformer_evaluations=2)


def test_five_videos_of_a_prompt_and_more_where_still_ones_are_kept(info: Path) -> None:
    videos = layout(info)
    names = [video.name for video in videos]
    assert names[:5] == [f"{PROMPTS[0]}-{index}.mp4" for index in range(5)]
    assert len(names) == len(set(names)) == 5 + 25
    assert len({video.seed for video in videos}) == len(videos)
    assert [video.name for video in layout(info, ["color"])] == [f"{PROMPTS[1]}-{index}.mp4" for index in range(5)]


@pytest.mark.parametrize(
    ("content", "dimensions", "message"),
    [
        (INFO, ["colour"], "Did you mean 'color'"),
        (INFO, ["scene"], "no prompts for scene"),
        ({"prompt": "x"}, [], "prompt_en"),
        ([{"prompt_en": "a/b", "dimension": ["color"]}], [], "name of a file"),
    ],
)
def test_a_wrong_list_is_refused(content: Any, dimensions: list[str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "info.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        layout(path, dimensions)


def test_videos_are_laid_out_by_row_and_those_that_are_there_stay(info: Path, model: Model, tmp_path: Path) -> None:
    written: list[Path] = []

    def write(path: Path, frames: Tensor) -> None:
        assert frames.shape == (8, 3, 32, 32)
        path.write_bytes(b"a video")
        written.append(path)

    videos = layout(info, ["color"])
    grid = make_grid(methods=(MethodEntry(method="reuse", settings=({"every": 2},)),))
    rows = lay_out(grid, videos, tmp_path / "out", lambda entry: model, write)
    assert [one.name for one in rows] == ["tiny_4", "reuse_tiny_4_every2"] and len(written) == 10
    assert rows[1].full_steps == (0, 2) and rows[1].seeds == tuple(video.seed for video in videos)
    folder = tmp_path / "out" / "videos" / "reuse_tiny_4_every2"
    assert sorted(path.name for path in folder.iterdir()) == [video.name for video in videos]
    listed = json.loads((tmp_path / "out" / "vbench.json").read_text())
    assert [video["file"] for video in listed["videos"]] == [video.name for video in videos]
    (folder / videos[3].name).unlink()
    again = lay_out(grid, videos, tmp_path / "out", lambda entry: model, write)
    assert written[10:] == [folder / videos[3].name]
    assert [one.full_steps for one in again] == [one.full_steps for one in rows]


def test_results_go_to_the_row_whose_videos_they_are_of(tmp_path: Path) -> None:
    path = results(tmp_path, "b", color=[0.5, 1.0], imaging_quality=[60.0, 70.0])
    stored = json.loads(path.read_text())
    stored["imaging_quality"][0] /= 100  # as VBench has it: per cent for the videos only
    path.write_text(json.dumps(stored))
    a, b = with_results([row("a"), row("b")], [path])
    assert "vbench" not in a.extra
    assert b.extra["vbench"] == {"color": 0.75, "imaging_quality": 0.65}
    assert b.intervals["vbench_color"] == (0.5, 1.0)
    low, high = b.intervals["vbench_imaging_quality"]
    assert low == pytest.approx(0.6) and high == pytest.approx(0.7)
    more = with_results([a, b], [results(tmp_path, "b", scene=[0.2, 0.4])])[1]
    assert set(more.extra["vbench"]) == {"color", "imaging_quality", "scene"}


def test_the_total_is_of_all_dimensions_as_vbench_weighs_them() -> None:
    best = {name: high for name, (_, high, _) in {**QUALITY, **SEMANTIC}.items()}
    assert set(best) == set(DIMENSIONS)
    assert total(best) == pytest.approx({"quality": 1.0, "semantic": 1.0, "total": 1.0})
    still = {**best, "dynamic_degree": 0.0}
    assert total(still)["quality"] == pytest.approx(6 / 6.5)
    assert total(still)["total"] == pytest.approx((4 * 6 / 6.5 + 1) / 5)
    assert total({name: best[name] for name in QUALITY}) == pytest.approx({"quality": 1.0})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"colour": [0.1, []]}, "Did you mean 'color'"),
        ({"color": 0.1}, "no result of VBench"),
        ({}, "no dimensions"),
        ({"color": [0.1, [{"video_path": "other/p-0.mp4", "video_results": 0.1}]]}, "belongs to no row"),
    ],
)
def test_a_wrong_result_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x_eval_results.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        with_results([row("a")], [path])


def test_the_command_line_lays_out_videos_and_reads_results(
    info: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    command = ["bench", "--suite", "vbench", "--output", str(output)]
    assert main([*command, "--steps", "2", "--vbench-info", str(info), "--dimensions", "color"]) == 0
    assert len(list((output / "videos" / "student_2").glob("*.mp4"))) == 5
    assert "vbench evaluate" in capsys.readouterr().out
    assert main([*command, "--vbench-results", str(results(tmp_path, "student_2", color=[0.5, 1.0]))]) == 0
    assert read(output / "records.jsonl")[0].extra["vbench"] == {"color": 0.75}
    assert main([*command]) == 2
    assert "--vbench-info" in capsys.readouterr().err


def test_frames_of_a_video_are_those_of_the_clip(model: Model, info: Path, tmp_path: Path) -> None:
    kept: dict[str, Tensor] = {}
    videos = layout(info, ["color"])[:1]
    lay_out(make_grid(), videos, tmp_path, lambda entry: model, lambda path, frames: kept.update({path.name: frames}))
    noise = torch.Generator().manual_seed(videos[0].seed)
    wanted = model.pipe(videos[0].prompt, num_inference_steps=4, guidance_scale=1.0, generator=noise, output_type="pt")
    assert torch.equal(kept[videos[0].name], wanted.frames[0])
