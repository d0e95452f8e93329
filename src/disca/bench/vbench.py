"""Videos laid out as the VBench tool expects them (Huang et al. 2024, arXiv 2311.17982), and its results in records.

VBench reads ``VIDEOS/PROMPT-INDEX.mp4`` and writes ``NAME_eval_results.json``: by dimension a score, and the score of
each video.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.progress import Progress
from torch import Tensor

from disca import records as files
from disca.bench.bench import load_models
from disca.bench.grid import Grid, ModelEntry
from disca.bench.models import Model, Pairs
from disca.bench.plan import Cells, cells_of
from disca.bench.rows import Row
from disca.bench.sampling import sample
from disca.errors import unknown
from disca.files import check_writable, write_text_atomic
from disca.metrics.intervals import bootstrap
from disca.provenance import command_line, hardware, now, versions
from disca.records import Record

QUALITY: dict[str, tuple[float, float, float]] = {
    "subject_consistency": (0.1462, 1.0, 1.0),
    "background_consistency": (0.2615, 1.0, 1.0),
    "temporal_flickering": (0.6293, 1.0, 1.0),
    "motion_smoothness": (0.706, 0.9975, 1.0),
    "aesthetic_quality": (0.0, 1.0, 1.0),
    "imaging_quality": (0.0, 1.0, 1.0),
    "dynamic_degree": (0.0, 1.0, 0.5),
}
"""Dimensions of quality: least and greatest score by which VBench normalises, and the weight in the mean."""
SEMANTIC: dict[str, tuple[float, float, float]] = {
    "object_class": (0.0, 1.0, 1.0),
    "multiple_objects": (0.0, 1.0, 1.0),
    "human_action": (0.0, 1.0, 1.0),
    "color": (0.0, 1.0, 1.0),
    "spatial_relationship": (0.0, 1.0, 1.0),
    "scene": (0.0, 0.8222, 1.0),
    "appearance_style": (0.0009, 0.2855, 1.0),
    "temporal_style": (0.0, 0.364, 1.0),
    "overall_consistency": (0.0, 0.364, 1.0),
}
"""The same of what a prompt asks for."""
QUALITY_WEIGHT, SEMANTIC_WEIGHT = 4, 1
DIMENSIONS = (*QUALITY, *SEMANTIC)
SAMPLES, FLICKER_SAMPLES = 5, 25
"""Videos of a prompt; ``temporal_flickering`` wants more, because VBench keeps the still ones of them."""
VIDEOS = "videos"

Write = Callable[[Path, Tensor], None]
"""Writes a clip ``[frames, 3, height, width]`` in [0, 1] as a file."""


@dataclass(frozen=True)
class Video:
    """One video to sample."""

    prompt: str
    index: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.prompt}-{self.index}.mp4"


def layout(info: str | Path, dimensions: Sequence[str] = (), *, seed: int = 0) -> list[Video]:
    """The videos that VBench wants for some dimensions, or for all, from its list ``VBench_full_info.json``.

    Raises:
        ValueError: a dimension that VBench does not have, or a file that is no such list.
    """
    for name in dimensions:
        if name not in DIMENSIONS:
            raise ValueError(unknown("dimension of VBench", name, DIMENSIONS))
    wanted = set(dimensions or DIMENSIONS)
    counts: dict[str, int] = {}
    for prompt, its in _info(Path(info)):
        if "/" in prompt or "\0" in prompt:
            raise ValueError(f"The prompt {prompt!r} cannot be the name of a file, as VBench wants it.")
        if wanted & set(its):
            more = FLICKER_SAMPLES if "temporal_flickering" in wanted & set(its) else SAMPLES
            counts[prompt] = max(more, counts.get(prompt, 0))
    if not counts:
        raise ValueError(f"{info} has no prompts for {', '.join(dimensions)}.")
    places = [(prompt, index) for prompt, count in counts.items() for index in range(count)]
    return [Video(prompt, index, seed * 1_000_000 + number) for number, (prompt, index) in enumerate(places)]


def lay_out(
    grid: Grid, videos: Sequence[Video], output: str | Path, load: Callable[[ModelEntry], Model], write: Write
) -> list[Record]:
    """Sample every video by every row of a grid into ``videos/ROW/PROMPT-INDEX.mp4``; those that are there stay.

    Writes ``records.jsonl`` and ``vbench.json``, which lists prompts, seeds and files. Rivals of plain steps are left
    out: give their step counts to the model.

    Raises:
        ValueError: bad options, before anything is sampled.
    """
    output = check_writable(output)
    grid = replace(grid, prompts=tuple(dict.fromkeys(video.prompt for video in videos)), pairs=0, rivals=(), peers=())
    cells = cells_of(grid, load_models(grid, load))
    listed = [
        {"prompt": video.prompt, "index": video.index, "seed": video.seed, "file": video.name} for video in videos
    ]
    write_text_atomic(output / "vbench.json", json.dumps({"rows": _names(cells), "videos": listed}, indent=1) + "\n")
    with Progress() as bar:
        line = bar.add_task("vbench", total=len(videos) * len(cells.rows))
        rows = [_sample(row, videos, output, write, lambda: bar.advance(line)) for row in cells.rows]
    files.write(output / "records.jsonl", rows)
    return rows


def _names(cells: Cells) -> list[str]:
    return [row.name for row in cells.rows]


def _sample(row: Row, videos: Sequence[Video], output: Path, write: Write, step: Callable[[], None]) -> Record:
    folder = output / VIDEOS / row.name
    folder.mkdir(parents=True, exist_ok=True)
    noted = folder.parent / f"{row.name}.json"
    facts = json.loads(noted.read_text()) if noted.is_file() else {}
    for video in videos:
        if not (folder / video.name).is_file() or video.name not in facts:
            call = sample(row.trial, Pairs((video.prompt,), (video.seed,)))
            write(folder / video.name, call.frames[0])
            facts[video.name] = call.facts
            write_text_atomic(noted, json.dumps(facts) + "\n")
        step()
    return _record(row, videos, [facts[video.name] for video in videos])


def _record(row: Row, videos: Sequence[Video], facts: Sequence[Mapping[str, Any]]) -> Record:
    evaluations = sum(one["evaluations"] for one in facts) / len(facts)
    return Record(
        name=row.name,
        policy=row.policy,
        steps=row.trial.steps,
        full_steps=tuple(facts[0]["full"]),
        transformer_evaluations=round(evaluations),
        seconds=sum(one["seconds"] for one in facts) / len(facts),
        seconds_end_to_end=sum(one["end_to_end"] for one in facts) / len(facts),
        bytes_held=max(one["bytes_held"] for one in facts),
        seeds=tuple(video.seed for video in videos),
        prompts=tuple(video.prompt for video in videos),
        versions=versions(),
        hardware=hardware(),
        command=command_line(),
        date=now(),
        extra={"label": row.label, "videos": f"{VIDEOS}/{row.name}", "mean_evaluations": evaluations, **row.extra},
    )


def with_results(records: Sequence[Record], results: Iterable[str | Path]) -> list[Record]:
    """The records with the scores that VBench's result files hold, in ``extra["vbench"]``, each with an interval.

    A file belongs to the record whose folder its videos are in, or else to the one that its name begins with.

    Raises:
        ValueError: a file that is no result, or belongs to no record; a dimension that VBench does not have.
    """
    found = {record.name: record for record in records}
    for path in map(Path, results):
        scores = _results(path)
        name = _row_of(path, scores, found)
        found[name] = _scored(found[name], scores)
    return list(found.values())


def total(scores: Mapping[str, float]) -> dict[str, float]:
    """``quality``, ``semantic`` and ``total`` as VBench weighs them, as far as all their dimensions are there."""
    found = {}
    for name, table in (("quality", QUALITY), ("semantic", SEMANTIC)):
        if all(dimension in scores for dimension in table):
            parts = [(weight * (scores[d] - low) / (high - low), weight) for d, (low, high, weight) in table.items()]
            found[name] = sum(part for part, _ in parts) / sum(weight for _, weight in parts)
    if len(found) == 2:
        weighed = QUALITY_WEIGHT * found["quality"] + SEMANTIC_WEIGHT * found["semantic"]
        found["total"] = weighed / (QUALITY_WEIGHT + SEMANTIC_WEIGHT)
    return found


def _scored(record: Record, results: Mapping[str, tuple[float, list[Any]]]) -> Record:
    scores = {**record.extra.get("vbench", {}), **{name: score for name, (score, _) in results.items()}}
    scores = {name: value for name, value in scores.items() if name in DIMENSIONS}
    intervals = dict(record.intervals)
    for name, (score, videos) in results.items():
        pair = _interval(score, [video.get("video_results") for video in videos])
        if pair is not None:
            intervals[f"vbench_{name}"] = pair
    return replace(record, intervals=intervals, extra={**record.extra, "vbench": {**scores, **total(scores)}})


def _interval(score: float, values: Sequence[Any]) -> tuple[float, float] | None:
    """An interval of the mean over videos; none where their scores are of another kind than the mean."""
    if not values or any(not isinstance(value, int | float) for value in values):
        return None
    mean = sum(values) / len(values)
    for scale in (1.0, 0.01):  # imaging quality is in per cent for the videos
        if abs(scale * mean - score) < 1e-3 * max(abs(score), 1e-3):
            low, high = bootstrap([scale * float(value) for value in values])
            return low, high
    return None


def _row_of(path: Path, results: Mapping[str, tuple[float, list[Any]]], known: Mapping[str, Record]) -> str:
    for _, videos in results.values():
        for video in videos:
            parents = Path(str(video.get("video_path", ""))).parent
            if parents.name in known:
                return parents.name
    name = path.name.removesuffix("_eval_results.json")
    if name not in known:
        raise ValueError(f"{path} belongs to no row: its videos are in no row's folder. {unknown('row', name, known)}")
    return name


def _results(path: Path) -> dict[str, tuple[float, list[Any]]]:
    stored = _json(path)
    if not isinstance(stored, dict) or not stored:
        raise ValueError(f"{path} is no result of VBench: it holds no dimensions.")
    found = {}
    for name, value in stored.items():
        if name not in DIMENSIONS:
            raise ValueError(f"{path}: {unknown('dimension of VBench', name, DIMENSIONS)}")
        if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], int | float):
            raise ValueError(f"{path} is no result of VBench: {name} is not a score and a list of videos.")
        found[name] = (float(value[0]), [one for one in value[1] if isinstance(one, dict)])
    return found


def _info(path: Path) -> list[tuple[str, list[str]]]:
    stored = _json(path)
    try:
        return [(entry["prompt_en"], list(entry["dimension"])) for entry in stored]
    except (TypeError, KeyError) as error:
        raise ValueError(
            f"{path} is not VBench's list of prompts, which has prompt_en and dimension: {error}"
        ) from error


def _json(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. VBench_full_info.json comes with the VBench tool.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}.") from error
