"""`disca sample`: one clip, or as many as a file has prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from disca.cli.printing import Printing, say
from disca.cli.subject import check, frame_rate, in_lab, settings, subject
from disca.errors import FailedError

if TYPE_CHECKING:
    from disca.sampling.share import Share
    from disca.sampling.wishes import Wish


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Sample one clip, or many: a prompt, or --prompts FILE.

    disca sample "a blue three bouncing up"

    disca sample "a red seven drifting left" --policy taylor --steps 8 --full-steps 0 2 4 7 --output seven.mp4

    disca sample "a paper boat" --model path/to/pipeline --policy "taylorseer(every=5)" --steps 50 --size 832x480x81

    disca sample "a red seven drifting left" --model lab-distilled --bundle my-bundle

    disca sample --prompts prompts.csv --output clips

    accelerate launch --multi_gpu -m disca.cli sample --prompts prompts.jsonl --model path/to/pipeline --output clips

    torchrun --nproc-per-node 8 --no-python disca sample --prompts prompts.txt --model path/to/pipeline --output clips

    Each process of a launcher samples a part of the file. The same command goes on where it was interrupted, and tries
    again what failed.
    """

    prompt: Positional[str] = ""
    """What the clip shows. The lab knows "a COLOUR DIGIT MOTION"."""
    prompts: Path | None = None
    """Many clips: .txt with a prompt a line, or .jsonl or .csv with a column prompt and, where wanted, seed, name, and
    image for pipelines that begin with one. Each prompt without a seed has --seed plus its place in the file."""
    model: str = "lab"
    """The folder of a diffusers pipeline, or one of the lab's: lab (the student), lab-base, lab-distilled."""
    bundle: Path | None = None
    """A bundle for that pipeline."""
    policy: str | None = None
    """How steps are saved: none, or any method with its options, such as "taylorseer(every=4, order=1)". When left out:
    the bundle's, disca for the lab's student, none for others."""
    steps: int | None = None
    """Sampling steps. When left out: those of the bundle's first schedule, 8 in the lab, the pipeline's own choice."""
    full_steps: Annotated[tuple[int, ...] | None, arg(metavar="INT [INT ...]")] = None
    """Steps that are computed in full, from 0; about half of them when left out and the method needs to know."""
    guidance_scale: float | None = None
    """How strongly the clip follows the prompt; the model's own choice when left out."""
    negative_prompt: str | None = None
    """What the clip should not show, for pipelines that take it."""
    size: str | None = None
    """WIDTHxHEIGHTxFRAMES of the clip, such as 832x480x81; the pipeline's own choice when left out."""
    seed: int = 0
    """Seed of the noise; equal seeds give equal clips."""
    fps: float | None = None
    """Frames per second of the file; 8 in the lab and 16 elsewhere when left out."""
    dtype: str = ""
    """Of the weights: float32, bfloat16 or float16; bfloat16 on a GPU and float32 elsewhere when left out."""
    output: Path | None = None
    """Where the clip goes, as .mp4, .gif, .webp or .png; with --prompts a folder. clip.mp4, or clips, when left out."""
    suffix: Literal["mp4", "gif", "webp", "png"] = "mp4"
    """What the files are, with --prompts."""
    printing: Printing = Printing()


def sample(options: Sample) -> dict[str, Any]:
    """Sample into a file, or into a folder.

    Raises:
        ValueError: neither or both of a prompt and a file of prompts; what the model or the method refuses.
        FailedError: some of many clips failed; the others are there.
    """
    if bool(options.prompt) == (options.prompts is not None):
        raise ValueError('Give either a prompt, such as "a blue three bouncing up", or --prompts FILE.')
    if options.seed < 0:
        raise ValueError(f"--seed is a whole number from 0, not {options.seed}.")
    if options.fps is not None and not options.fps > 0:
        raise ValueError(f"--fps is how many frames a second has, above 0, not {options.fps:g}.")
    return one(options) if options.prompts is None else many(options)


def one(options: Sample) -> dict[str, Any]:
    """Sample one clip into a file."""
    from disca.files import check_writable
    from disca.lab.words import parse
    from disca.report.clips import check_suffix

    output = options.output or Path("clip.mp4")
    check_suffix(output)
    check(options)
    if in_lab(options):
        parse(options.prompt)
    check_writable(output.parent)
    from disca.sampling.bulk import facts
    from disca.sampling.sampler import sampler
    from disca.sampling.wishes import Wish

    model, policy = subject(options)
    with sampler(model, policy) as sampled:
        clip = sampled(Wish(name=output.stem, prompt=options.prompt, seed=options.seed))
    _write(output, clip.frames, options)
    say(str(clip.summary))
    say(f"Wrote {output}")
    return {"output": str(output), **settings(options, model), "seed": options.seed, **facts(clip)}


def many(options: Sample) -> dict[str, Any]:
    """Sample this process's share of a file of prompts into a folder."""
    from disca.sampling.share import Share
    from disca.sampling.wishes import read

    assert options.prompts is not None
    folder, share = options.output or Path("clips"), Share.from_environment()
    if folder.suffix and not folder.is_dir():
        raise ValueError(
            f"With --prompts, --output is a folder, not {str(folder)!r}; --suffix says what the files are."
        )
    wishes = read(options.prompts, seed=options.seed)
    check(options)
    from disca.sampling.bulk import sample_all
    from disca.sampling.sampler import sampler
    from disca.sampling.shelf import MANIFEST, Shelf

    model, policy = subject(options, _device(share))
    shelf = Shelf(folder, {**settings(options, model), "suffix": options.suffix}, f".{options.suffix}")
    shelf.open(wishes)
    with _bar(len(share.part(wishes)), shown=share.rank == 0) as settled, sampler(model, policy) as sampled:
        outcome = sample_all(
            sampled, wishes, shelf, lambda path, frames: _write(path, frames, options), share=share, progress=settled
        )
    process = f"Process {share.rank} of {share.of}: " if share.of > 1 else ""
    failed = f", {outcome.own_failures} failed" if outcome.own_failures else ""
    say(f"{process}{outcome.sampled} sampled, {outcome.there} there already{failed}. Manifest: {folder / MANIFEST}")
    result = {"output": str(folder), "manifest": str(folder / MANIFEST), "process": share.rank, **vars(outcome)}
    if outcome.failed:
        name, why = next(iter(outcome.failed.items()))
        raise FailedError(
            f"{len(outcome.failed)} of {len(wishes)} clips failed, {name} for one: {why}. The manifest has the others; "
            "the same command tries them again.",
            result,
        )
    return result


def _write(path: Path, frames: Any, options: Sample) -> None:
    """A clip ``[frames, 3, height, width]`` in [0, 1] as a file."""
    from disca.report.clips import write_clip

    pixels = frames.movedim(1, -1).mul(255).round().byte().numpy()
    write_clip(path, pixels, fps=frame_rate(options), scale=None if in_lab(options) else 1)


def _device(share: Share) -> str:
    """The GPU of a process; none where there are no GPUs."""
    import torch

    return f"cuda:{share.local % torch.cuda.device_count()}" if torch.cuda.is_available() else ""


@contextmanager
def _bar(total: int, *, shown: bool) -> Iterator[Callable[[Wish], None]]:
    """Shows how far many clips are; gives what is to be called for each."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, disable=not shown) as bar:
        line = bar.add_task("sampling", total=total)
        yield lambda wish: bar.update(line, advance=1, description=wish.name)
