"""Whole grids on a tiny pipeline."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from disca.bench import bench as module
from disca.bench.bench import RECORDS, STATE, bench
from disca.bench.grid import Grid, MethodEntry, ModelEntry
from disca.bench.models import Model
from disca.bench.rows import AGAIN
from disca.caching.forecasts import Reuse
from disca.caching.gates import Gate
from disca.caching.methods import METHODS, Method
from disca.caching.policy import Policy, Rule
from disca.caching.sites import Trunk
from disca.features import Call, Moment
from disca.records import Record, read
from tests.bench.conftest import make_grid, tiny_pipe

REUSE = MethodEntry(method="reuse", settings=({"every": 2},))


@dataclass(frozen=True)
class Brightness(Gate):
    """Opens at every other step, and at the third for some clips: a gate that decides by what it sees."""

    def opens(self, memory: Any, moment: Moment, call: Call) -> bool:
        return moment.step % 2 == 0 or (moment.step == 1 and bool(call.inputs[0].mean() > 0))


def bright() -> Policy:
    return (Rule(Trunk(), Brightness(), Reuse()),)


class Loader:
    """Hands out the tiny model, and counts the clips it samples."""

    def __init__(self, **changes: Any) -> None:
        self.model = Model(pipe=tiny_pipe(), call={"guidance_scale": 1.0}, **changes)
        self.clips = 0
        self.model.pipe.transformer.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        self.clips += len(kwargs["hidden_states"])

    def __call__(self, entry: ModelEntry) -> Model:
        return self.model


def by_name(records: list[Record]) -> dict[str, Record]:
    return {record.name: record for record in records}


def test_a_grid_becomes_rows_with_everything_that_was_measured(tmp_path: Path) -> None:
    grid = make_grid(methods=(REUSE,), clips=1)
    result = bench(grid, tmp_path, Loader())
    assert result.records == read(tmp_path / RECORDS)
    rows = by_name(result.records)
    assert list(rows) == ["tiny_4", "reuse_tiny_4_every2", "tiny_4_plain_2"]
    full, cached, rival = rows.values()
    assert (full.transformer_evaluations, cached.transformer_evaluations, rival.transformer_evaluations) == (4, 2, 2)
    assert cached.full_steps == (0, 2) and cached.policy == "reuse(every=2)"
    assert cached.extra["rivals"] == ["tiny_4_plain_2"] and cached.extra["options"] == {"every": 2}
    assert full.flops and cached.flops and rival.flops and 0.4 * full.flops < cached.flops < 0.7 * full.flops
    assert rival.flops == full.flops / 2
    for row in (cached, rival):
        assert row.reference == "tiny_4" and row.speedup_over == "tiny_4" and row.speedup
        for name in ("psnr", "ssim", "relative_l2", "latent_l2", "motion", "flicker"):
            low, high = row.intervals[name]
            assert low <= getattr(row, name) <= high, name
    for row in rows.values():
        assert row.seconds and row.seconds_end_to_end and row.seconds < row.seconds_end_to_end
        assert row.seeds == (0, 0, 0) and row.prompts == grid.prompts and row.versions and row.hardware and row.command
    assert cached.bytes_held and cached.peak_memory and full.peak_memory
    assert 0 < cached.peak_memory - full.peak_memory <= cached.bytes_held
    assert [clip.row for clip in result.clips] == list(rows)
    assert result.clips[0].frames.shape == (8, 3, 32, 32)


def test_computing_every_step_is_at_no_distance_from_the_full_run(tmp_path: Path) -> None:
    grid = make_grid(methods=(MethodEntry(method="reuse", settings=({"every": 1},)),))
    row = by_name(bench(grid, tmp_path, Loader()).records)["reuse_tiny_4_every1"]
    assert (row.relative_l2, row.latent_l2, row.flicker, row.motion, row.ssim) == (0, 0, 0, 1, 1)
    assert row.psnr is None and row.extra["rivals"] == []


def test_an_interrupted_grid_goes_on_and_gives_the_same_quality(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid, whole, cut, rest = make_grid(methods=(REUSE,)), Loader(), Loader(), Loader()
    wanted = bench(grid, tmp_path / "whole", whole).records

    def stop(turn: int, put: Any = module.Store.put) -> Any:
        def stopping(store: Any, trial: str, name: str, part: Any) -> None:
            if name.endswith(f"{turn:05d}") and trial == "reuse_tiny_4_every2":
                raise KeyboardInterrupt
            put(store, trial, name, part)

        return stopping

    with monkeypatch.context() as patch:
        patch.setattr(module.Store, "put", stop(1))
        with pytest.raises(KeyboardInterrupt):
            bench(grid, tmp_path / "cut", cut)
    assert not (tmp_path / "cut" / RECORDS).exists()
    found = bench(grid, tmp_path / "cut", rest).records
    same = (
        "name",
        "full_steps",
        "transformer_evaluations",
        "flops",
        "psnr",
        "ssim",
        "latent_l2",
        "motion",
        "intervals",
    )
    for one, other in zip(found, wanted, strict=True):
        for name in same:
            values = [getattr(record, name) for record in (one, other)]
            if name == "intervals":
                values = [{key: value for key, value in each.items() if key != "speedup"} for each in values]
            assert values[0] == values[1], name
    assert rest.clips < whole.clips
    done = rest.clips
    assert [row.name for row in bench(grid, tmp_path / "cut", rest).records] == [row.name for row in wanted]
    assert rest.clips == done  # all is there already


def test_a_folder_of_another_grid_is_refused(tmp_path: Path) -> None:
    loader = Loader()
    bench(make_grid(), tmp_path, loader)
    with pytest.raises(ValueError, match=r"other grid \(seeds\)"):
        bench(make_grid(seeds=(1,)), tmp_path, loader)
    begun = json.loads((tmp_path / STATE / "grid.json").read_text())
    begun["versions"]["torch"] = "1.0"
    (tmp_path / STATE / "grid.json").write_text(json.dumps(begun))
    with pytest.raises(ValueError, match=r"other versions \(torch\)"):
        bench(make_grid(), tmp_path, loader)


def test_a_bad_grid_leaves_no_state(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="every below 4"):
        bench(make_grid(methods=(MethodEntry(method="reuse", settings=({"every": 5},)),)), tmp_path, Loader())
    assert not list(tmp_path.iterdir())


def test_a_row_that_fails_says_so_and_the_others_are_measured(tmp_path: Path) -> None:
    """The rivals by AB2 cannot be: the scheduler is none that they take over."""
    from diffusers import UniPCMultistepScheduler

    loader = Loader()
    loader.model.pipe.register_modules(
        scheduler=UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0)
    )
    rows = by_name(bench(make_grid(methods=(REUSE,), rivals=("euler", "ab2")), tmp_path, loader).records)
    assert "FlowMatchEulerDiscreteScheduler" in rows["tiny_4_plain_2_ab2"].extra["error"]
    assert rows["tiny_4_plain_2_ab2"].seconds is None
    assert rows["tiny_4_plain_2"].psnr and rows["reuse_tiny_4_every2"].psnr


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch) -> Grid:
    monkeypatch.setitem(METHODS, "bright", Method("bright", bright, "nobody"))
    return make_grid(methods=(MethodEntry(method="bright"),), batch=3)


def test_a_gated_row_is_sampled_clip_by_clip_and_gets_rivals_of_its_own_size(gated: Grid, tmp_path: Path) -> None:
    rows = by_name(bench(gated, tmp_path, Loader()).records)
    row = rows["bright_tiny_4"]
    assert row.extra["batch"] == 1 and row.reference == "tiny_4_batch1" and row.speedup_over == "tiny_4_batch1"
    assert row.transformer_evaluations == round(row.extra.get("mean_evaluations", row.transformer_evaluations))
    assert row.extra["rivals"] == [f"tiny_4_plain_{row.transformer_evaluations}"]
    rival = rows[row.extra["rivals"][0]]
    assert rival.speedup_over == "tiny_4" and rival.speedup
    twins = [path.name for path in (tmp_path / STATE).iterdir() if AGAIN in path.name]
    assert twins == [f"tiny_4{AGAIN}"]


def test_flops_of_a_gated_row_follow_its_evaluations(gated: Grid, tmp_path: Path) -> None:
    rows = by_name(bench(gated, tmp_path, Loader()).records)
    full, row = rows["tiny_4"], rows["bright_tiny_4"]
    evaluations = row.extra.get("mean_evaluations", row.transformer_evaluations)
    step = full.flops / 4
    head = (row.flops - evaluations * step) / (4 - evaluations)  # what is left of a step without its trunk
    assert 0 < head < 0.5 * step


def test_repeats_add_seconds_and_change_no_quality(tmp_path: Path) -> None:
    once, twice = (
        by_name(bench(make_grid(methods=(REUSE,), repeats=n), tmp_path / str(n), Loader()).records) for n in (1, 2)
    )
    assert once["reuse_tiny_4_every2"].latent_l2 == twice["reuse_tiny_4_every2"].latent_l2
    parts = sorted(path.name for path in (tmp_path / "2" / STATE / "reuse_tiny_4_every2").glob("1-*"))
    assert len(parts) == 2
