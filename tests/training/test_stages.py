"""The stages: what each learns from, and where it starts."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from disca.caching.methods import reuse
from disca.caching.run import attach
from disca.flow.path import sigmas
from disca.lab.pipeline import LabPipeline
from disca.lab.words import EXAMPLE, HELD_OUT
from disca.predictor.network import Predictor
from disca.schedules import Schedule
from disca.training.clips import Draw
from disca.training.distill import MeanFlow, embed_guidance
from disca.training.fit import Fit, FitTask
from disca.training.host import Host, drop
from disca.training.loop import Task
from disca.training.recipe import Recipe
from disca.training.rollouts import final_state, rollout
from disca.training.stages import STAGES
from disca.training.steps import Steps
from disca.training.train import train
from tests.training.conftest import TinySource, write_recipe


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def conditioned(stage: FitTask, count: int) -> Host:
    """The stage's base under prompts and a guidance scale."""
    with torch.no_grad():
        return stage.host.given(stage.pipe.encode_prompt([EXAMPLE] * count), torch.full((count,), 3.0))


def task(stage: str, start: Path, **options: object) -> Task:
    settings = Recipe(name="x", stage=stage, source="", start=str(start), iterations=1, batch=4)
    return STAGES[stage](**options).task(settings, TinySource())


def test_the_whole_chain_trains_and_what_comes_out_samples(chain: dict[str, Path], tmp_path: Path) -> None:
    path = write_recipe(tmp_path, "predictor", str(chain["student"]), iterations=2)
    predictor = train(path, output=tmp_path / "predictor")
    pipe = LabPipeline.from_pretrained(chain["student"])
    assert pipe.second_time is not None and pipe.embeds_guidance
    assert Predictor.from_pretrained(predictor).config.residual == "cache"
    assert pipe(EXAMPLE, num_inference_steps=2, output_type="pt").frames.isfinite().all()


def test_no_stage_sees_a_held_out_prompt() -> None:
    source = TinySource()
    source.pipeline("", 0)
    seen = {text for seed in range(20) for text in source.batch(50, seeded(seed))[0]}
    assert not seen & {str(prompt) for prompt in HELD_OUT}
    assert len(seen) > 250


def test_a_guidance_student_starts_as_the_conditional_teacher(chain: dict[str, Path]) -> None:
    pipe = LabPipeline.from_pretrained(chain["base"])
    child = embed_guidance(pipe.transformer)
    with torch.no_grad():
        cond = pipe.encode_prompt([EXAMPLE])
        x, t = torch.randn(1, 8, 4, 4, 4, generator=seeded()), torch.tensor([0.7])
        teacher = Host(pipe.transformer, cond)(x, t)
        for scale in (1.0, 6.0):
            assert torch.allclose(Host(child, {}).given(cond, torch.tensor([scale]))(x, t), teacher, atol=1e-6)
    with pytest.raises(ValueError, match="guidance_embeds is True"):
        embed_guidance(child)


def test_a_mean_flow_student_starts_as_its_teacher_for_every_interval(chain: dict[str, Path]) -> None:
    stage = task("mean_flow", chain["distilled"])
    x, scale = torch.randn(4, 8, 4, 4, 4, generator=seeded()), torch.full((4,), 3.0)
    with torch.no_grad():
        cond = stage.pipe.encode_prompt([EXAMPLE] * 4)
        teacher, student = (
            Host(net, {}, second).given(cond, scale)
            for net, second in ((stage.teacher, None), (stage.student, stage.second))
        )
        for r in (0.8, 0.3, 0.0):
            t = torch.full((4,), 0.8)
            assert torch.equal(student(x, t, torch.full((4,), r)), teacher(x, t))


def test_a_batch_is_cut_into_its_shares_and_intervals_obey_the_restriction() -> None:
    options = MeanFlow(limit=0.2, steps=(4, 8), terminal=0.6, instant_share=0.25, terminal_share=0.25)
    parts = options.parts(32, shift=5.0)
    assert [count for count, *_ in parts] == [8, 8, 8, 8]
    for count, interval, target in parts:
        t, r = interval.sample(1000, seeded())
        assert ((r >= 0) & (r <= t) & (t <= 1)).all() and count
        if target.substeps == 1:
            assert (t - r).max() <= 0.2 + 1e-6
        else:
            assert (r == 0).all() and t.max() <= 0.6
    longest = sigmas(8, 5.0)[-2]
    assert longest > 0.2  # why terminal intervals have a share of their own


def test_only_the_predictor_learns(chain: dict[str, Path]) -> None:
    stage = task("predictor", chain["student"])
    stage.loss(Draw.seeded(0)).value.backward()
    assert all(value.grad is not None for value in stage.predictor.gate.parameters())
    frozen = [*stage.base.parameters(), *stage.second.parameters()]
    assert all(value.grad is None and not value.requires_grad for value in frozen)


