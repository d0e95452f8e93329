"""Every method's options are on the page, from the one table of methods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from disca.caching.methods import METHODS, from_name
from disca.demo.options import all_names, given, options_of
from disca.demo.timeline import takes_full_steps


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_asked_all_that_it_takes(method: str) -> None:
    names = {option.name for option in options_of(method)}
    assert names == set(METHODS[method].options) - {"full_steps", "predictor"}
    assert names <= set(all_names())
    assert all(option.help and option.kind for option in options_of(method))


@pytest.mark.parametrize("method", METHODS)
def test_what_a_page_begins_with_makes_a_policy(method: str) -> None:
    """Untouched, a method's controls and the timeline say enough; magcache is asked whose constants to take."""
    options = given(method, {option.name: option.start for option in options_of(method)})
    options |= {"full_steps": (0, 2, 4, 7)} if takes_full_steps(method) else {}
    options |= {"constants": "hunyuan_video_720p"} if method == "magcache" else {}
    options |= {"predictor": lambda **_: None} if "predictor" in METHODS[method].options else {}
    assert from_name(method, **options)


def test_an_untouched_control_is_left_to_the_method() -> None:
    assert given("taylor", {option.name: option.start for option in options_of("taylor")}) == {}
    assert given("taylor", {"order": 2.0, "form": "newton", "force_last": True, "every": None, "warmup": ""}) == {
        "order": 2,
        "form": "newton",
        "force_last": True,
    }


def test_options_of_other_methods_are_not_handed_on() -> None:
    assert given("reuse", {"threshold": 0.3, "every": 4}) == {"every": 4}


@pytest.mark.parametrize(
    ("method", "values", "words"),
    [
        ("taylor", {"order": 1.5}, "whole number"),
        ("taylor", {"order": "many"}, "order"),
        ("taylor", {"order": float("inf")}, "order"),
        ("taylor", {"form": "newtn"}, "Did you mean 'newton'"),
        ("teacache", {"threshold": 1e9}, "at most"),
        ("teacache", {"constants": "/etc/passwd"}, "Unknown constants"),
        ("pab", {"window": "0.1"}, "two numbers"),
        ("pab", {"window": "x" * 10_000}, "two numbers"),
    ],
)
def test_a_value_that_cannot_be_is_named(method: str, values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        given(method, values)
    assert len(str(refused.value)) < 600


def test_files_of_constants_go_by_name() -> None:
    """A page can choose among the files that it was started with; it never gives a path."""
    files = {"mine.json": Path("somewhere/mine.json")}
    assert given("teacache", {"threshold": 0.5, "constants": "mine.json"}, files)["constants"] == files["mine.json"]
    with pytest.raises(ValueError, match="Unknown constants"):
        given("teacache", {"constants": "somewhere/mine.json"}, files)
    assert given("pab", {"attention": 2, "window": "0.2, 0.9"}) == {"attention": 2, "window": (0.2, 0.9)}
