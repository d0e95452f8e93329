"""Unknown names are answered with the nearest known one."""

from __future__ import annotations

from disca.errors import nearest, unknown

NAMES = ("reuse", "taylor", "repeat_change")


def test_a_slip_finds_what_was_meant() -> None:
    assert nearest("tailor", NAMES) == "taylor"
    assert nearest("Repeat-Change", NAMES) == "repeat_change"


def test_what_is_like_nothing_finds_nothing() -> None:
    assert nearest("xyz", NAMES) is None
    assert unknown("policy", "xyz", NAMES) == "Unknown policy 'xyz'. Known: repeat_change, reuse, taylor."


def test_the_message_names_the_nearest_and_all() -> None:
    assert unknown("policy", "tailor", NAMES).startswith("Unknown policy 'tailor'. Did you mean 'taylor'? Known: ")
