"""`disca bench`: methods side by side on the same prompts and noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import arg

from disca.cli.printing import Printing, say
from disca.errors import FailedError

if TYPE_CHECKING:
    from disca.bench.bench import Kept
    from disca.bench.grid import Grid, ModelEntry
    from disca.bench.models import Model
    from disca.bench.rows import Row
    from disca.trajectories import Trajectories


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Compare caching methods, settings and step counts on one pipeline, and plain steps beside them.

    disca bench --grid benchmarks/grids/smoke.toml --output runs/smoke

    disca bench --model lab-student --steps 8 20 --method "taylor(every=4)" "reuse(every=2)" --pairs 20 --output runs/a

    disca bench --model path/to/pipeline --steps 50 --method "reuse(every=5)" --prompts "a paper boat" --output runs/b

    disca bench --suite real-size --output runs/real

    disca bench --suite vbench --vbench-info VBench_full_info.json --model path/to/pipeline --steps 50 --output runs/c

    The same command goes on where it was interrupted.
    """

    output: Path
    """Folder of records.jsonl, the page index.html, clips, and the state of a grid that is under way."""
    grid: Path | None = None
    """A grid, a TOML file; or describe a simple one with the options below."""
    model: str = "lab-student"
    """lab-base, lab-distilled, lab-student, or the folder of a diffusers pipeline."""
    bundle: Path | None = None
    """A bundle whose student and predictor the pipeline is sampled with."""
    steps: Annotated[tuple[int, ...], arg(metavar="INT [INT ...]")] = (8,)
    """Step counts."""
    size: str | None = None
    """A clip, as WIDTHxHEIGHTxFRAMES in pixels; the pipeline's own when left out."""
    method: Annotated[tuple[str, ...], arg(metavar="METHOD [METHOD ...]")] = ()
    """Methods with their options, such as "taylor(every=4, order=1)"."""
    peer: Annotated[tuple[str, ...], arg(metavar="PEER [PEER ...]")] = ()
    """Other libraries' methods, such as "diffusers.first_block_cache(threshold=0.1)"."""
    prompts: Annotated[tuple[str, ...], arg(metavar="TEXT [TEXT ...]")] = ()
    """What is sampled, every prompt with every seed; the lab's held-out prompts when left out."""
    seeds: Annotated[tuple[int, ...], arg(metavar="INT [INT ...]")] = (0,)
    """Seeds of the noise, with --prompts."""
    pairs: int = 20
    """How many of the lab's prompts, with a seed each."""
    batch: int = 1
    """Clips of one call of the pipeline."""
    repeats: int = 1
    """How often everything is timed."""
    clips: int = 0
    """How many clips of every row are written as files."""
    trajectories: bool = False
    """Also record where the features go along a run, for methods of one rule for all blocks; the page draws it."""
    fps: float = 8
    """Frames per second of clips and videos."""
    guidance_scale: float | None = None
    """Given to the pipeline."""
    suite: Literal["grid", "vbench", "real-size"] = "grid"
    """real-size times models of true size with random weights on your GPU. vbench lays out videos as the VBench tool
    expects them, and reads its results once they are there."""
    vbench_info: Path | None = None
    """VBench's list of prompts and dimensions, VBench_full_info.json."""
    vbench_results: tuple[Path, ...] = ()
    """Result files of the VBench tool, *_eval_results.json, to be read into the records."""
    dimensions: tuple[str, ...] = ()
    """VBench's dimensions to sample for; all when left out."""
    cell: Annotated[str, tyro.conf.arg(help_behavior_hint="")] = ""
    """For the bench itself: measure one peer's row of the grid begun in the folder."""
    printing: Printing = Printing()


def bench(options: Bench) -> dict[str, Any] | None:
    """Measure a grid, write its page and print its table.

    Raises:
        FailedError: some rows failed; the others are there.
    """
    from disca.bench.bench import bench as measure
    from disca.bench.bench import bench_cell
    from disca.report.page import write_page
    from disca.report.table import print_table

    if options.cell:
        bench_cell(options.output, options.cell, load)
        return None
    if options.suite != "grid":
        return {"vbench": vbench, "real-size": real_size}[options.suite](options)
    result = measure(grid_of(options), options.output, load)
    clips = write_clips(options.output, result.clips, options.fps)
    title = f"Bench: {grid_of(options).name}"
    paths = record_trajectories(grid_of(options), options.output) if options.trajectories else []
    write_page(options.output / "index.html", result.records, clips, title=title, trajectories=paths)
    print_table(result.records)
    say(f"Wrote {options.output / 'records.jsonl'} and {options.output / 'index.html'}")
    answer = {"output": str(options.output), "records": [row.to_dict() for row in result.records]}
    if failed := [row.name for row in result.records if "error" in row.extra]:
        raise FailedError(f"{len(failed)} rows failed: {', '.join(failed)}. Their records say why.", answer)
    return answer


