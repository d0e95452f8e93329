"""How often an iteration asks the base: the forward part of the table in the notes on training costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from disca.training.clips import Draw
from tests.training.test_stages import task

RESTRICTED = {"restricted_share": 1.0, "instant_share": 0.0, "terminal_share": 0.0}


@contextmanager
def counted(*transformers: nn.Module) -> Iterator[list[int]]:
    """Sizes of the batches that transformers are called with."""
    sizes: list[int] = []

    def count(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        sizes.append(len(kwargs["hidden_states"]))

    handles = [
        one.register_forward_pre_hook(count, with_kwargs=True) for one in {id(t): t for t in transformers}.values()
    ]
    try:
        yield sizes
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({"target": "solver", "substeps": 1}, 2 + 1),
        ({"target": "solver", "substeps": 2}, 4 + 1),
        ({"target": "difference", "method": "central"}, 1 + 2 + 1),
        ({"target": "difference", "method": "one_sided"}, 1 + 1 + 1),
        ({"target": "alpha"}, 1 + 1 + 1),
        ({"target": "jvp"}, 1 + 1 + 1),
        ({"target": "jvp", "method": "chunked"}, 1 + 1 + 1),
    ],
)
def test_a_mean_flow_iteration_asks_no_more_than_its_target_needs(
    chain: dict[str, Path], options: dict[str, Any], most: int
) -> None:
    stage = task("mean_flow", chain["distilled"], **RESTRICTED, **options)
    with counted(stage.teacher, stage.student) as sizes:
        stage.loss(Draw.seeded(0)).value.backward()
    assert sizes == [4] * most


def test_the_shares_of_a_batch_cost_no_more_than_two_substeps_for_all(chain: dict[str, Path]) -> None:
    stage = task("mean_flow", chain["distilled"])
    with counted(stage.teacher, stage.student) as sizes:
        stage.loss(Draw.seeded(0))
    assert sum(sizes) / 4 <= 4 + 1


def test_guidance_distillation_asks_the_teacher_twice_and_the_student_once(chain: dict[str, Path]) -> None:
    stage = task("guidance", chain["base"])
    with counted(stage.teacher, stage.student) as sizes:
        stage.loss(Draw.seeded(0))
    assert sizes == [4, 4, 4]


@pytest.mark.parametrize("pairs", ["rollout", "same_noise"])
def test_a_predictor_s_iteration_runs_the_base_s_blocks_twice_whatever_the_rollout_s_depth(
    chain: dict[str, Path], pairs: str
) -> None:
    """Forecast steps run the base's embedders and final layer only."""
    stage = task(
        "predictor", chain["student"], pairs=pairs, steps=(12,), full_steps=((0, 11),), shares=(1.0,), random=0.0
    )
    calls: list[int] = []
    stage.base.single_transformer_blocks[-1].register_forward_hook(lambda *_: calls.append(1))
    gaps = set()
    for number in range(6):
        calls.clear()
        loss = stage.loss(Draw.seeded(0, number, iteration=number))
        loss.value.backward()
        assert len(calls) == 2
        gaps.add(round(float(loss.by["gap"][0]), 4))
    assert len(gaps) > 2
