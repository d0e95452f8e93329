"""The experiments of the paper: rows that are compared, trainings of equal cost, and all of it in little."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from disca.bench.models import Model, Pairs
from disca.bench.store import Part, Store
from disca.bench.turns import Plan, Turns
from disca.cli import main
from disca.lab.reproduce.findings import ratio
from disca.lab.reproduce.page import drawn, write_page
from disca.lab.reproduce.rows import beside, joined, row
from disca.lab.reproduce.run import EXPERIMENTS, reproduce
from disca.lab.reproduce.work import Work, quick
from disca.records import Record, read

MODEL = Model(pipe=None)
RECIPES = Path(__file__).parents[2] / "recipes"


def test_rows_of_several_tables_are_sampled_once_with_all_their_references() -> None:
    rows = [row(name, name, MODEL, 4) for name in ("long", "full", "cached")]
    found = joined(beside(rows, "long"), beside(rows[1:], "full", over="long"))
    assert [(one.name, one.reference, one.over) for one in found] == [
        ("long", None, "long"),
        ("full", "long", "long"),
        ("cached", "long", "long"),
        ("cached_to_full", "full", "long"),
    ]
    trials = {one.trial.name: one.trial.references for one in found}
    assert trials == {"long": (), "full": ("long",), "cached": ("long", "full")}
    assert len({id(one.trial.model) for one in found}) == 1


def test_ratios_are_of_seeds_and_clips_together() -> None:
    """Twice the errors are the ratio 2 whatever is drawn; a seed that differs shows in the interval."""
    turns = Turns(Plan(pairs=Pairs(("a", "b", "c", "d"), (0, 1, 2, 3)), turn=2), Store())
    errors = {
        "one": [1.0, 2, 3, 4],
        "other": [2.0, 3, 4, 5],
        "double_one": [2.0, 4, 6, 8],
        "double_other": [4.0, 6, 8, 10],
    }
    for name, values in errors.items():
        for turn, part in (("0-00000", values[:2]), ("0-00001", values[2:])):
            turns.store.put(name, turn, Part((), {"latent_l2@full": torch.tensor(part)}))
    exact = ratio(turns, ["double_one", "double_other"], ["one", "other"], "full")
    assert exact["ratio"] == pytest.approx(2) and exact["interval"] == pytest.approx([2, 2])
    assert exact["errors"] == pytest.approx([6, 3])
    alone = ratio(turns, ["one", "other"], ["one"], "full")
    assert alone["ratio"] == pytest.approx(1.2) and alone["interval"][0] < 1.2 < alone["interval"][1]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--only", "design"], "Did you mean 'designs'"),
        (["--recipes", "nowhere"], "checkout"),
        (["--pairs", "1"], "at least 2"),
        (["--compute", "2"], "at most 1"),
    ],
)
def test_bad_wishes_are_refused_before_anything_is_made(
    args: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["lab", "reproduce", *args]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_is_trained_less_is_kept_apart(tmp_path: Path) -> None:
    """A network of a quick run is never taken for one that was trained at length."""
    folders = []
    for work in (Work(output=tmp_path, runs=tmp_path / "runs"), quick(Work(output=tmp_path, runs=tmp_path / "runs"))):
        done = {"settings": json.loads(json.dumps(work.settings))}
        (tmp_path / "designs.json").write_text(json.dumps(done))
        assert reproduce(replace(work, recipes=RECIPES), ["designs"]) == []  # done with these settings
        folders.append({path.name for path in (tmp_path / "runs").iterdir()})
    assert folders == [{"compute_1"}, {"compute_1", "compute_0.001"}]


def test_a_page_has_every_row_and_draws_one_of_each_variant(tmp_path: Path) -> None:
    def record(name: str, distance: float | None, flops: float, **extra: object) -> Record:
        compared = {"relative_l2": distance, "reference": None if distance is None else "full"}
        return Record(name=name, policy="none", steps=8, full_steps=(0,), transformer_evaluations=8, flops=flops,
                      extra=extra, **compared)  # fmt: skip

    seeds = [record(f"ours_{seed}_8", 0.1 + seed / 100, 5.0, variant="ours", seed=seed) for seed in (0, 1)]
    rows = [record("full", None, 10.0), *seeds, record("plain", 0.2, 4.0), record("lost", 9.0, 4.0)]
    shown = drawn(rows, "full")
    assert [one.name for one in shown] == ["full", "ours_0_8", "plain"]
    assert shown[1].extra["short"] == "ours 8"
    longer = [replace(rows[0], reference="long", relative_l2=0.3), *rows[1:]]
    assert drawn(longer, "full")[0].relative_l2 is None  # its distance is to another run
    write_page(tmp_path / "page.md", rows, title="All")
    page, picture = (tmp_path / "page.md").read_text(), (tmp_path / "page_full.svg").read_text()
    assert all(one.name in page for one in rows) and "page_full.svg" in page
    assert "2.0 times fewer operations" in picture and "lost" not in picture  # than the full run, which is not drawn


@pytest.mark.long
def test_experiments_run_from_their_recipes_and_once_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that share trained networks; the others are made of the same parts, and take minutes more."""
    names = ("objectives", "designs", "schedules", "alternation")
    folders = ["--output", str(tmp_path / "out"), "--runs", str(tmp_path / "runs")]
    command = ["lab", "reproduce", "--quick", *folders, "--only", *names]
    assert main(command) == 0 and set(names) < set(EXPERIMENTS)
    for name in names:
        said = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        assert said["settings"]["pairs"] == 4 and said["versions"] and said["command"]
        assert (tmp_path / "out" / f"{name}.md").read_text().startswith("# ")
    rows = {one.name: one for one in read(tmp_path / "out" / "schedules.jsonl")}
    assert rows["student_8"].reference is None and rows["student_8_to_student_20"].reference == "student_20"
    assert rows["ours_hand_0_8"].full_steps == (0, 2, 4, 7) and len(rows["ours_computed_0_8"].full_steps) <= 4
    capsys.readouterr()
    assert main(command) == 0
    assert capsys.readouterr().out.count("done; --again") == len(names)
