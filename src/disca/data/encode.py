"""Clips into shards: real videos by the pipeline's VAE, or prompts by the teacher's own sampling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from disca.data import shards, videos
from disca.data.captions import Item
from disca.data.conditions import Canvas
from disca.data.forms import form_for
from disca.data.identity import identities
from disca.data.index import FILE, SHARED, Index, Plan
from disca.data.shards import Flat, Writer, flatten, stored
from disca.data.teacher import sample
from disca.data.videos import Cut, UnreadableError
from disca.errors import unknown
from disca.files import check_writable
from disca.provenance import command_line, hardware, now, versions

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


@torch.no_grad()
def encode(
    pipe: Any,
    items: Sequence[Item],
    plan: Plan,
    output: Path,
    *,
    skipped: dict[str, str] | None = None,
    per_shard: int = 64,
) -> Index:
    """Encode clips into ``output``, after those that are there; a progress bar shows how far it is.

    Args:
        pipe: The pipeline to be trained, on the device to work on. For real videos its transformer's weights are not
            needed, only its configuration.
        items: Videos, or prompts where the plan has a teacher.
        plan: What decides the contents.
        skipped: Files that are no items, and why, for the record.
        per_shard: Clips in a file.

    Returns:
        The index, whose ``skipped`` says which files gave no clip, and why.

    Raises:
        ValueError: a pipeline without a description, a size that does not fit it, an output that was made in another
            way, or not one readable file.
        OSError: the output cannot be written.
    """
    maker = Maker(pipe, plan)
    index = _begin(output, maker)
    writer = Writer(output, index, per_shard=per_shard)
    writer.skip(skipped or {})
    todo = _todo(items, writer, output)
    if not (output / SHARED).exists():
        shards.write(output / SHARED, maker.shared())
    with _progress() as bar, _kept(writer):
        line = bar.add_task("encode", total=len(items), completed=len(items) - len(todo), shown="")
        for item in todo:
            try:
                writer.add(item.name, item.text, maker.clip(item))
            except UnreadableError as error:
                writer.skip({item.name: str(error)})
            bar.update(line, advance=1, shown=f"{len(writer.index.skipped)} skipped")
    if not writer.index.clips:
        raise ValueError(_nothing(writer.index))
    return writer.index


class Maker:
    """Makes the tensors of one clip after another."""

    def __init__(self, pipe: Any, plan: Plan) -> None:
        self.pipe, self.plan, self.form = pipe, plan, form_for(pipe)
        if plan.dtype not in DTYPES:
            raise ValueError(unknown("dtype", plan.dtype, DTYPES))
        self.dtype = DTYPES[plan.dtype]
        shape = self.form.shape(pipe, plan.width, plan.height, plan.frames)
        self.canvas = Canvas(plan.width, plan.height, plan.frames, shape, pipe.vae.device)
        take: Any = plan.take
        self.cut = Cut(width=plan.width, height=plan.height, frames=plan.frames, fps=plan.fps, take=take)

    def index(self) -> Index:
        """Of a set without clips."""
        pipe = self.pipe
        about = {"versions": versions(), "hardware": hardware(), "command": command_line(), "date": now()}
        return Index(
            pipeline=type(pipe).__name__,
            encoders=identities(pipe),
            plan=self.plan,
            latent_shape=self.canvas.latent_shape,
            normalised=self.form.statistics(pipe.vae),
            boundary=pipe.config.get("boundary_ratio"),
            provenance=about,
        )

    def shared(self) -> Flat:
        """The negative prompt, beside a black picture where prompts are read together with one; and the condition where
        it is the same for every clip. Without a dimension of clips."""
        form, pipe = self.form, self.pipe
        image = _picture(torch.zeros(self.plan.height, self.plan.width, 3, dtype=torch.uint8))
        prompt = form.encode_prompt(pipe, [self.plan.negative_prompt], image, negative=True)
        condition = {} if form.takes_image else form.condition(pipe, None, self.canvas)
        return self._stored(flatten(unconditional=prompt, condition=condition))

    def clip(self, item: Item) -> Flat:
        """Latents, prompt and condition of one clip.

        Raises:
            UnreadableError: its file gives none.
        """
        form, pipe = self.form, self.pipe
        frames = self._frames(item)
        image = _picture(frames[0]) if frames is not None and form.takes_image else None
        prompt = form.encode_prompt(pipe, [item.text], image)
        condition = form.condition(pipe, image, self.canvas) if form.takes_image else {}
        if self.plan.teacher is None:
            assert frames is not None
            latents = form.encode_clip(pipe, videos.to_pixels(frames))
        else:
            latents = sample(pipe, form, item, image, self.canvas, self.plan)
        made = self._stored({"latents": latents, **flatten(prompt=prompt, condition=condition)})
        if wrong := [name for name, value in made.items() if not value.isfinite().all()]:
            raise UnreadableError(f"its {wrong[0]} has values that are not finite; {self.plan.dtype} may be too narrow")
        return made

    def _frames(self, item: Item) -> torch.Tensor | None:
        if self.plan.teacher is None:
            assert item.path is not None
            return videos.read(item.path, self.cut)
        if not self.form.takes_image:
            return None
        if item.path is None:
            raise UnreadableError(f"{type(self.pipe).__name__} begins with an image, and the prompt has none")
        return videos.picture(item.path, self.plan.width, self.plan.height)[None]

    def _stored(self, tensors: Flat) -> Flat:
        return {name: stored(value[0], self.dtype) for name, value in tensors.items()}


def _begin(output: Path, maker: Maker) -> Index:
    """The index to go on from: that of the output, or a fresh one."""
    check_writable(output)
    fresh = maker.index()
    if not (output / FILE).exists():
        return fresh
    there = Index.read(output)
    there.check_same_making(fresh, output)
    return there


def _todo(items: Sequence[Item], writer: Writer, output: Path) -> list[Item]:
    done = writer.done()
    if changed := shards.unequal(((item.name, item.text) for item in items), done):
        raise ValueError(
            f"{output} holds {len(changed)} clips whose text has changed since, such as {changed[0]}. Encode into "
            "another --output, or give the texts that they were made with."
        )
    return [item for item in items if item.name not in done]


@contextmanager
def _kept(writer: Writer) -> Iterator[None]:
    """What was encoded is written, also when somebody stops the work; not after an error in writing."""
    try:
        yield
    except KeyboardInterrupt:
        writer.flush()
        raise
    writer.flush()


def _nothing(index: Index) -> str:
    reasons = "; ".join(f"{name}: {why}" for name, why in list(index.skipped.items())[:3])
    return f"Not one of {len(index.skipped)} files gave a clip, so there is nothing to train on. {reasons}."


def _picture(frame: torch.Tensor) -> Any:
    from PIL import Image

    return Image.fromarray(frame.numpy())


def _progress() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[shown]}")
    return Progress(*columns, TimeRemainingColumn())
