"""Fitting predictors of every make: they learn, meet the history that they will meet, and come out as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from disca.caching.gates import Given
from disca.caching.methods import disca, reuse
from disca.caching.policy import Rule
from disca.caching.sites import Trunk
from disca.caching.weighted import fitted
from disca.flow.path import sigmas
from disca.predictor.network import Predictor
from disca.schedules import Schedule
from disca.training.clips import Draw
from disca.training.distill import shift_of
from disca.training.fit import FitTask
from disca.training.recipe import Lora, Recipe
from disca.training.rollouts import final_state, recorded, velocity_errors
from disca.training.stages import STAGES
from disca.training.steps import Steps
from disca.training.train import train
from tests.families import redraw
from tests.training.conftest import TinySource, write_recipe
from tests.training.test_stages import conditioned, task

SCHEDULE = Schedule(6, (0, 1, 4))
LISTS = {"steps": (6,), "full_steps": ((0, 1, 4),), "shares": (1.0,), "random": 0.0}
LINE = {"history": 2, "residual": "line", "timed": True}
MAKES: dict[str, dict[str, Any]] = {
    "official": {"residual": "none", "init": "random"},
    "same_noise": {"pairs": "same_noise", "history": 2},
    "cache": {},
    "slope": {"history": 2},
    "line": {"history": 2, "residual": "line"},
    "timed": {"timed": True},
    "tail": {"cached": "tail"},
    "tail_line": {"cached": "tail", **LINE},
    "last": {"cached": "tail", "blocks": 1},
}


@pytest.mark.parametrize("make", MAKES)
def test_a_few_iterations_bring_the_forecast_closer(chain: dict[str, Path], make: str) -> None:
    stage = task("predictor", chain["student"], **{**LISTS, **MAKES[make]})
    learning = [value for value in stage.modules.parameters() if value.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=3e-3)
    losses = []
    for _ in range(12):
        loss = stage.loss(Draw.seeded(3)).value
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.9 * losses[0]


def test_low_rank_changes_learn_alone_and_come_out_in_the_weights(chain: dict[str, Path], tmp_path: Path) -> None:
    options = ['objective.cached="tail"', "objective.blocks=1", "lora.rank=2", "objective.timed=true"]
    path = write_recipe(tmp_path, "predictor", str(chain["student"]), iterations=3)
    found = Predictor.from_pretrained(train(path, output=tmp_path / "run", overrides=[*options, "optimiser.lr=0.05"]))
    settings = Recipe(
        name="x", stage="predictor", start=str(chain["student"]), iterations=1, batch=4, lora=Lora(rank=2)
    )
    stage: FitTask = STAGES["predictor"](cached="tail", blocks=1, timed=True).task(settings, TinySource())
    moved = {name for name, value in stage.predictor.named_parameters() if value.requires_grad}
    assert all("lora_" in name for name in moved if name.startswith("blocks")) and len(moved) > 10
    assert {name.partition(".")[0] for name in moved} == {"blocks", "fusion_mlp", "timing"}
    original = stage.base.single_transformer_blocks[-1].state_dict()
    assert found.blocks[0].state_dict().keys() == original.keys()
    changes = {name: found.blocks[0].state_dict()[name] - value for name, value in original.items()}
    ranks = [torch.linalg.matrix_rank(change, rtol=1e-3) for change in changes.values() if change.dim() == 2]
    assert all(0 < rank <= 2 for rank in ranks)
    assert not any(change.any() for name, change in changes.items() if "norm_q" in name or name.endswith("bias"))

    redraw(stage.predictor)
    stage.export(tmp_path / "exported", lambda module: module)
    exported, (pair,) = Predictor.from_pretrained(tmp_path / "exported").eval(), _pairs(stage)
    stage.predictor = exported
    torch.testing.assert_close(_pairs(stage)[0].forecast, pair.forecast, rtol=1e-4, atol=1e-5)


def _pairs(stage: FitTask) -> Any:
    with torch.no_grad():
        clips = stage.source.clips(2, Draw.seeded(0))
        noise = torch.randn(clips.latents.shape, generator=torch.Generator().manual_seed(0))
        return stage._pairs(conditioned(stage, 2), clips.latents, noise, Draw.seeded(1))[0]


@pytest.mark.parametrize("begin", ["clip", "noise"])
def test_rollouts_give_the_history_that_the_sampler_gives(chain: dict[str, Path], begin: str) -> None:
    """A forecast that is learned from knows the slope if it comes after the second full step, wherever the rollout
    began, and none before knows it."""
    stage = task("predictor", chain["student"], begin=begin, **{**LISTS, "full_steps": ((0, 2, 4),)}, **LINE)
    times, seen = Steps(sigmas(6, shift_of(stage.pipe))), []
    plain = stage.predictor.forward

    def heard(current: Any, cached: Any, conditioning: Any, history: Any) -> Any:
        if torch.is_grad_enabled():  # what is learned from
            seen.append(history)
        return plain(current, cached, conditioning, history)

    stage.predictor.forward = heard
    for number in range(24):
        stage.loss(Draw.seeded(0, number, iteration=number))
    assert {len(one.slope) for one in seen} == {0, 2}
    for one in seen:
        step = int((times.times - float(one.t[0])).abs().argmin())
        full = max(full for full in (0, 2, 4) if full < step)
        assert float(one.gap[0]) == pytest.approx(float(times.times[full] - times.times[step]), abs=1e-6)
        if step > 2:
            assert float(one.spacing[0]) == pytest.approx(float(times.times[full - 2] - times.times[full]), abs=1e-6)
        assert bool(one.slope) == (step > 2)


def test_pairs_of_one_noise_have_a_full_step_before(chain: dict[str, Path]) -> None:
    stage = task("predictor", chain["student"], pairs="same_noise", **LINE)
    seen = []
    plain = stage.predictor.forward
    stage.predictor.forward = lambda current, cached, conditioning, history: (
        seen.append(history) or plain(current, cached, conditioning, history)
    )
    stage.loss(Draw.seeded(0))
    (one,) = seen
    assert one.slope and (one.spacing > 0).all() and one.spacing.unique().numel() == 4
    assert (one.t + one.gap + one.spacing <= 1.001).all()


def test_the_scale_is_that_of_what_is_cached(chain: dict[str, Path]) -> None:
    tail, output = (task("predictor", chain["student"], cached=cached).predictor for cached in ("tail", "output"))
    assert tail.calibrated and output.calibrated
    assert not torch.allclose(tail.scale, output.scale, rtol=0.01)


def test_errors_of_velocities_are_nothing_where_the_forecast_is_the_whole_model(chain: dict[str, Path]) -> None:
    stage = task("predictor", chain["student"], cached="tail", **LINE)
    host, times = conditioned(stage, 2), Steps(sigmas(6, shift_of(stage.pipe)))
    noise = torch.randn(2, 8, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    runs = recorded(host, noise, times)
    weighted = (Rule(Trunk(), Given(SCHEDULE.full_steps, 6), fitted(runs, SCHEDULE)),)
    for policy in (reuse(full_steps=SCHEDULE), disca(stage.predictor, full_steps=SCHEDULE), weighted):
        visited, along = (velocity_errors(host, policy, noise, times, SCHEDULE, visited=v) for v in (True, False))
        assert list(visited) == list(along) == [2, 3, 5]
        torch.testing.assert_close(visited[2], along[2])  # the first forecast: both are where full steps led
        assert all(0 < error.mean() < 1 for error in (*visited.values(), *along.values()))
    full = final_state(host, (), noise, times)
    assert not torch.allclose(final_state(host, weighted, noise, times), full)
    whole = Schedule(6, (0, 1, 2, 3, 4, 5))
    assert velocity_errors(host, reuse(full_steps=whole), noise, times, whole) == {}


def test_recorded_runs_are_what_the_trunk_gave(chain: dict[str, Path]) -> None:
    stage = task("predictor", chain["student"])
    host, times = conditioned(stage, 2), Steps(sigmas(3, shift_of(stage.pipe)))
    noise = torch.randn(2, 8, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    (run,) = recorded(host, noise, times)
    assert len(run) == 3 and all(len(features) == 2 for features in run)
    kept = []
    handle = stage.base.single_transformer_blocks[-1].register_forward_hook(lambda m, a, out: kept.append(out))
    final_state(host, (), noise, times)
    handle.remove()
    for features, seen in zip(run, kept, strict=True):
        torch.testing.assert_close(features, seen)
