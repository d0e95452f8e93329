"""The size of a clip as options say it, and as pipelines take it."""

from __future__ import annotations

from pathlib import Path

from disca.cli.encode import parse_size


def sized(size: str | None, model: str) -> dict[str, int]:
    """Arguments of a pipeline's call for ``WIDTHxHEIGHTxFRAMES``; none, and so the pipeline's own, when left out.

    Raises:
        ValueError: it is not written so, or the model is one of the lab's, which have one size.
    """
    if size is None:
        return {}
    width, height, frames = parse_size(size)
    if not Path(model).is_dir():
        raise ValueError(
            f"--size is for a folder of a pipeline of your own. {model!r} has a size of its own: leave it out."
        )
    return {"width": width, "height": height, "num_frames": frames}
