"""Whatever a visitor does, the page says what happened and goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from disca import records
from disca.demo.forms import Form
from disca.demo.studio import KEPT, Studio, View
from disca.lab.words import HELD_OUT

Views = Callable[..., list[View]]


def test_a_run_ends_with_clips_and_numbers(views: Views, studio: Studio) -> None:
    *going, last = views(method="taylor", full=(0, 2, 4, 7))
    assert going and all(view.running and view.result is None for view in going)
    assert not last.running and last.result is not None and last.picture is not None
    assert last.result.count("data:video/mp4;base64,") == 3
    assert 'data-fact="full-passes">8<' in last.result and 'data-fact="fast-passes">4<' in last.result
    assert 'this" data-row="this_run"' in last.picture
    assert 'chosen" data-row="taylor_student_8_full_steps4"' in last.picture
    (folder,) = studio.output.iterdir()
    assert {file.name for file in folder.iterdir()} == {
        "full.mp4",
        "accelerated.mp4",
        "difference.mp4",
        "records.jsonl",
    }
    (record,) = records.read(folder / "records.jsonl")
    assert record.policy == "taylor(full_steps=(0, 2, 4, 7))"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": ""}, "There is no prompt"),
        ({"prompt": " \n\t "}, "There is no prompt"),
        ({"prompt": None}, "There is no prompt"),
        ({"prompt": "a" * 10_000}, "10,000 characters"),
        ({"prompt": "a red seven drifting left 🙂"}, "The lab does not know &#39;🙂&#39;"),
        ({"prompt": "a purple seven drifting left"}, "&#39;purple&#39;"),
        ({"prompt": "<script>alert(1)</script>"}, "&lt;script&gt;"),
        ({"prompt": "\x00"}, "does not know"),
        ({"steps": 0}, "from 1 to 200; given 0"),
        ({"steps": 1000}, "from 1 to 200; given 1000"),
        ({"steps": None}, "given nothing"),
        ({"steps": 2.5}, "given 2.5"),
        ({"steps": "x" * 10_000}, "whole number"),
        ({"seed": -1}, "The seed"),
        ({"seed": 2**40}, "The seed"),
        ({"subject": "/etc"}, "Unknown model"),
        ({"subject": None}, "Unknown model"),
        ({"subject": ["lab-student"]}, "Unknown model"),
        ({"method": {"a": 1}}, "cannot be accelerated"),
        ({"seed": [0]}, "The seed"),
        ({"method": "taylor", "options": {"order": {"a": []}}}, "order"),
        ({"method": "tailor"}, "cannot be accelerated"),
        ({"method": "teacache"}, "teacache needs threshold"),
        ({"method": "teacache", "options": {"threshold": 0.1, "constants": "/etc/passwd"}}, "Unknown constants"),
        ({"method": "taylor", "options": {"order": -3}}, "order"),
        ({"method": "taylor", "options": {"every": 30}}, "every"),
    ],
)
def test_bad_input_is_one_clear_message(views: Views, changes: dict[str, Any], words: str, studio: Studio) -> None:
    *_, view = views(**changes)
    assert 'role="alert"' in view.status and words in view.status
    assert view.result is None and not view.running and len(view.status) < 2000
    assert not studio.output.exists()


def test_the_page_goes_on_after_bad_input(views: Views) -> None:
    for changes in ({"prompt": ""}, {"steps": 0}, {"method": "teacache"}):
        assert views(**changes)[-1].result is None
    assert views()[-1].result is not None


def test_an_error_of_ours_is_told_and_the_page_goes_on(
    views: Views, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr("disca.demo.studio.compare", broken)
        (*_, view) = views()
    assert "The run failed: out of memory" in view.status and 'role="alert"' in view.status
    assert "RuntimeError: out of memory" in capsys.readouterr().err
    assert views()[-1].result is not None


def test_cancelling_says_how_far_it_was(studio: Studio, form: Form) -> None:
    said = []
    for view in studio.run("a tab", replace(form, method="reuse", steps=200, full=tuple(range(200)))):
        said.append(view)
        if "step 3" in view.status or len(said) > 3:
            studio.desk.cancel("a tab")
    assert "Cancelled after step" in said[-1].status and not said[-1].running


def test_a_closed_tab_gives_way(studio: Studio, form: Form, views: Views) -> None:
    gone = studio.run("gone", replace(form, method="reuse", steps=200, full=tuple(range(200))))
    next(gone)
    gone.close()
    assert views()[-1].result is not None


def test_old_clips_go(studio: Studio) -> None:
    folders = [studio._folder() for _ in range(KEPT + 2)]
    assert [folder.exists() for folder in folders] == [False] * 2 + [True] * KEPT


def test_the_timeline_says_why_there_is_none(studio: Studio, form: Form) -> None:
    assert "given 0" in studio.timeline(replace(form, steps=0)).note
    assert "needs threshold" in studio.timeline(replace(form, method="teacache", options={})).note
    assert studio.picture(replace(form, steps=0)) is None


def test_another_prompt_is_another_of_the_lab_s(studio: Studio, form: Form) -> None:
    other = studio.another(form)
    assert other != form.prompt and other in map(str, HELD_OUT)


def test_a_file_of_constants_is_shown_by_its_name(studio: Studio, form: Form, tmp_path: Path) -> None:
    root = Path(__file__).parents[2] / "benchmarks" / "calibrations"
    name = "magcache_student_8_4.json"
    studio.files = {name: root / name}
    chosen = replace(form, method="magcache", options={"error": 0.3, "skips": 3, "constants": name, "retention": 0})
    *_, view = studio.run("a tab", chosen)
    assert view.result is not None, view.status
    assert name in view.result and str(root) not in view.result and "calibrations" not in view.result
