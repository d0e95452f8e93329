"""Small real video files, and whole pipelines on disk."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

CODECS = {".mp4": "mpeg4", ".mov": "mpeg4", ".webm": "libvpx"}


def grey(frames: int, *, width: int = 48, height: int = 32, step: int = 8) -> Tensor:
    """Frames ``[frames, height, width, 3]``, each evenly grey and brighter than the one before."""
    levels = (16 + step * torch.arange(frames)).byte()
    return levels[:, None, None, None].expand(frames, height, width, 3)


def write_video(path: Path, frames: Tensor, *, fps: int = 8, gaps: list[int] | None = None, between: int = 0) -> Path:
    """A video file; ``gaps`` are the times for which frames are shown, in units of ``1 / fps``, and
    ``between`` how many frames in a row are stored after the one that follows them (B-frames)."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    starts = np.cumsum([0, *(gaps or [1] * len(frames))])
    with av.open(str(path), "w") as container:
        stream = container.add_stream(CODECS[path.suffix], rate=fps)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 2_000_000
        stream.codec_context.max_b_frames = between
        for picture, start in zip(frames, starts, strict=False):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture.numpy()), format="rgb24")
            frame.pts, frame.time_base = int(start), Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def levels(clip: Tensor) -> list[int]:
    """Which frame of :func:`grey` each is."""
    return ((clip.float().mean((1, 2, 3)) - 16) / 8).round().int().tolist()