def vbench(options: Bench) -> dict[str, Any]:
    """Lay out videos, or read VBench's results into the records that were written with them."""
    from disca import records
    from disca.bench.vbench import VIDEOS, lay_out, layout, with_results
    from disca.report.clips import write_clip
    from disca.report.table import print_table

    path = options.output / "records.jsonl"
    if options.vbench_results:
        rows = with_results(records.read(path), options.vbench_results)
        records.write(path, rows)
        print_table(rows)
        return {"output": str(options.output), "records": [row.to_dict() for row in rows]}
    if options.vbench_info is None:
        raise ValueError("--suite vbench needs --vbench-info, the VBench_full_info.json that comes with the tool.")
    videos = layout(options.vbench_info, options.dimensions, seed=options.seeds[0])
    lay_out(
        grid_of(options, sampled=False),
        videos,
        options.output,
        load,
        lambda file, frames: write_clip(file, _pixels(frames), fps=options.fps, scale=1),
    )
    say(f"Wrote {len(videos)} videos for each row into {options.output / VIDEOS}. Then, for each row:")
    say(f"  vbench evaluate --videos_path {options.output / VIDEOS}/ROW --dimension DIMENSION")
    say(f"  disca bench --suite vbench --output {options.output} --vbench-results RESULTS_eval_results.json")
    return {"output": str(options.output), "videos": len(videos)}


def real_size(options: Bench) -> dict[str, Any]:
    """Time full and forecast steps of models of true size, and write each record as it comes.

    Raises:
        ValueError: there is no GPU.
    """
    import torch
    from rich.progress import Progress

    from disca.bench import real_size as real
    from disca.bench.subjects import SUBJECTS, jobs

    if not torch.cuda.is_available():
        raise ValueError("--suite real-size needs a GPU. What a step costs is derived by: disca describe MODEL --size.")
    with Progress() as progress:
        bar = progress.add_task("measuring", total=None)
        rows = real.run(
            options.output / "records.jsonl",
            jobs(SUBJECTS, small=False, compiled=True),
            real.Bench(torch.device("cuda"), torch.bfloat16),
            report=lambda record, done, count: progress.update(
                bar, completed=done, total=count, description=record.name
            ),
        )
    say(f"{len(rows)} records in {options.output / 'records.jsonl'}")
    return {"output": str(options.output), "records": [row.to_dict() for row in rows]}


def _pixels(frames: Any) -> Any:
    """A clip ``[frames, 3, height, width]`` in [0, 1] as bytes ``[frames, height, width, 3]``."""
    return frames.movedim(1, -1).float().mul(255).round().byte().cpu().numpy()


def grid_of(options: Bench, *, sampled: bool = True) -> Grid:
    """The grid that the options name or describe; unless ``sampled``, what is sampled is said elsewhere."""
    from disca.bench.grid import Grid, MethodEntry, ModelEntry, PeerEntry, load, parse_method
    from disca.cli.size import sized

    if options.grid is not None:
        return load(options.grid)
    methods = [parse_method(text) for text in options.method]
    peers = [parse_method(text) for text in options.peer]
    name = Path(options.model).name.removeprefix("lab-") if options.model else ""
    call: dict[str, Any] = {} if options.guidance_scale is None else {"guidance_scale": options.guidance_scale}
    call |= sized(options.size, options.model)
    entry = ModelEntry(
        name=name, source=options.model, bundle=str(options.bundle or ""), steps=options.steps, call=call
    )
    return Grid(
        models=(entry,),
        methods=tuple(MethodEntry(method=name, settings=(given,)) for name, given in methods),
        peers=tuple(PeerEntry(peer=name, settings=(given,)) for name, given in peers),
        prompts=options.prompts,
        seeds=options.seeds,
        pairs=0 if options.prompts or not sampled else options.pairs,
        batch=options.batch,
        repeats=options.repeats,
        clips=options.clips,
    )


def load(entry: ModelEntry) -> Model:
    """The source of a model of a grid.

    Raises:
        ValueError: it is no stage of the lab and no folder of a pipeline.
    """
    if Path(entry.source).is_dir():
        from disca.bench.models import from_folder

        return from_folder(entry.source, dtype=entry.dtype, device=entry.device)
    from disca.lab.measure import from_source

    return from_source(entry.source)


def record_trajectories(grid: Grid, output: Path) -> list[Trajectories]:
    """Where the features go for the first pair, of every full run and the methods of the trunk beside it."""
    from disca import trajectories
    from disca.bench.bench import load_models
    from disca.bench.plan import cells_of, pairs_of
    from disca.bench.trajectories import LEAST, of_the_trunk, record

    models = load_models(grid, load)
    cells, pair = cells_of(grid, models), pairs_of(grid, models.values())[:1]
    groups: dict[str, list[Row]] = {}
    for row in cells.rows:
        cached = isinstance(row.trial.policy, tuple) and of_the_trunk(row.trial.policy)
        if cached and row.reference and row.trial.steps >= LEAST:
            groups.setdefault(row.reference, []).append(row)
    found = []
    for reference, rows in groups.items():
        policies = {row.name: row.trial.policy for row in rows if isinstance(row.trial.policy, tuple)}
        given: dict[str, Any] = {"prompt": pair.prompts[0], "seed": pair.seeds[0], "steps": rows[0].trial.steps}
        found.append(record(rows[0].trial.model, policies, reference=reference, **given))
    trajectories.write(output, found)
    return found


def write_clips(output: Path, kept: list[Kept], fps: float) -> list[Any]:
    """Clips as files, and their index for reports."""
    from disca.report.clips import Clip, write_clip, write_index

    clips = []
    for number, clip in enumerate(kept):
        path = output / "clips" / f"{number:04d}_{clip.row}.gif"
        path.parent.mkdir(exist_ok=True)
        write_clip(path, _pixels(clip.frames), fps=fps)
        clips.append(Clip(prompt=clip.prompt, name=clip.row, path=path, seed=clip.seed))
    if clips:
        write_index(output, clips)
    return clips
