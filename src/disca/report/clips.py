"""Clips on disk: written whole, with their colours, and listed beside the records that they belong to."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from disca.files import atomic, write_text_atomic

Frames = NDArray[np.uint8]
"""``[frames, height, width, 3]``, red, green and blue from 0 to 255."""

INDEX = "clips.json"
SUFFIXES = (".gif", ".webp", ".png", ".mp4")


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One clip of a comparison."""

    prompt: str
    name: str
    """Name of the record whose settings made it."""
    path: Path
    seed: int | None = None
    note: str = ""
    """A few words below the clip, such as its own PSNR."""


def write_clip(path: str | Path, frames: Frames, *, fps: float = 8, scale: int | None = None) -> None:
    """Write a clip as GIF, lossless WebP, animated PNG or MP4, by the suffix of ``path``; whole or not at all.

    Args:
        path: where to; an existing file is replaced.
        frames: ``[frames, height, width, 3]`` in uint8.
        fps: frames per second.
        scale: how many pixels a pixel becomes in each direction, without smoothing. By default tiny clips grow to
            about 192 pixels, others stay as they are.

    Raises:
        ValueError: another suffix, shape or type.
    """
    path = Path(path)
    check_suffix(path)
    _check(frames)
    larger = enlarge(frames, scale or max(1, round(192 / min(frames.shape[1:3]))))
    with atomic(path) as draft:
        if path.suffix.lower() == ".mp4":
            _write_video(draft, larger, fps)
        else:
            _write_images(draft, larger, fps)


def enlarge(frames: Frames, scale: int) -> Frames:
    """Every pixel as a square of ``scale`` by ``scale``."""
    return frames.repeat(scale, axis=1).repeat(scale, axis=2)


def reduce(frames: Frames) -> Frames:
    """The inverse of :func:`enlarge`, for the largest scale that loses nothing."""
    side = math.gcd(*frames.shape[1:3])
    for scale in (scale for scale in range(side, 1, -1) if side % scale == 0):
        small = frames[:, ::scale, ::scale]
        if np.array_equal(enlarge(small, scale), frames):
            return small
    return frames


def read_images(path: str | Path) -> tuple[Frames, float]:
    """Frames of a GIF, WebP or PNG, and the seconds that they take. Frames that a format merged are apart again."""
    with Image.open(path) as image:
        shown = [
            (frame.convert("RGB"), round(frame.info.get("duration", 0))) for frame in ImageSequence.Iterator(image)
        ]
    beat = math.gcd(*(duration for _, duration in shown)) or 1
    frames = [np.asarray(frame) for frame, duration in shown for _ in range(max(1, duration // beat))]
    return np.stack(frames), sum(duration for _, duration in shown) / 1000


def write_index(folder: str | Path, clips: Iterable[Clip]) -> None:
    """List clips that lie in ``folder``, so that a report finds them."""
    folder = Path(folder)
    rows = [asdict(clip) | {"path": clip.path.relative_to(folder).as_posix()} for clip in clips]
    write_text_atomic(folder / INDEX, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


def read_index(folder: str | Path) -> list[Clip]:
    """The clips that :func:`write_index` listed; none where there is no list.

    Raises:
        ValueError: the list is damaged, or a clip is missing.
    """
    index = Path(folder) / INDEX
    if not index.is_file():
        return []
    try:
        rows: list[dict[str, Any]] = json.loads(index.read_text(encoding="utf-8"))
        clips = [Clip(**(row | {"path": index.parent / row["path"]})) for row in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{index} is damaged: {error}. Sample the clips again, or delete it.") from error
    for clip in clips:
        if not clip.path.is_file():
            raise ValueError(f"{index} lists {clip.path.name}, which is missing. Sample the clips again, or delete it.")
    return clips


def check_suffix(path: str | Path) -> None:
    """Refuse a path whose suffix names no format of clips.

    Raises:
        ValueError: it names none; the message lists those that do.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise ValueError(f"A clip is written as {', '.join(SUFFIXES)}; the name {str(path)!r} ends in none of them.")


def _check(frames: Frames) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise ValueError(
            f"A clip is [frames, height, width, 3] in uint8, not {list(frames.shape)} in {frames.dtype}. "
            "Multiply floats in [0, 1] by 255 and round."
        )


def _write_images(path: Path, frames: Frames, fps: float) -> None:
    images = [Image.fromarray(frame) for frame in frames]
    options: dict[str, Any] = {"save_all": True, "duration": round(1000 / fps), "loop": 0}
    if path.suffix.lower() == ".gif":
        # A palette of each frame's own, without dither: moving dots would look like noise of the model.
        images = [image.quantize(256, dither=Image.Dither.NONE, kmeans=3) for image in images]
        options |= {"disposal": 1, "optimize": False}
    elif path.suffix.lower() == ".webp":
        options |= {"lossless": True}
    images[0].save(path, append_images=images[1:], **options)


def _write_video(path: Path, frames: Frames, fps: float) -> None:
    from imageio_ffmpeg import write_frames

    height, width = frames.shape[1:3]
    even = frames[:, : height - height % 2, : width - width % 2]  # what every player understands has even sides
    writer = write_frames(
        path, even.shape[2:0:-1], fps=fps, codec="libx264", pix_fmt_out="yuv420p", macro_block_size=1, quality=9
    )
    with closing(writer):
        writer.send(None)
        for frame in even:
            writer.send(np.ascontiguousarray(frame))
