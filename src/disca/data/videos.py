"""Frames of a video file: which ones, and how they are brought to one size. The same file gives the same bytes."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

SUFFIXES = (".mp4", ".webm", ".mov")

Take = Literal["first", "centre"]


class UnreadableError(ValueError):
    """A file that gives no clip, and why; the others can go on."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Which frames of a video become a clip, and at which size."""

    width: int
    height: int
    frames: int
    fps: float | None = None
    """Frames in a second of the clip, each the one that is shown at its time; None takes the video's frames as they
    come."""
    take: Take = "first"
    """Where a longer video is cut: from its beginning, or from its middle."""

    def choose(self, times: list[Fraction]) -> list[int]:
        """Indices of the frames, for the times at which a video shows its frames, rising, in seconds.

        Raises:
            UnreadableError: the video is too short.
        """
        shown = self._shown(times)
        if len(shown) < self.frames:
            rate = "" if self.fps is None else f" at {self.fps:g} frames a second"
            raise UnreadableError(f"it has {len(shown)} frames{rate}, {self.frames} are needed")
        start = 0 if self.take == "first" else (len(shown) - self.frames) // 2
        return shown[start : start + self.frames]

    def _shown(self, times: list[Fraction]) -> list[int]:
        """The frame on show at each tick of the clip's rate."""
        if self.fps is None or not times:
            return list(range(len(times)))
        tick = 1 / Fraction(self.fps).limit_denominator(1_000_000)
        length = times[-1] - times[0] + _usual_gap(times)  # the last frame is shown as long as the others
        ticks = [times[0] + index * tick for index in range(max(1, ceil(length / tick)))]
        shown, at = [], 0
        for time in ticks:
            while at + 1 < len(times) and times[at + 1] <= time:
                at += 1
            shown.append(at)
        return shown


def read(path: Path, cut: Cut) -> Tensor:
    """The clip that a cut takes of a video, as bytes ``[frames, height, width, 3]``.

    Raises:
        UnreadableError: no video, an empty, damaged or too short one; says which.
    """
    import av

    if not path.stat().st_size:
        raise UnreadableError("the file is empty")
    try:
        with av.open(str(path)) as container:
            chosen = cut.choose(_times(container))
        with av.open(str(path)) as container:
            frames = _decode(container, set(chosen))
    except (av.FFmpegError, OSError) as error:
        raise UnreadableError(f"it cannot be decoded ({error.strerror or error})") from error
    if missing := set(chosen) - set(frames):
        raise UnreadableError(f"only part of it can be decoded: frame {min(missing)} is damaged")
    fitted = {index: fit(frame, cut.width, cut.height, aspect) for index, (frame, aspect) in frames.items()}
    return torch.stack([fitted[index] for index in chosen])


def picture(path: Path, width: int, height: int) -> Tensor:
    """A picture as bytes ``[height, width, 3]``, brought to a size as a video's frames are.

    Raises:
        UnreadableError: there is none, or a damaged one.
    """
    from PIL import Image, ImageOps

    try:
        pixels = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    except OSError as error:
        raise UnreadableError(f"its image {path} cannot be read ({error})") from error
    return fit(torch.from_numpy(np.array(pixels)), width, height)


def fit(frame: Tensor, width: int, height: int, aspect: float = 1.0) -> Tensor:
    """A frame ``[height, width, 3]`` of bytes, scaled until it covers ``width`` x ``height``, the rest cut off evenly.

    ``aspect`` is the width of a pixel over its height. Scaling is bilinear and antialiased, in float32.
    """
    rows, columns = frame.shape[:2]
    scale = max(height / rows, width / (columns * aspect))
    size = max(height, round(rows * scale)), max(width, round(columns * aspect * scale))
    scaled = frame.movedim(-1, 0)[None].float()
    if size != (rows, columns):
        scaled = interpolate(scaled, size, mode="bilinear", antialias=True, align_corners=False)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return scaled[0, :, top : top + height, left : left + width].round().clamp(0, 255).byte().movedim(0, -1)


def to_pixels(clip: Tensor) -> Tensor:
    """Bytes ``[frames, height, width, 3]`` as ``[1, 3, frames, height, width]`` in [-1, 1]."""
    return clip.movedim(-1, 0)[None].float() / 127.5 - 1


def _stream(container: Any) -> Any:
    if not container.streams.video:
        raise UnreadableError("there is no video in it, or its end is missing")
    return container.streams.video[0]


def _times(container: Any) -> list[Fraction]:
    """When each frame is shown, in seconds; read from the packets, nothing is decoded."""
    stream = _stream(container)
    stamps = [packet.pts for packet in container.demux(stream) if packet.size]
    if not stamps:
        raise UnreadableError("there is no frame in it")
    if any(stamp is None for stamp in stamps):
        raise UnreadableError("its frames carry no times; write it anew, such as with ffmpeg -i FILE -c copy FILE.mp4")
    return [stamp * stream.time_base for stamp in sorted(stamps)]


def _decode(container: Any, wanted: set[int]) -> dict[int, tuple[Tensor, float]]:
    """Frames by index, upright, with the aspect of a pixel."""
    stream = _stream(container)
    frames: dict[int, tuple[Tensor, float]] = {}
    for index, frame in enumerate(container.decode(stream)):
        if index in wanted:
            turns = round(frame.rotation / 90) % 4  # counterclockwise, as phones store what they film upright
            pixels = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
            aspect = float(stream.sample_aspect_ratio or 1)
            frames[index] = torch.from_numpy(pixels), 1 / aspect if turns % 2 else aspect
        if index >= max(wanted):
            break
    return frames


def _usual_gap(times: list[Fraction]) -> Fraction:
    gaps = sorted(after - before for before, after in pairwise(times))
    return gaps[len(gaps) // 2] if gaps else Fraction(0)
