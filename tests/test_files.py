from __future__ import annotations

from pathlib import Path

import pytest

from disca.files import atomic, check_writable, write_bytes_atomic, write_text_atomic


def test_a_written_file_is_whole_and_alone(tmp_path: Path) -> None:
    write_bytes_atomic(tmp_path / "clip.gif", b"bytes")
    write_text_atomic(tmp_path / "page.html", "größer")
    assert (tmp_path / "clip.gif").read_bytes() == b"bytes"
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == "größer"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.gif", "page.html"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError])
def test_an_interrupted_write_leaves_the_old_file_and_no_half(
    tmp_path: Path, interruption: type[BaseException]
) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text("old")
    with pytest.raises(interruption), atomic(path) as draft:
        draft.write_text("ne")
        raise interruption
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_draft_keeps_the_suffix_and_stays_in_the_folder(tmp_path: Path) -> None:
    with atomic(tmp_path / "clip.mp4") as draft:
        assert draft.suffix == ".mp4"
        assert draft.parent == tmp_path
        draft.touch()


def test_check_writable_creates_the_folder_and_leaves_it_empty(tmp_path: Path) -> None:
    folder = check_writable(tmp_path / "deep" / "folder")
    assert folder.is_dir()
    assert not list(folder.iterdir())


def test_a_folder_that_cannot_be_written_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OSError, match=r"Cannot write into the folder .*taken.*Choose another"):
        check_writable(tmp_path / "taken" / "folder")
