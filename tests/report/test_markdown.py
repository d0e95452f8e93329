from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from disca.cli import main
from disca.records import Record, write
from disca.report.clips import Clip, Frames, write_clip, write_index
from disca.report.frontier import charts
from disca.report.markdown import table, write_markdown


def test_the_table_has_a_row_for_each_record_and_a_cell_for_each_column(rows: list[Record]) -> None:
    lines = table(rows).splitlines()
    assert len(lines) == 2 + len(rows)
    assert len({line.count(" | ") for line in (lines[0], *lines[2:])}) == 1
    assert "Row &lt;disca_8_4>" in lines[4] and "<sub>full: 0 2 4 7</sub>" in lines[4]
    assert "<sub>0.063 – 0.077</sub>" in lines[4]


def test_what_failed_says_so_and_shows_no_numbers(rows: list[Record]) -> None:
    failed = Record(name="x", steps=8, full_steps=(), transformer_evaluations=0, extra={"error": "KeyError: a | b"})
    line = table([*rows, failed]).splitlines()[-1]
    assert line.startswith("| x<br><sub>failed: KeyError: a \\| b</sub> | 8 |  | ")
    assert "0" not in line.split(" | ")[2:]


def test_a_page_has_its_pictures_and_clips_beside_it(rows: list[Record], frames: Frames, tmp_path: Path) -> None:
    write_clip(tmp_path / "clips.gif", frames)
    clips = [Clip(prompt="p", name="disca_8_4", path=tmp_path / "clips.gif", seed=0)]
    (tmp_path / "docs").mkdir()
    write_markdown(tmp_path / "docs" / "page.md", rows, clips, title="T")
    text = (tmp_path / "docs" / "page.md").read_text()
    assert text.startswith("# T\n") and "](../clips.gif)" in text and "disca lab show" in text
    pictures = sorted((tmp_path / "docs").glob("*.svg"))
    assert [picture.name for picture in pictures] == ["page_1.svg", "page_2.svg"]
    for picture in pictures:
        assert f"]({picture.name})" in text
        assert ElementTree.fromstring(picture.read_text()).tag.endswith("svg")


def test_the_command_writes_it_by_its_suffix(
    rows: list[Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "records.jsonl", rows)
    write_index(tmp_path, [])
    assert main(["report", str(tmp_path / "records.jsonl"), "--output", str(tmp_path / "a.md")]) == 0
    assert (tmp_path / "a.md").read_text().startswith("# Comparison")
    assert main(["report", str(tmp_path / "records.jsonl"), "--output", str(tmp_path / "a.pdf")]) == 2
    assert ".html or .md" in capsys.readouterr().err


def test_each_reference_has_pictures_of_its_own_whatever_the_batch(rows: list[Record]) -> None:
    """Closeness against wall-clock twice, and against operations where they are known."""
    counted = [replace(row, flops=1e9 / (row.speedup or 1)) for row in rows]
    gated = replace(counted[2], name="gated", reference="student_8_batch1")
    others = [replace(row, name=f"other_{row.name}", reference="base_50") for row in counted]
    (first, pictures), (second, more) = charts([*counted, gated, *others])
    assert (first, second) == ("student_8", "base_50")
    assert len(pictures) == len(more) == 3
    assert all('data-row="gated"' in picture for picture in pictures)
    assert not any('data-row="gated"' in picture for picture in more)
    assert "times fewer operations" in pictures[2] and "times faster" in pictures[0]


def test_a_crowd_is_named_only_where_it_leads(rows: list[Record]) -> None:
    many = [replace(rows[2], name=f"n{index}", relative_l2=0.1 + index / 100) for index in range(20)]
    picture = charts(many)[0][1][0]
    assert picture.count("<circle") == 20
    assert ">n0</text>" in picture and ">n5</text>" not in picture