def test_a_rollout_visits_the_states_of_the_accelerated_sampler(chain: dict[str, Path]) -> None:
    """With a predictor that starts as reuse, the forecasts of a rollout are those of the reuse policy, and asking the
    whole model beside them changes nothing."""
    stage = task("predictor", chain["student"])
    host, schedule = conditioned(stage, 2), Schedule(4, (0, 2))
    noise = torch.randn(2, 8, 4, 4, 4, generator=seeded())
    pairs = list(rollout(host, stage.predictor, noise, schedule, Steps(sigmas(4, 5.0)), asked={1, 3}))
    times = sigmas(4, 5.0).tolist()
    assert [end for pair in pairs for end in (pair.t[0].item(), pair.r[0].item())] == pytest.approx(
        [*times[1:3], *times[3:5]]
    )
    assert all((pair.forecast - pair.full).abs().max() > 1e-6 for pair in pairs)
    policy, seen = reuse(full_steps=schedule), []
    with torch.no_grad(), attach(host.transformer, policy, timesteps=[1000 * t for t in times[:-1]]):
        x = noise
        for t, r in pairwise(times):
            seen.append(host(x, torch.full((2,), t), torch.full((2,), r)))
            x = x - (t - r) * seen[-1]
    assert torch.allclose(pairs[0].forecast, seen[1], atol=1e-5)
    assert torch.allclose(pairs[1].forecast, seen[3], atol=1e-5)
    assert torch.allclose(final_state(host, policy, noise, Steps(sigmas(4, 5.0))), x, atol=1e-5)


def test_random_schedules_keep_their_ends_and_their_cost() -> None:
    options = Fit(random=1.0)
    drawn = [options.draw(seeded(seed)) for seed in range(50)]
    assert {(s.steps, len(s.full_steps)) for s in drawn} == {(8, 4), (20, 8)}
    assert all(s.full_steps[0] == 0 and s.full_steps[-1] == s.steps - 1 for s in drawn)
    assert len(set(drawn)) > 10
    with pytest.raises(ValueError, match="one entry for each schedule"):
        Fit(shares=(1.0,))


def test_only_steps_that_were_asked_for_are_learned_from(chain: dict[str, Path]) -> None:
    stage = task("predictor", chain["student"])
    host, schedule = conditioned(stage, 1), Schedule(4, (0,))
    noise = torch.randn(1, 8, 4, 4, 4, generator=seeded())
    every, one = (
        list(rollout(host, stage.predictor, noise, schedule, Steps(sigmas(4, 5.0)), asked=asked))
        for asked in ({1, 2, 3}, {0, 2})
    )
    assert torch.equal(one[0].t, every[1].t) and len(one) == 1
    assert torch.equal(one[0].full, every[1].full) and torch.equal(one[0].forecast, every[1].forecast)
    assert one[0].forecast.requires_grad and not one[0].full.requires_grad


def test_errors_count_as_the_squared_interval() -> None:
    """Steps are drawn in proportion to their intervals and weighted by them."""
    options, schedule, generator = Fit(targets=1), Schedule(8, (0, 2, 4, 7)), seeded()
    total = dict.fromkeys(schedule.forecast_steps, 0.0)
    for _ in range(4000):
        for step, weight in options.ask(schedule, -sigmas(8, 5.0).diff(), generator).items():
            total[step] += weight
    squared = -sigmas(8, 5.0).diff()[list(total)]
    squared = squared.square() / squared.square().sum()
    found = torch.tensor(list(total.values()))
    assert torch.allclose(found / found.sum(), squared, atol=0.02)
    assert set(Fit(targets=9, begin="noise").ask(schedule, -sigmas(8, 5.0).diff(), generator)) == set(
        schedule.forecast_steps
    )
    with pytest.raises(ValueError, match="at least 1"):
        Fit(targets=0)


def test_errors_count_by_what_they_come_to_together(chain: dict[str, Path]) -> None:
    """Of one target that is what it is by itself. Of several it is another loss, with the same gradient paths."""

    def loss(together: float, targets: int) -> float:
        options = {"steps": (4,), "full_steps": ((0,),), "shares": (1.0,), "begin": "noise", "targets": targets}
        stage = task("predictor", chain["student"], together=together, **options)
        value = stage.loss(Draw.seeded(0)).value
        value.backward()
        assert all(one.grad is not None for one in stage.predictor.gate.parameters())
        return value.item()

    assert loss(1.0, 1) == pytest.approx(loss(0.0, 1), rel=1e-5)
    apart, half, together = (loss(share, 3) for share in (0.0, 0.5, 1.0))
    assert half == pytest.approx((apart + together) / 2, rel=1e-5) and together != pytest.approx(apart, rel=1e-2)
    with pytest.raises(ValueError, match="together"):
        Fit(together=1.5)


def test_dropping_empties_about_the_share() -> None:
    kept = [text for seed in range(50) for text in drop([EXAMPLE] * 20, 0.25, seeded(seed))]
    assert set(kept) == {EXAMPLE, ""} and 0.2 < kept.count("") / len(kept) < 0.3
