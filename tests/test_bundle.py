"""Bundles: what accelerates one model, stored, read and attached; the pipeline is afterwards as it was."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, HunyuanVideoPipeline, UniPCMultistepScheduler
from torch import Tensor, nn

import disca
from disca.bundle import Bundle, MadeFor, Measured
from disca.schedules import Schedule
from tests.families import redraw
from tests.pipelines import PIPELINES, Sampler

Make = Callable[..., nn.Module]
SCHEDULES = (Schedule(4, (0, 2)), Schedule(6, (0, 1, 3)))


def pipeline(transformer: nn.Module) -> HunyuanVideoPipeline:
    parts = dict.fromkeys(("text_encoder", "tokenizer", "vae", "text_encoder_2", "tokenizer_2"))
    pipe = HunyuanVideoPipeline(transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0), **parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def pipe(make_hunyuan: Make) -> HunyuanVideoPipeline:
    return pipeline(make_hunyuan(guidance_embeds=True))


@pytest.fixture
def bundle(pipe: HunyuanVideoPipeline, make_hunyuan: Make) -> Bundle:
    """A whole one: another transformer as the student, a second time and a predictor, none of them trained."""
    student = make_hunyuan(guidance_embeds=True, seed=1)
    return Bundle.for_host(
        pipe.transformer,
        base="somebody/somemodel",
        licence="some-licence",
        made_for=MadeFor(latents=(3, 8, 8), shift=5.0, guidance=6.0),
        schedules=SCHEDULES,
        measured=Measured(relative_l2=0.1, most=0.15, prompt="a boat", steps=4, seeds=(0, 1)),
        student=student,
        second_time=redraw(disca.SecondTime.for_host(student), seed=2),
        predictor=redraw(disca.Predictor.from_host(student, depth=1), seed=3),
    )


def sample(
    pipe: HunyuanVideoPipeline, inputs: Callable[..., Any], *, steps: int = 4, size: int = 8, scale: float = 6.0
) -> Tensor:
    given = inputs(pipe.transformer)
    return pipe(
        prompt_embeds=given["encoder_hidden_states"], prompt_attention_mask=given["encoder_attention_mask"],
        pooled_prompt_embeds=given["pooled_projections"], height=8 * size, width=8 * size, num_frames=9,
        num_inference_steps=steps, guidance_scale=scale, generator=torch.Generator().manual_seed(0),
        output_type="latent", return_dict=False,
    )[0]  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"residual": "line", "cached": "tail", "timed": True}])
def test_a_stored_bundle_samples_as_the_one_it_was(
    pipe: HunyuanVideoPipeline, bundle: Bundle, make_inputs: Any, tmp_path: Path, options: Any
) -> None:
    predictor = redraw(disca.Predictor.from_host(bundle.student, depth=1, **options), seed=3)
    bundle = replace(bundle, predictor=predictor)
    assert bundle.save_pretrained(tmp_path / "bundle") == tmp_path / "bundle"
    again = Bundle.from_pretrained(tmp_path / "bundle")
    assert (again.base, again.licence, again.made_for) == (bundle.base, bundle.licence, bundle.made_for)
    assert (again.schedules, again.measured) == (bundle.schedules, bundle.measured)
    samples = []
    for one in (bundle, again):
        with one.attach(pipe) as run:
            samples.append(sample(pipe, make_inputs))
        assert (run.summary().transformer_evaluations, run.summary().forecasts) == (2, 2)
    assert torch.equal(*samples)


def test_every_part_counts(pipe: HunyuanVideoPipeline, bundle: Bundle, make_inputs: Any) -> None:
    def run(one: Bundle, **options: Any) -> Tensor:
        with one.attach(pipe, **options):
            return sample(pipe, make_inputs)

    whole = run(bundle)
    without = [
        replace(bundle, student=None),
        replace(bundle, second_time=None),
        replace(bundle, predictor=None, schedules=()),
    ]
    samples = [whole, *map(run, without), run(bundle, full=True), sample(pipe, make_inputs)]
    for index, one in enumerate(samples):
        for other in samples[:index]:
            assert torch.equal(one, other) == (one is samples[4] and other is samples[3])


def test_the_pipeline_is_afterwards_as_it_was(pipe: HunyuanVideoPipeline, bundle: Bundle, make_inputs: Any) -> None:
    before, own = sample(pipe, make_inputs), pipe.transformer
    inside = {name: dict(module.__dict__) for name, module in own.named_modules()}
    with pytest.raises(RuntimeError, match="stopped"), bundle.attach(pipe):
        assert pipe.transformer is bundle.student
        raise RuntimeError("stopped")
    assert pipe.transformer is own
    assert {name: dict(module.__dict__) for name, module in own.named_modules()}.keys() == inside.keys()
    assert torch.equal(sample(pipe, make_inputs), before)
    with bundle.attach(pipe):  # and the bundle can be attached again
        sample(pipe, make_inputs)


def test_other_uses_are_warned_of(pipe: HunyuanVideoPipeline, bundle: Bundle, make_inputs: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with bundle.attach(pipe):
            sample(pipe, make_inputs)
    with bundle.attach(pipe):
        with pytest.warns(UserWarning, match=r"latents of 3 x 8 x 8, but is used at 3 x 4 x 4"):
            sample(pipe, make_inputs, size=4)
        with pytest.warns(UserWarning, match=r"guidance scale of 6, but is used with 2"):
            sample(pipe, make_inputs, scale=2.0)
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=7.0)
    with pytest.warns(UserWarning, match=r"shift 5, but the pipeline's has 7"), bundle.attach(pipe):
        pass


def test_uses_that_cannot_work_are_refused(
    pipe: HunyuanVideoPipeline, bundle: Bundle, make_hunyuan: Make, make_inputs: Any
) -> None:
    with bundle.attach(pipe), pytest.raises(ValueError, match="schedules for 4, 6 steps but the run has 5"):
        sample(pipe, make_inputs, steps=5)
    own = pipe.transformer
    with (
        pytest.raises(ValueError, match=r"bundle was made for .* num_layers=2, but"),
        bundle.attach(pipeline(make_hunyuan(guidance_embeds=True, num_layers=1))),
    ):
        pass
    pipe.scheduler = UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=5.0)
    with pytest.raises(ValueError, match="FlowMatchEulerDiscreteScheduler"), bundle.attach(pipe):
        pass
    assert pipe.transformer is own


def test_a_measure_is_the_distance_of_forecast_runs_to_full_ones(bundle: Bundle) -> None:
    from disca.lab.build import Size, pipeline
    from disca.lab.words import EXAMPLE

    size = Size(heads=2, head_width=16, dual_blocks=1, single_blocks=1, text_width=16, components=8, codec_clips=32)
    pipe = pipeline(size, seed=0)
    pipe.set_progress_bar_config(disable=True)
    redraw(pipe.transformer)
    predictor = disca.Predictor.from_host(pipe.transformer, depth=1, residual="cache", init="host")
    own = Bundle.for_host(pipe.transformer, predictor=predictor, schedules=SCHEDULES)
    found = own.measure(pipe, [0, 1], prompt=EXAMPLE, num_inference_steps=4)
    errors = []
    for seed in (0, 1):
        samples = []
        for policy in ((), disca.reuse(full_steps=(0, 2))):  # an untrained predictor is reuse
            with disca.attach(pipe, policy):
                noise = torch.Generator().manual_seed(seed)
                samples.append(pipe(EXAMPLE, num_inference_steps=4, generator=noise, output_type="latent").frames)
        errors.append(((samples[1] - samples[0]).norm() / samples[0].norm()).item())
    assert found == pytest.approx(sum(errors) / 2) and found > 0.01
    with pytest.raises(ValueError, match="at least one seed"):
        own.measure(pipe, [], prompt=EXAMPLE)


def test_a_predictor_needs_schedules_and_each_length_one(bundle: Bundle) -> None:
    with pytest.raises(ValueError, match="go together"):
        Bundle(host=bundle.host, host_config=bundle.host_config, predictor=bundle.predictor)
    with pytest.raises(ValueError, match="one schedule for each"):
        Bundle(
            host=bundle.host, host_config=bundle.host_config, predictor=bundle.predictor, schedules=SCHEDULES[:1] * 2
        )


def test_what_is_no_bundle_says_so(bundle: Bundle, tmp_path: Path) -> None:
    folder = bundle.save_pretrained(tmp_path / "bundle")
    with pytest.raises(ValueError, match="holds something already"):
        bundle.save_pretrained(folder)
    stored = json.loads((folder / "bundle.json").read_text())

    def written(**changes: Any) -> Path:
        (folder / "bundle.json").write_text(json.dumps({**stored, **changes}))
        return folder

    with pytest.raises(ValueError, match="another version"):
        Bundle.from_pretrained(written(schema=99))
    with pytest.raises(ValueError, match="Did you mean 'licence'"):
        Bundle.from_pretrained(written(license="MIT"))
    written()
    weights = next((folder / "predictor").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ValueError, match="no predictor that can be loaded"):
        Bundle.from_pretrained(folder)
    (folder / "bundle.json").write_text("{")
    with pytest.raises(ValueError, match="is no bundle"):
        Bundle.from_pretrained(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]


def test_two_experts_take_a_bundle_each() -> None:
    sample = Sampler(PIPELINES["WanPipeline/two_experts"])
    pipe = sample.pipe
    hosts = {"transformer": pipe.transformer, "transformer_2": pipe.transformer_2}
    high, low = (
        Bundle.for_host(
            host,
            component=name,
            schedules=(Schedule(4, (0,)),),
            student=redraw(type(host).from_config(host.config), seed=seed),
            second_time=redraw(disca.SecondTime.for_host(host), seed=seed),
            predictor=redraw(disca.Predictor.from_host(host, depth=1), seed=seed),
        )
        for seed, (name, host) in enumerate(hosts.items(), start=3)
    )
    samples = []
    for bundles in ((high, low), (high,), (low,)):
        with bundles[0].attach(pipe, *bundles[1:]) as run:
            samples.append(sample())
            assert {name: getattr(pipe, name) for name in hosts} != hosts
    assert {name: getattr(pipe, name) for name in hosts} == hosts
    assert not torch.equal(samples[0], samples[1]) and not torch.equal(samples[0], samples[2])
    assert run.summary().forecasts > 0
    with pytest.raises(ValueError, match="for one component"), high.attach(pipe, high):
        pass
    with (
        pytest.raises(ValueError, match="'transformer_2', which the HunyuanVideoPipeline"),
        low.attach(PIPELINES["HunyuanVideoPipeline"].build(0)),
    ):
        pass
