"""One self-contained HTML page: the table, speed against closeness, clips side by side, and where it all comes from."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from disca.files import check_writable, write_text_atomic
from disca.records import Record
from disca.report.clips import Clip, Frames, read_images, reduce
from disca.report.columns import columns, label, note
from disca.report.frontier import charts
from disca.report.trajectories import pictures
from disca.trajectories import Trajectories

LARGEST = 20_000_000
"""Bytes of a page: more clips than fit are left out, and the page says so."""
LONGEST_STRIP = 16000
"""Pixels: browsers refuse much longer pictures."""


@dataclass(frozen=True)
class Shown:
    """A clip as the page embeds it."""

    clip: Clip
    title: str
    kind: str
    """``strip`` (frames side by side in one picture), ``image`` or ``video``."""
    source: Markup
    frames: int = 1
    width: int = 0
    height: int = 0
    seconds: float = 1.0


def write_page(
    path: str | Path,
    records: Sequence[Record],
    clips: Sequence[Clip] = (),
    *,
    title: str = "Comparison",
    lead: str = "",
    notes: Sequence[str] = (),
    trajectories: Sequence[Trajectories] = (),
) -> None:
    """Write a page that needs no network: everything is inside the file, which has at most :data:`LARGEST` bytes.

    Args:
        path: where to; written whole or not at all.
        records: rows of the table, in order.
        clips: clips to show side by side, those of one prompt and seed in one row, all playing in step.
        title: heading of the page.
        lead: one or two sentences below the heading.
        notes: sentences below the table, such as what a word in it means.
        trajectories: where features go along some runs.

    Raises:
        ValueError: there are no records.
        OSError: the folder cannot be written.
    """
    if not records:
        raise ValueError("There is nothing to report: the records are empty.")
    check_writable(Path(path).parent)
    write_text_atomic(path, render(records, clips, title=title, lead=lead, notes=notes, trajectories=trajectories))


def render(
    records: Sequence[Record],
    clips: Sequence[Clip],
    *,
    title: str,
    lead: str,
    notes: Sequence[str],
    trajectories: Sequence[Trajectories] = (),
) -> str:
    """The page as text."""
    labels = {record.name: label(record) for record in records}
    shown = [_show(clip, records) for clip in clips]
    gallery = [(prompt, list(row)) for prompt, row in groupby(shown, key=lambda item: _row_title(item.clip))]
    values: dict[str, Any] = {
        "title": title,
        "lead": lead,
        "notes": [*notes, *references(records)],
        "columns": columns(records),
        "records": records,
        "label": label,
        "note": note,
        "charts": [(name, [Markup(svg) for svg in pictures]) for name, pictures in charts(records)],
        "trajectories": [(one, [Markup(svg) for svg in pictures(one, labels)]) for one in trajectories],
        "labels": labels,
        "seconds": max((item.seconds for item in shown), default=1.0),
        "origin": origin(records),
        "sortable": _sortable,
    }
    template = _environment().get_template("page.html")
    room = LARGEST - len(template.render(gallery=[], left_out="", **values).encode())
    kept = _fitting(gallery, room)
    return template.render(gallery=kept, left_out=_left_out(gallery, kept), **values)


Gallery = list[tuple[str, list[Shown]]]


def _fitting(gallery: Gallery, room: int) -> Gallery:
    """The first prompts whose clips fit into so many bytes, with a few hundred for what stands around each."""
    kept: Gallery = []
    for prompt, row in gallery:
        room -= sum(len(item.source) + len(item.title) + 4 * len(item.clip.prompt) + 1000 for item in row)
        if room < 0:
            break
        kept.append((prompt, row))
    return kept


def _left_out(gallery: Gallery, kept: Gallery) -> str:
    """What a page says of clips that did not fit; nothing where all did."""
    if len(kept) == len(gallery):
        return ""
    clips = [item.clip.path for _, row in gallery[len(kept) :] for item in row]
    size = sum(path.stat().st_size for path in clips) / 1e6
    return (
        f"Clips of {len(gallery) - len(kept)} of {len(gallery)} prompts were left out, so that this page stays below "
        f"{LARGEST / 1e6:.0f} MB: {len(clips)} files of {size:.1f} MB, in {clips[0].parent.name}/ beside the records."
    )


def _environment() -> Environment:
    loader = PackageLoader("disca.report")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _sortable(value: float | None) -> str:
    """A number as the page's script reads it; nothing measured sorts last."""
    return "" if value is None else "1e999" if math.isinf(value) else repr(float(value))


