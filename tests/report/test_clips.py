from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from disca.report.clips import (
    Clip,
    Frames,
    enlarge,
    read_images,
    read_index,
    reduce,
    write_clip,
    write_index,
)


@pytest.mark.parametrize(("suffix", "loss"), [(".webp", 0), (".png", 0), (".gif", 8)])
def test_frames_and_colours_survive(tmp_path: Path, frames: Frames, suffix: str, loss: int) -> None:
    path = tmp_path / f"clip{suffix}"
    write_clip(path, frames)
    read, seconds = read_images(path)
    assert read.shape == (6, 192, 192, 3)
    assert np.abs(reduce(read).astype(int) - frames.astype(int)).max() <= loss
    assert seconds == pytest.approx(6 / 8, rel=0.05)
    assert list(tmp_path.iterdir()) == [path]


def test_a_video_keeps_its_size_and_nearly_its_colours(tmp_path: Path, frames: Frames) -> None:
    import imageio.v3 as iio

    write_clip(tmp_path / "clip.mp4", frames)
    read = iio.imread(tmp_path / "clip.mp4")
    assert read.shape == (6, 192, 192, 3)
    centres = read[:, 3::6, 3::6].astype(int)
    assert np.abs(centres - frames).mean() < 4


@pytest.mark.parametrize("scale", [1, 2, 5])
def test_reduce_undoes_enlarge_and_loses_nothing(frames: Frames, scale: int) -> None:
    assert np.array_equal(reduce(enlarge(frames, scale)), frames)


def test_a_pause_in_a_clip_keeps_its_frames(tmp_path: Path, frames: Frames) -> None:
    paused = np.concatenate([frames[:2], frames[2:3].repeat(3, axis=0), frames[3:]])
    write_clip(tmp_path / "clip.webp", paused)
    read, _ = read_images(tmp_path / "clip.webp")
    assert np.array_equal(reduce(read), paused)


def test_large_clips_stay_as_they_are(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.png", np.zeros((1, 200, 301, 3), dtype=np.uint8))
    assert read_images(tmp_path / "clip.png")[0].shape == (1, 200, 301, 3)


@pytest.mark.parametrize(
    ("name", "shape", "kind", "message"),
    [
        ("clip.avi", (1, 8, 8, 3), np.uint8, "ends in none of them"),
        ("clip.gif", (1, 8, 8, 3), np.float32, "uint8"),
        ("clip.gif", (8, 8, 3), np.uint8, r"\[8, 8, 3\]"),
        ("clip.gif", (0, 8, 8, 3), np.uint8, r"\[0, 8, 8, 3\]"),
    ],
)
def test_what_is_no_clip_is_refused_before_a_file_exists(
    tmp_path: Path, name: str, shape: tuple[int, ...], kind: type, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_clip(tmp_path / name, np.zeros(shape, dtype=kind))
    assert not list(tmp_path.iterdir())


def test_the_index_finds_clips_in_a_moved_folder(tmp_path: Path, frames: Frames) -> None:
    (tmp_path / "old").mkdir()
    clip = Clip(prompt="größer", name="student_8", path=tmp_path / "old" / "0.gif", seed=3, note="30 dB")
    write_clip(clip.path, frames)
    write_index(tmp_path / "old", [clip])
    (tmp_path / "old").rename(tmp_path / "new")
    (found,) = read_index(tmp_path / "new")
    assert found.path == tmp_path / "new" / "0.gif"
    assert (found.prompt, found.name, found.seed, found.note) == ("größer", "student_8", 3, "30 dB")


def test_a_folder_without_an_index_has_no_clips_and_a_damaged_one_is_named(tmp_path: Path, frames: Frames) -> None:
    assert read_index(tmp_path) == []
    clip = Clip(prompt="p", name="n", path=tmp_path / "gone.gif")
    write_index(tmp_path, [clip])
    with pytest.raises(ValueError, match=r"gone\.gif, which is missing"):
        read_index(tmp_path)
    (tmp_path / "clips.json").write_text("[{}]")
    with pytest.raises(ValueError, match=r"clips\.json is damaged"):
        read_index(tmp_path)
