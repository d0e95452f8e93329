"""Frames of real files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from disca.data.videos import Cut, UnreadableError, fit, read
from tests.data.clips import grey, levels, write_video

WHOLE = Cut(width=48, height=32, frames=5)


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mov"])
def test_frames_come_in_their_order(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"a{suffix}", grey(9))
    clip = read(path, WHOLE)
    assert clip.shape == (5, 32, 48, 3) and clip.dtype == torch.uint8
    assert levels(clip) == [0, 1, 2, 3, 4]
    assert levels(read(path, Cut(width=48, height=32, frames=5, take="centre"))) == [2, 3, 4, 5, 6]
    assert torch.equal(clip, read(path, WHOLE))


def test_frames_that_are_stored_out_of_order_are_not_taken_so(tmp_path: Path) -> None:
    import av

    path = write_video(tmp_path / "a.mp4", grey(9), between=2)
    with av.open(str(path)) as container:
        stamps = [packet.pts for packet in container.demux(video=0) if packet.size]
    assert stamps != sorted(stamps)
    assert levels(read(path, WHOLE)) == [0, 1, 2, 3, 4]
    assert levels(read(path, Cut(width=48, height=32, frames=4, fps=4))) == [0, 2, 4, 6]


def test_another_rate_takes_what_is_on_show(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", grey(12), fps=8)
    assert levels(read(path, Cut(width=48, height=32, frames=5, fps=4))) == [0, 2, 4, 6, 8]
    assert levels(read(path, Cut(width=48, height=32, frames=6, fps=16))) == [0, 0, 1, 1, 2, 2]
    uneven = write_video(tmp_path / "b.mp4", grey(4), fps=8, gaps=[1, 3, 1, 1])
    assert levels(read(uneven, Cut(width=48, height=32, frames=6, fps=8))) == [0, 1, 1, 1, 2, 3]


@given(st.integers(1, 40), st.sampled_from([24, 25, 30, 60]), st.sampled_from([8.0, 12.5, 16.0, 24.0, 30.0]))
def test_every_tick_shows_the_newest_frame(count: int, rate: int, fps: float) -> None:
    """Also at rates that do not divide: no frame is from the future, and none is staler than one gap."""
    times = [Fraction(index, rate) for index in range(count)]
    shown = Cut(width=8, height=8, frames=1, fps=fps)._shown(times)
    for tick, index in enumerate(shown):
        age = Fraction(tick) / Fraction(fps) - times[index]
        assert 0 <= age < Fraction(1, rate) or index == count - 1
    assert abs(len(shown) / fps - count / rate) <= 1 / fps


def test_a_picture_is_scaled_to_cover_and_cut_evenly() -> None:
    frame = torch.zeros(20, 40, 3, dtype=torch.uint8)
    frame[:, :10], frame[:, 30:] = 255, 128  # a quarter on the left, one on the right
    assert fit(frame, 20, 20).unique().tolist() == [0]
    small = fit(frame, 20, 10)[..., 0]
    assert small.shape == (10, 20) and small[5, 2] == 255 and small[5, 17] == 128 and small[5, 10] == 0
    assert torch.equal(fit(frame, 40, 20), frame)
    wide = fit(frame, 40, 10, aspect=2.0)[..., 0]  # shown 80 wide and 20 high
    assert wide[5, 5] == 255 and wide[5, 35] == 128


def test_what_a_phone_filmed_upright_is_upright(tmp_path: Path) -> None:
    """Phones store the sensor's frame and a rotation beside it."""
    frames = torch.zeros(5, 32, 48, 3, dtype=torch.uint8)
    frames[:, :, :24] = 255  # the left half
    path = write_video(tmp_path / "a.mov", frames)
    one, minus = (1).to_bytes(2) + bytes(2), (0xFFFF).to_bytes(2) + bytes(2)
    still = one + bytes(12) + one + bytes(12) + bytes.fromhex("40000000")
    quarter = bytes(4) + one + bytes(4) + minus + bytes(16) + bytes.fromhex("40000000")  # clockwise
    data = path.read_bytes()
    track = data.index(b"tkhd")
    assert still in data[track:]
    path.write_bytes(data[:track] + data[track:].replace(still, quarter, 1))
    clip = read(path, Cut(width=32, height=48, frames=5))
    top, bottom = clip[:, :20].float().mean(), clip[:, 28:].float().mean()
    assert top > 240 and bottom < 15  # its left is now on top


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.mp4", grey(12)).read_bytes()
    files = {
        "empty.mp4": (b"", "is empty"),
        "text.mp4": (b"no video at all, only words" * 20, "no video in it|cannot be decoded"),
        "half.mp4": (whole[: len(whole) // 2], "its end is missing|cannot be decoded"),
    }
    for name, (data, message) in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UnreadableError, match=message):
            read(tmp_path / name, WHOLE)
    with pytest.raises(UnreadableError, match="12 frames, 13 are needed"):
        read(tmp_path / "a.mp4", Cut(width=48, height=32, frames=13))
    with pytest.raises(UnreadableError, match="6 frames at 4 frames a second"):
        read(tmp_path / "a.mp4", Cut(width=48, height=32, frames=9, fps=4))


def test_a_sound_alone_is_no_video(tmp_path: Path) -> None:
    import av
    import numpy as np

    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(UnreadableError, match="no video in it"):
        read(tmp_path / "a.mp4", WHOLE)
