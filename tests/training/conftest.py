"""A source of training small enough for tests: the lab's, with a tiny pipeline."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from disca.lab.build import Size, pipeline
from disca.lab.pipeline import LabPipeline
from disca.lab.source import LabSource
from disca.training.train import train

TINY = Size(heads=2, head_width=16, dual_blocks=1, single_blocks=2, text_width=16, components=8, codec_clips=64)


class TinySource(LabSource):
    """The lab with a tiny model, and without the judge's look."""

    def pipeline(self, start: str, seed: int) -> LabPipeline:
        pipe = pipeline(TINY, seed, self.world) if not start else LabPipeline.from_pretrained(start)
        generator = torch.Generator().manual_seed(seed)
        if not start:
            for parameter in pipe.transformer.parameters():
                parameter.data.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        pipe.set_progress_bar_config(disable=True)
        self.codec, self.pipe = pipe.codec, pipe
        return pipe

    def judge(self, pipe: Any, folder: Path) -> dict[str, float]:
        return {}


def write_recipe(folder: Path, stage: str, start: str = "", *, iterations: int = 4) -> Path:
    """A recipe of a few iterations of a stage."""
    path = folder / f"{stage}_{iterations}.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f'name = "tiny"\nstage = "{stage}"\nsource = "{__name__}:TinySource"\nstart = "{start}"\n'
        f"iterations = {iterations}\nbatch = 4\nvalidate_every = 100\ncheckpoint_every = 2\nlog_every = 1\n"
        f"trackers = []\n"
        f"[optimiser]\nlr = 1e-3\nwarmup = 1\n"
    )
    return path


@pytest.fixture
def recipe(tmp_path: Path) -> Any:
    """:func:`write_recipe` into the test's own folder."""
    return partial(write_recipe, tmp_path)


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two iterations of each stage that trains a transformer, each from the one before."""
    folder, start, results = tmp_path_factory.mktemp("chain"), "", {}
    for name, stage in (("base", "flow_matching"), ("distilled", "guidance"), ("student", "mean_flow")):
        results[name] = train(write_recipe(folder, stage, start, iterations=2), output=folder / name)
        start = str(results[name])
    return results