def _row_title(clip: Clip) -> str:
    return clip.prompt if clip.seed is None else f"{clip.prompt} · seed {clip.seed}"


def references(records: Sequence[Record]) -> list[str]:
    """What speed-ups and distances are measured against, as sentences."""
    names = {record.name: label(record) for record in records}
    over = dict.fromkeys(names.get(row.speedup_over, row.speedup_over) for row in records if row.speedup_over)
    references = dict.fromkeys(names.get(row.reference, row.reference) for row in records if row.reference)
    sentences = [f"Speed-up is measured in this run, over: {', '.join(over)}."] if over else []
    if references:
        sentences.append(f"PSNR and relative L2 measure the distance to: {', '.join(references)}.")
    memory = dict.fromkeys(row.extra["peak_memory_of"] for row in records if row.extra.get("peak_memory_of"))
    sentences += [f"Peak memory on {of}." for of in memory]
    if any(record.intervals for record in records):
        sentences.append("Small numbers below a value are its 95 % interval.")
    return sentences


def origin(records: Sequence[Record]) -> list[tuple[str, list[str]]]:
    """Where the rows come from: each fact once, with every value that occurs."""
    facts = {
        "Measured": [record.date for record in records],
        "Command": [record.command for record in records],
        "Hardware": [_hardware(record) for record in records],
        "Versions": [", ".join(f"{name} {version}" for name, version in record.versions.items()) for record in records],
        "Clips": [_count(record) for record in records],
    }
    return [(name, list(dict.fromkeys(filter(None, values)))) for name, values in facts.items() if any(values)]


def _hardware(record: Record) -> str:
    """The facts of the machine as words, unknown ones by their names."""
    forms = {"cpu": "{}", "gpu": "{}", "system": "{}", "cores": "{} cores", "threads": "{} threads"}
    forms |= {"memory_gib": "{} GiB of memory"}
    return ", ".join(forms.get(name, name + " {}").format(value) for name, value in record.hardware.items())


def _count(record: Record) -> str:
    if not record.prompts:
        return ""
    seeds = sorted(set(record.seeds))
    span = f", seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f", seed {seeds[0]}" if seeds else ""
    return f"{len(record.prompts)} for each row{span}"


def _show(clip: Clip, records: Sequence[Record]) -> Shown:
    """Embed a clip: images of a moderate length as a strip of frames, which plays in step with the others."""
    title = next((label(record) for record in records if record.name == clip.name), clip.name)
    kind = clip.path.suffix.lower().removeprefix(".")
    if kind == "mp4":
        return Shown(clip, title, "video", _data_uri(clip.path.read_bytes(), "video/mp4"))
    frames, seconds = read_images(clip.path)
    frames = reduce(frames)
    count, height, width = frames.shape[:3]
    if count * width > LONGEST_STRIP:
        return Shown(clip, title, "image", _data_uri(clip.path.read_bytes(), f"image/{kind}"), seconds=seconds)
    return Shown(clip, title, "strip", _data_uri(_strip(frames), "image/png"), count, width, height, seconds)


def _strip(frames: Frames) -> bytes:
    """Frames side by side in one lossless picture."""
    count, height, width, channels = frames.shape
    strip = frames.transpose(1, 0, 2, 3).reshape(height, count * width, channels)
    buffer = io.BytesIO()
    Image.fromarray(strip).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def _data_uri(data: bytes, kind: str) -> Markup:
    return Markup(f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}")
