"""What is to be encoded, from folders and tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from disca.data.captions import Item, prompts, videos


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_captions_come_from_a_table_or_from_beside(tmp_path: Path) -> None:
    touch(tmp_path, "b.mp4", "a.MOV", "inner/c.webm", "inner/d.mp4", "notes.md")
    rows = [{"file": "b.mp4", "caption": " a boat \n"}, {"file": "inner/c.webm", "caption": "a dog"}]
    (tmp_path / "captions.jsonl").write_text(
        "".join(f"{json.dumps(row)}\n" for row in [*rows, {"file": "e.mp4", "caption": "x"}])
    )
    (tmp_path / "a.txt").write_text("birds\n", encoding="utf-8-sig")
    items, left = videos(tmp_path)
    assert [(item.name, item.text) for item in items] == [
        ("a.MOV", "birds"),
        ("b.mp4", "a boat"),
        ("inner/c.webm", "a dog"),
    ]
    assert items[2].path == tmp_path / "inner/c.webm"
    assert left == {"inner/d.mp4": "it has no caption", "e.mp4": "the file is not there"}


def test_a_csv_elsewhere_may_name_files_alone(tmp_path: Path) -> None:
    touch(tmp_path, "in/deep/a.mp4")
    (tmp_path / "t.csv").write_text('video,text,more\na.mp4,"one, two",3\n')
    assert [item.text for item in videos(tmp_path / "in", tmp_path / "t.csv")[0]] == ["one, two"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no videos"),
        ({"a.mp4": ""}, "None of the 1 videos .* has a caption"),
        ({"a.mp4": "", "x.csv": "file,caption\n", "y.jsonl": ""}, "several tables .*x.csv, y.jsonl.*--captions"),
        ({"a.mp4": "", "x.jsonl": "{broken"}, "x.jsonl, line 1 is not JSON"),
        ({"a.mp4": "", "x.jsonl": "[1]"}, "line 1 is no JSON object"),
        (
            {"a.mp4": "", "x.csv": "file,words\na.mp4,hello\n"},
            "line 2 has no text .*has: file, words",
        ),
    ],
)
def test_folders_that_cannot_be_read_say_why(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        videos(tmp_path)


def test_text_in_another_encoding_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    (tmp_path / "a.txt").write_bytes("Fußball".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a.txt is not UTF-8"):
        videos(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        videos(tmp_path / "nowhere")


def test_prompts_come_a_line_or_a_row_each(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a boat\n\n  a dog \n")
    (tmp_path / "p.jsonl").write_text('{"prompt": "a boat", "image": "b.png"}\n')
    assert [(item.name, item.text) for item in prompts(tmp_path / "p.txt", repeats=2)] == [
        ("prompt-000000.0", "a boat"),
        ("prompt-000000.1", "a boat"),
        ("prompt-000001.0", "a dog"),
        ("prompt-000001.1", "a dog"),
    ]
    assert prompts(tmp_path / "p.jsonl") == [Item("prompt-000000.0", "a boat", tmp_path / "b.png")]
    (tmp_path / "q.txt").write_text("\n")
    for name, message in (
        ("q.txt", "holds no prompts"),
        ("r.txt", "There is no file"),
        ("p.md", "neither .jsonl nor .csv"),
    ):
        with pytest.raises((ValueError, OSError), match=message):
            prompts(tmp_path / name)
