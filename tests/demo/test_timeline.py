from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from disca.demo.forms import Form, settled
from disca.demo.subjects import Shelf
from disca.demo.timeline import beginning, clicked, timeline
from disca.schedules import Schedule


@given(st.integers(1, 200), st.lists(st.integers(-5, 250)))
def test_any_clicks_make_a_schedule(steps: int, full: list[int]) -> None:
    pressed = clicked(full, steps)
    assert Schedule(steps, pressed)
    assert set(pressed) - {0} == {step for step in full if 0 < step < steps}


@given(st.integers(1, 200))
def test_any_number_of_steps_has_a_beginning(steps: int) -> None:
    assert timeline("taylor", {"full_steps": beginning(steps)}, steps).full == beginning(steps)


@pytest.mark.parametrize("pressed", [None, 5, "0 2", [None, "2", 1.5, [], {}], {"a": 1}])
def test_what_is_no_list_of_steps_presses_nothing(pressed: Any) -> None:
    assert clicked(pressed, 8) == (0,)


def test_a_bundle_says_how_to_begin() -> None:
    assert beginning(20, (Schedule(20, (0, 3, 9)),)) == (0, 3, 9)
    assert beginning(8, (Schedule(20, (0, 3, 9)),)) == (0, 2, 5, 7)


def test_a_timeline_shows_what_words_say() -> None:
    line = timeline("taylor", {"every": 3}, 8)
    assert line.full == (0, 3, 6) and line.clickable
    assert "3 of 8" in line.note


def test_a_method_that_decides_shows_no_steps() -> None:
    line = timeline("teacache", {"threshold": 0.3}, 8)
    assert line.full is None and not line.clickable
    assert "decides while it runs" in line.note


def test_a_click_takes_the_place_of_words(shelf: Shelf, form: Form) -> None:
    counted = replace(form, method="taylor", options={"every": 4, "warmup": 2, "order": 2})
    after = settled(shelf, replace(counted, full=[3, 0, 5]), "full")
    assert after.full == (0, 3, 5)
    assert after.options["every"] is None and after.options["warmup"] == 1 and after.options["order"] == 2


@pytest.mark.parametrize("steps", [0, -1, 1000, 2.5, None, "", "many", float("nan")])
def test_steps_that_cannot_be_do_not_break_the_form(shelf: Shelf, form: Form, steps: Any) -> None:
    assert settled(shelf, replace(form, steps=steps), "steps").full == (0,)
    assert settled(shelf, replace(form, steps=steps), "full").full == (0,)


def test_another_model_brings_its_own(shelf: Shelf, form: Form) -> None:
    assert form.subject == "lab-student" and form.method == "disca" and form.full == (0, 2, 5, 7)
    base = settled(shelf, replace(form, subject="lab-base"), "subject")
    assert base.steps == 50 and base.method in shelf["lab-base"].methods and base.method != "disca"
    kept = settled(shelf, replace(form, subject="lab-base", prompt="a red one standing still!"), "subject")
    assert kept.prompt == "a red one standing still!"
