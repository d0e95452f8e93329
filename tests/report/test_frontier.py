from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from disca.records import Record
from disca.report.frontier import Axis, Point, best, comparable, frontier

numbers = st.floats(0.01, 100)
points = st.lists(st.tuples(numbers, numbers).map(lambda xy: Point("p", "p", *xy, "")), min_size=1, max_size=12)


@given(points, st.booleans())
def test_the_frontier_is_what_nothing_beats(cloud: list[Point], falling: bool) -> None:
    def beats(a: Point, b: Point) -> bool:
        closer = a.y <= b.y if falling else a.y >= b.y
        return a.x >= b.x and closer and (a.x, a.y) != (b.x, b.y)

    unbeaten = {(p.x, p.y) for p in cloud if not any(beats(q, p) for q in cloud)}
    chosen = [(p.x, p.y) for p in best(cloud, falling=falling)]
    assert set(chosen) == unbeaten
    assert chosen == sorted(chosen)


@given(st.floats(0.1, 10), st.floats(1.5, 1000), st.booleans())
def test_an_axis_spans_its_ends_with_round_ticks(low: float, ratio: float, logarithmic: bool) -> None:
    axis = Axis(low, low * ratio, 50, 400, logarithmic)
    assert axis.place(low) == pytest.approx(50)
    assert axis.place(low * ratio) == pytest.approx(400)
    ticks = axis.ticks()
    assert ticks == sorted(ticks)
    assert all(49.9 <= axis.place(tick) <= 400.1 for tick in ticks)
    if not logarithmic:
        assert 3 <= len(ticks) <= 8


@pytest.mark.parametrize(("measure", "shown"), [("relative_l2", 4), ("psnr", 3)])
def test_the_picture_is_well_formed_and_shows_each_finite_row_once(
    rows: list[Record], measure: str, shown: int
) -> None:
    tree = ElementTree.fromstring(frontier(rows, measure=measure))
    groups = tree.findall("g")
    assert len(groups) == shown
    assert len(tree.findall("g/title")) == len(tree.findall("g/circle")) == shown
    for circle in tree.findall("g/circle"):
        assert 0 < float(circle.get("cx", "nan")) < 460
        assert 0 < float(circle.get("cy", "nan")) < 320


def test_faster_is_right_and_closer_is_up(rows: list[Record]) -> None:
    tree = ElementTree.fromstring(frontier(rows))
    place = {group.get("data-row"): group.find("circle") for group in tree.findall("g")}
    disca, reuse, base = (place[name] for name in ("disca_8_4", "reuse_8_4", "base_8"))
    assert disca is not None and reuse is not None and base is not None
    assert float(disca.get("cx", "")) > float(base.get("cx", ""))
    assert float(disca.get("cy", "")) < float(reuse.get("cy", "")) < float(base.get("cy", ""))


def test_rows_with_another_reference_do_not_compare(rows: list[Record]) -> None:
    other = replace(rows[0], name="other", reference="base_200")
    assert comparable([*rows, other]) == rows
    assert 'data-row="other"' not in frontier([*rows, other])


def test_nothing_to_compare_gives_no_picture(rows: list[Record]) -> None:
    assert frontier(rows[:1]) == ""
    assert frontier([replace(row, speedup=None) for row in rows]) == ""
    with pytest.raises(ValueError, match="relative_l2"):
        frontier(rows, measure="frechet")


def test_equal_rows_can_be_drawn(rows: list[Record]) -> None:
    same = [replace(rows[2], name="a"), replace(rows[2], name="b")]
    assert "NaN" not in frontier(same, measure="psnr")
    ElementTree.fromstring(frontier(same, measure="psnr"))
