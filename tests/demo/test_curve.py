from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from disca.demo.curve import PACKAGED, THIS, Choice, compared, curve, full_runs, is_choice, read
from disca.demo.markup import picture
from disca.records import Record

ROOT = Path(__file__).parents[2]


def row(
    name: str, policy: str, full: tuple[int, ...], speedup: float, distance: float | None, **more: object
) -> Record:
    given = {"speedup_over": "student_8", "reference": "student_8", **more}
    return Record(
        name=name,
        policy=policy,
        steps=8,
        full_steps=full,
        transformer_evaluations=len(full),
        speedup=speedup,
        relative_l2=distance,
        **given,
    )


ROWS = [
    row("student_8", "none", tuple(range(8)), 1.0, None, reference=None),
    row("taylor_8_4", "taylor(full_steps=(0, 2, 4, 7))", (0, 2, 4, 7), 1.7, 0.05),
    row("teacache_8", "teacache(threshold=0.4)", (0, 3, 7), 1.9, 0.08, reference="student_8_batch1"),
    row("other", "reuse(every=2)", (0, 2, 4, 6), 12.0, 0.07, speedup_over="base_50"),
]
CHOICE = Choice(rows="student", steps=8, method="taylor", options={"full_steps": (0, 2, 4, 7)}, full=(0, 2, 4, 7))


def test_rows_of_other_comparisons_are_left_out() -> None:
    (full,) = full_runs(ROWS, "student")
    assert [one.name for one in compared([*ROWS[:2], ROWS[3]], full)] == ["student_8", "taylor_8_4"]


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"options": {"every": 2}}, True),  # the same steps in other words
        ({"options": {"full_steps": (0, 2, 4, 7), "order": 1}}, True),  # the default
        ({"options": {"full_steps": (0, 2, 4, 7), "order": 2}}, False),
        ({"full": (0, 2, 4, 6)}, False),
        ({"method": "reuse"}, False),
        ({"steps": 20}, False),
    ],
)
def test_a_choice_is_known_by_method_steps_and_options(changes: dict[str, object], same: bool) -> None:
    assert is_choice(ROWS[1], replace(CHOICE, **changes)) is same


def test_a_method_that_decides_is_known_by_its_options() -> None:
    choice = replace(CHOICE, method="teacache", options={"threshold": 0.4}, full=None)
    assert is_choice(ROWS[2], choice)
    assert not is_choice(ROWS[2], replace(choice, options={"threshold": 0.5}))


def test_the_picture_marks_choice_and_run() -> None:
    run = row("now", "taylor(full_steps=(0, 2, 4, 7))", (0, 2, 4, 7), 1.5, 0.06)
    drawn = curve(ROWS[:3], CHOICE, run)
    assert drawn.chosen == "taylor_8_4" and f'data-row="{THIS}"' in drawn.svg
    html = picture(drawn)
    assert ' chosen" data-row="taylor_8_4"' in html and f' this" data-row="{THIS}"' in html
    assert "0 clips" in html and "large dot" in html


def test_there_may_be_no_records() -> None:
    assert "no records of mine" in curve(ROWS, replace(CHOICE, rows="mine")).words
    far = curve(ROWS[:3], replace(CHOICE, steps=30))
    assert "no records at 30 steps" in far.words and far.svg and not far.chosen


def test_the_packaged_records_serve_the_lab() -> None:
    rows = read([PACKAGED])
    assert {full.steps for full in full_runs(rows, "student")} >= {8, 20}
    assert {full.steps for full in full_runs(rows, "base")} == {50}
    for choice in (CHOICE, replace(CHOICE, method="disca")):
        assert curve(rows, choice).chosen


def test_the_packaged_records_are_the_committed_ones() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "demo_records.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_one_file_or_several(tmp_path: object) -> None:
    assert read([]) == read([PACKAGED]) and len(read([PACKAGED, PACKAGED])) == 2 * len(read([]))
