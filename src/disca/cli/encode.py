"""`disca encode`: clips for training, encoded once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from disca.cli.printing import Printing, say


@dataclass(frozen=True, kw_only=True)
class Encode:
    """Encode a folder of videos, or clips that the model samples from prompts, into shards for training.

    disca encode videos --model path/to/pipeline --output shards --size 832x480x81 --fps 16

    disca encode --prompts prompts.txt --model path/to/pipeline --output shards --size 832x480x81 --steps 50
    --guidance 5

    The same command again goes on where it stopped.
    """

    videos: Positional[Path | None] = None
    """A folder of videos (.mp4, .webm, .mov), each with a caption: in the folder's .jsonl or .csv (columns file and
    caption), or in a .txt of the same name beside it."""
    model: Path
    """The pipeline that is trained, a folder of diffusers."""
    output: Path
    """Folder of the shards."""
    size: str
    """Width, height and frames, such as 832x480x81."""
    captions: Path | None = None
    """The table with the captions, where there are several in the folder or it is elsewhere."""
    fps: float | None = None
    """Frames in a second of a clip; every frame of the video when left out."""
    take: Literal["first", "centre"] = "first"
    """Which part of a longer video is taken."""
    prompts: Path | None = None
    """Prompts instead of videos: .txt with one a line, or .jsonl or .csv with a column prompt (and image, for
    image-to-video models)."""
    steps: int | None = None
    """Sampling steps of the model, with --prompts."""
    guidance: float | None = None
    """Guidance scale of the model, with --prompts."""
    repeats: int = 1
    """Clips of each prompt, with --prompts."""
    seed: int = 0
    """Of the noise, with --prompts."""
    negative_prompt: str = ""
    """What the unconditional pass of guidance is given."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """What is stored, and what the text encoders (and with --prompts the model) work in; a VAE works in float32."""
    per_shard: int = 64
    """Clips in a file."""
    printing: Printing = Printing()


def encode(options: Encode) -> dict[str, Any]:
    """Encode, and say which files gave no clip.

    Raises:
        ValueError: options that do not go together.
    """
    plan, (items, skipped) = _plan(options), _items(options)
    from disca.data.encode import DTYPES
    from disca.data.encode import encode as work
    from disca.data.hosts import open_host
    from disca.files import check_writable

    check_writable(options.output)
    pipe = open_host(options.model, dtype=DTYPES[options.dtype], samples=plan.teacher is not None)
    index = work(pipe, items, plan, options.output, skipped=skipped, per_shard=options.per_shard)
    if index.skipped:
        say(f"{len(index.skipped)} files gave no clip:")
        for name, why in sorted(index.skipped.items()):
            say(f"  {name}: {why}")
    say(f"{index.clips} clips in {len(index.shards)} shards: {options.output}")
    shards = [str(options.output / shard.file) for shard in index.shards]
    return {"clips": index.clips, "shards": shards, "skipped": dict(index.skipped)}


def parse_size(size: str) -> tuple[int, int, int]:
    """``832x480x81`` as width, height and frames.

    Raises:
        ValueError: it is not written so.
    """
    parts = size.lower().split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ValueError(f"--size is written WIDTHxHEIGHTxFRAMES, such as 832x480x81, not {size!r}.")
    width, height, frames = map(int, parts)
    return width, height, frames


def _plan(options: Encode) -> Any:
    from disca.data.index import Plan, Teacher

    width, height, frames = parse_size(options.size)
    _check(options)
    teacher = None
    if options.prompts is not None:
        assert options.steps is not None and options.guidance is not None
        teacher = Teacher(steps=options.steps, guidance=options.guidance, seed=options.seed)
    return Plan(
        width=width,
        height=height,
        frames=frames,
        fps=options.fps,
        take=options.take,
        dtype=options.dtype,
        negative_prompt=options.negative_prompt,
        teacher=teacher,
    )


def _check(options: Encode) -> None:
    if (options.videos is None) == (options.prompts is None):
        raise ValueError("Give either a folder of videos or --prompts FILE: the clips come from one of them.")
    sampling = {"--steps": options.steps, "--guidance": options.guidance}
    if options.prompts is not None and (missing := [name for name, value in sampling.items() if value is None]):
        raise ValueError(f"With --prompts the model samples the clips: say how with {' and '.join(missing)}.")
    if options.prompts is None and (given := [name for name, value in sampling.items() if value is not None]):
        raise ValueError(f"{' and '.join(given)} go with --prompts: real videos are not sampled.")
    numbers = {"--steps": options.steps, "--fps": options.fps, "--repeats": options.repeats}
    for name, value in {**numbers, "--per-shard": options.per_shard}.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name} is {value}; it must be positive.")


def _items(options: Encode) -> Any:
    from disca.data import captions

    if options.prompts is not None:
        return captions.prompts(options.prompts, repeats=options.repeats), {}
    assert options.videos is not None
    return captions.videos(options.videos, options.captions)
