"""What the page says of two runs is what they did."""

from __future__ import annotations

import math

import numpy as np
import pytest

from disca.bench.models import Model
from disca.demo.runs import Outcome, compare
from disca.demo.wishes import Wish
from disca.demo.work import Cancelled, Progress

PROMPT = "a red seven drifting left"


def wish(method: str = "taylor", steps: int = 4, seed: int = 0, **options: object) -> Wish:
    return Wish(subject="lab-student", prompt=PROMPT, method=method, options=options, steps=steps, seed=seed)


def run(model: Model, wished: Wish) -> tuple[Outcome, list[Progress]]:
    told: list[Progress] = []
    return compare(model, wished, told.append), told


def test_passes_and_steps_are_those_of_the_runs(student: Model) -> None:
    outcome, told = run(student, wish(full_steps=(0, 2)))
    assert (outcome.whole.passes, outcome.fast.passes) == (4, 2)
    assert outcome.whole.full == (0, 1, 2, 3) and outcome.fast.full == (0, 2)
    assert outcome.whole.frames.shape == outcome.fast.frames.shape == outcome.difference.shape == (8, 32, 32, 3)
    assert outcome.relative_l2 > 0 and math.isfinite(outcome.psnr)
    assert told[0].what == "Warming up"
    counts = [one.done for one in told if one.what in ("Every step in full", "Accelerated")]
    assert counts == sorted(counts) and counts[-1] == told[0].total


def test_every_step_in_full_is_the_same_clip(student: Model) -> None:
    outcome, _ = run(student, wish(every=1))
    assert outcome.relative_l2 == 0 and outcome.psnr == math.inf
    assert np.array_equal(outcome.whole.frames, outcome.fast.frames)
    assert outcome.record("row", "full").psnr is None


def test_the_seed_is_the_noise(student: Model) -> None:
    one, same, other = (run(student, wish(full_steps=(0, 2), seed=seed))[0].whole.frames for seed in (1, 1, 2))
    assert np.array_equal(one, same) and not np.array_equal(one, other)


def test_a_record_says_how_to_do_it_again(student: Model) -> None:
    record = run(student, wish(full_steps=(0, 2), order=2))[0].record("row", "full")
    assert record.policy == "taylor(full_steps=(0, 2), order=2)"
    assert record.prompts == (PROMPT,) and record.seeds == (0,) and record.versions["torch"] and record.hardware
    assert record.speedup == pytest.approx(record.extra["turns"] and record.speedup) and record.reference == "full"


def test_a_wish_that_does_not_fit_is_refused_before_anything_is_sampled(student: Model) -> None:
    told: list[Progress] = []
    for wrong in (wish(full_steps=(0, 9)), wish(every=9), wish("disca"), wish("teacache")):
        with pytest.raises(ValueError):
            compare(student, wrong, told.append)
    assert not told


@pytest.mark.parametrize("at", [0, 1, 3, 6])
def test_a_run_that_was_stopped_leaves_no_trace(student: Model, at: int) -> None:
    def tell(progress: Progress) -> None:
        if progress.done >= at:
            raise Cancelled

    before, _ = run(student, wish(full_steps=(0, 2)))
    with pytest.raises(Cancelled):
        compare(student, wish(full_steps=(0, 2)), tell)
    after, _ = run(student, wish(full_steps=(0, 2)))
    assert np.array_equal(before.fast.frames, after.fast.frames)
