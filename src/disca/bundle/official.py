"""Bundles out of the authors' published files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from disca.bundle import Bundle, MadeFor
from disca.errors import unknown
from disca.meanflow.second_time import SecondTime
from disca.official import Weights, load_predictor, load_transformer
from disca.schedules import Schedule

LICENCE = (
    "Tencent Hunyuan Community License Agreement: it binds students and predictors of the model too, and does not "
    "apply in the European Union, the United Kingdom and South Korea"
)


@dataclass(frozen=True, kw_only=True)
class Published:
    """One of the authors' releases, and how they sample with it."""

    host: str
    config: Mapping[str, Any]
    """What differs from the defaults of the class."""
    base: str
    made_for: MadeFor
    schedules: tuple[Schedule, ...]


PUBLISHED = {
    "official-hyvideo10": Published(
        host="HunyuanVideoTransformer3DModel",
        config={"guidance_embeds": True},
        base="hunyuanvideo-community/HunyuanVideo",
        made_for=MadeFor(shift=5.0, guidance=6.0),
        schedules=(Schedule(20, (0, 1, 2, 5, 9, 13, 17, 19)),),
    ),
    "official-hyvideo15": Published(
        host="HunyuanVideo15Transformer3DModel",
        config={"use_meanflow": True},
        base="the step-distilled image-to-video HunyuanVideo-1.5",
        made_for=MadeFor(shift=7.0),
        schedules=(Schedule(8, (0, 2, 4, 7)),),
    ),
}
"""Schedules: 11.8x of arXiv 2602.05449 for 1.0, and the published script of 1.5."""


def official_bundle(
    name: str, *, transformer: Weights | None = None, predictor: Weights | None = None, config: str | Path | None = None
) -> Bundle:
    """A bundle with a published transformer, a predictor, or both.

    Args:
        name: ``official-hyvideo10`` or ``official-hyvideo15``.
        transformer: its file; without one the pipeline's own transformer is the student (1.5).
        predictor: its file.
        config: a ``config.json`` of diffusers' transformer; by default the published size.

    Raises:
        ValueError: an unknown name, neither file, or files that do not fit; see :mod:`disca.official`.
    """
    import diffusers

    if name not in PUBLISHED:
        raise ValueError(unknown("release", name, PUBLISHED))
    if transformer is None and predictor is None:
        raise ValueError("Give the file of a transformer, of a predictor, or both: there is nothing to import.")
    release = PUBLISHED[name]
    with torch.device("meta"):
        host = getattr(diffusers, release.host).from_config({**_config(config), **release.config})
    if transformer is not None:
        load_transformer(host, transformer)
    learned = None if predictor is None else load_predictor(host, predictor)
    second = SecondTime.of(host)
    if second is not None:  # it is stored beside the student, not in it
        second.remove(host)
        second.leave(host)
    return Bundle.for_host(
        host,
        base=release.base,
        licence=LICENCE,
        made_for=release.made_for,
        schedules=() if learned is None else release.schedules,
        student=None if transformer is None else host,
        second_time=second,
        predictor=learned,
    )


def _config(path: str | Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return {name: value for name, value in json.loads(Path(path).read_text()).items() if not name.startswith("_")}
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no config.json of a transformer: {error}") from error
