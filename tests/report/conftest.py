from __future__ import annotations

import numpy as np
import pytest

from disca.records import Record
from disca.report.clips import Frames


@pytest.fixture
def frames() -> Frames:
    """A coloured square that moves over a shaded ground, ``[6, 32, 32, 3]``."""
    clip = np.zeros((6, 32, 32, 3))
    clip += np.linspace(0, 40, 32)[None, None, :, None]
    for index in range(6):
        clip[index, 8:20, 4 + 3 * index : 14 + 3 * index] = (64, 102, 255)
    return clip.astype(np.uint8)


@pytest.fixture
def rows() -> list[Record]:
    """A comparison of four rows, the second the reference of the others."""

    def row(name: str, full: tuple[int, ...], evaluations: int, speedup: float, distance: float) -> Record:
        return Record(
            name=name,
            steps=8,
            full_steps=full,
            transformer_evaluations=evaluations,
            seconds=2 / speedup,
            speedup=speedup,
            speedup_over="base_8",
            reference="student_8",
            psnr=None if distance == 0 else 20.0 - distance,
            relative_l2=distance,
            intervals={"relative_l2": (0.9 * distance, 1.1 * distance)},
            extra={"label": f"Row <{name}>"},
            command="disca lab show",
            date="2026-11-22T10:00:00+00:00",
            hardware={"cpu": "a processor", "cores": 2},
            prompts=("a red seven drifting left",) * 3,
            seeds=(0, 1, 2),
        )

    every = tuple(range(8))
    return [
        row("base_8", every, 16, 1.0, 0.25),
        row("student_8", every, 8, 2.0, 0.0),
        row("disca_8_4", (0, 2, 4, 7), 4, 3.5, 0.07),
        row("reuse_8_4", (0, 2, 4, 7), 4, 3.4, 0.11),
    ]
