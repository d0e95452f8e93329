from __future__ import annotations

import io
import re
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from disca.records import Record
from disca.report.clips import Clip, Frames, write_clip
from disca.report.page import write_page
from disca.report.table import print_table

VOID = {"meta", "img", "input", "br", "line", "circle", "polyline"}


class Reader(HTMLParser):
    """Collects elements and checks that they close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def page(tmp_path: Path, rows: list[Record], frames: Frames) -> str:
    clips = []
    for prompt, seed in (("a red seven drifting left", 0), ("a blue <three> & more", 1)):
        for row in rows:
            path = tmp_path / f"{seed}_{row.name}.webp"
            write_clip(path, frames)
            clips.append(Clip(prompt=prompt, name=row.name, path=path, seed=seed, note="30 dB"))
    write_page(tmp_path / "index.html", rows, clips, title="A < B", lead="Why.", notes=["A note."])
    return (tmp_path / "index.html").read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_needs_no_network(page: str) -> None:
    reader = Reader(page)
    assert reader.open == []
    links = [value for _, found in reader.elements for key, value in found.items() if key in ("src", "href") and value]
    assert links and all(link.startswith("data:") for link in links)
    assert not re.search(r"https?://|@import|url\(", page)


def test_what_people_wrote_is_text_and_never_markup(page: str) -> None:
    reader = Reader(page)
    assert not any(tag in ("three", "base_8") for tag, _ in reader.elements)
    assert "Row &lt;base_8&gt;" in page and "a blue &lt;three&gt; &amp; more" in page and "A &lt; B" in page


def test_every_row_and_clip_is_there(page: str, rows: list[Record]) -> None:
    reader = Reader(page)
    assert [found["data-row"] for found in reader.all("tr") if "data-row" in found] == [row.name for row in rows]
    assert len(reader.all("img")) == 2 * len(rows)
    assert len(reader.all("svg")) == 2
    for words in ("∞", "0.070", "3.5×", "full: 0 2 4 7", "A note.", "disca lab show", "a processor, 2 cores"):
        assert words in page


def test_cells_carry_the_number_they_are_sorted_by(page: str) -> None:
    values = [found["data-value"] for found in Reader(page).all("td")]
    numbers = [float(value) for value in values if value]
    assert 0.07 in numbers and float("inf") in numbers


def test_embedded_frames_are_the_clips_own(page: str, frames: Frames) -> None:
    source = Reader(page).all("img")[0]["src"]
    assert source is not None
    strip = np.asarray(Image.open(io.BytesIO(b64decode(source.partition(",")[2]))))
    assert np.array_equal(np.stack(np.split(strip, len(frames), axis=1)), frames)


def test_videos_are_embedded_as_videos(tmp_path: Path, rows: list[Record], frames: Frames) -> None:
    write_clip(tmp_path / "clip.mp4", frames)
    clip = Clip(prompt="p", name="student_8", path=tmp_path / "clip.mp4")
    write_page(tmp_path / "index.html", rows, [clip])
    (video,) = Reader((tmp_path / "index.html").read_text()).all("video")
    assert (video["src"] or "").startswith("data:video/mp4;base64,")


def test_a_page_without_clips_or_speeds_is_still_a_page(tmp_path: Path) -> None:
    bare = Record(name="only", steps=4, full_steps=(0,), transformer_evaluations=1)
    write_page(tmp_path / "deep" / "index.html", [bare])
    text = (tmp_path / "deep" / "index.html").read_text()
    assert "only" in text and "<svg" not in text and "Side by side" not in text


def test_nothing_is_no_page(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="empty"):
        write_page(tmp_path / "index.html", [])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("width", [80, 160])
def test_the_terminal_table_fits_and_says_the_essential(rows: list[Record], width: int) -> None:
    from rich.console import Console

    console = Console(width=width, file=io.StringIO(), record=True)
    print_table(rows, console=console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    for words in ("Row <base_8>", "0.070", "3.5×", "∞", "full: 0 2 4 7", "speed-up over base_8"):
        assert words in text
    assert "…" not in text


def test_clips_that_do_not_fit_are_left_out_and_the_page_says_so(
    tmp_path: Path, rows: list[Record], frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = []
    noise = np.random.default_rng(0)
    for seed in range(4):
        path = tmp_path / "clips" / f"{seed}.webp"
        path.parent.mkdir(exist_ok=True)
        write_clip(path, noise.integers(0, 255, frames.shape, dtype=np.uint8), scale=1)
        clips.append(Clip(prompt="p", name="student_8", path=path, seed=seed))
    write_page(tmp_path / "whole.html", rows, clips)
    whole = (tmp_path / "whole.html").stat().st_size
    assert "left out" not in (tmp_path / "whole.html").read_text()
    monkeypatch.setattr("disca.report.page.LARGEST", whole - 10_000)
    write_page(tmp_path / "cut.html", rows, clips)
    text = (tmp_path / "cut.html").read_text()
    assert (tmp_path / "cut.html").stat().st_size <= whole - 10_000
    assert "Clips of 1 of 4 prompts were left out" in text and "in clips/ beside the records" in text
    assert len(Reader(text).all("img")) == 3
    monkeypatch.setattr("disca.report.page.LARGEST", 1000)
    write_page(tmp_path / "none.html", rows, clips)
    assert "Clips of 4 of 4 prompts" in (tmp_path / "none.html").read_text()


def test_feature_trajectories_lie_beside_the_records(tmp_path: Path, rows: list[Record]) -> None:
    from disca import records, trajectories
    from disca.cli import main
    from disca.trajectories import Trajectories, Trajectory

    def run(name: str, away: float, *full: bool) -> Trajectory:
        points = tuple((float(step), away) for step in range(3))
        return Trajectory(name=name, points=points, full=full, distance=(0.0, away, away))

    runs = (run("student_8", 0.0, True, True, True), run("disca_8_4", 0.25, True, False, True))
    found = Trajectories(prompt="a & b", seed=3, reference="student_8", explained=(0.9, 0.08), tokens=64, runs=runs)
    records.write(tmp_path / "records.jsonl", rows)
    trajectories.write(tmp_path, [found])
    assert main(["report", str(tmp_path / "records.jsonl"), "--quiet"]) == 0
    text = (tmp_path / "index.html").read_text()
    assert Reader(text).open == []
    for words in ("Where the features go", "a &amp; b", "90 and 8 %", "Row &lt;disca_8_4&gt;, step 1, forecast: 0.250"):
        assert words in " ".join(text.split())
