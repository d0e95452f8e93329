"""The lab's pipeline keeps the conventions of diffusers' video pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import disca
from disca.lab.pipeline import LabPipeline
from disca.lab.words import EXAMPLE
from disca.meanflow.second_time import SecondTime
from disca.training.distill import embed_guidance

OTHER = "a blue three bouncing up"


def seeded(*seeds: int) -> Any:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return generators if len(generators) > 1 else generators[0]


def sampled(pipe: LabPipeline, prompt: Any = EXAMPLE, *, seed: Any = None, **options: Any) -> torch.Tensor:
    options = {"num_inference_steps": 3, "output_type": "pt", "generator": seed or seeded(0), **options}
    return pipe(prompt, **options).frames


def test_what_is_saved_samples_the_same(pipe: LabPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path)
    loaded = LabPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert torch.allclose(sampled(pipe), sampled(loaded), atol=1e-5)  # memory lies elsewhere, sums may round


def test_output_types_and_shapes(pipe: LabPipeline) -> None:
    frames = pipe(EXAMPLE, num_inference_steps=2, generator=seeded(0)).frames
    assert isinstance(frames, np.ndarray) and frames.shape == (1, 8, 32, 32, 3)
    assert frames.min() >= 0 and frames.max() <= 1
    assert sampled(pipe).shape == (1, 8, 3, 32, 32)
    assert sampled(pipe, output_type="latent").shape == (1, 8, *pipe.codec.latent_shape)
    assert pipe(EXAMPLE, num_inference_steps=1, return_dict=False)[0].shape == frames.shape
    assert len(sampled(pipe, num_videos_per_prompt=2)) == 2


def test_a_clip_depends_on_its_own_prompt_and_noise_only(pipe: LabPipeline) -> None:
    both = sampled(pipe, [EXAMPLE, OTHER], seed=seeded(1, 2))
    assert torch.allclose(both[:1], sampled(pipe, EXAMPLE, seed=seeded(1)), atol=1e-5)
    assert torch.allclose(both[1:], sampled(pipe, OTHER, seed=seeded(2)), atol=1e-5)
    assert not torch.allclose(both[:1], sampled(pipe, OTHER, seed=seeded(1)), atol=1e-3)


def test_guidance_takes_two_passes_and_at_one_only_one(pipe: LabPipeline) -> None:
    with disca.attach(pipe) as run:
        guided = sampled(pipe, guidance_scale=3.0)
    assert run.summary().evaluations == {"cond": 3, "uncond": 3}
    with disca.attach(pipe) as run:
        plain = sampled(pipe, guidance_scale=1.0)
    assert run.summary().evaluations == {"cond": 3}
    assert not torch.allclose(guided, plain, atol=1e-4)


def test_an_embedded_scale_takes_one_pass_and_matters_once_trained(pipe: LabPipeline) -> None:
    unguided = sampled(pipe, guidance_scale=1.0)
    pipe.register_modules(transformer=embed_guidance(pipe.transformer))
    with disca.attach(pipe) as run:
        assert torch.allclose(sampled(pipe, guidance_scale=4.0), unguided, atol=1e-6)  # its output is zero at first
    assert run.summary().evaluations == {"cond": 3}
    pipe.transformer.time_text_embed.guidance_embedder.linear_2.weight.data.normal_(generator=seeded(5))
    assert not torch.allclose(sampled(pipe, guidance_scale=4.0), sampled(pipe, guidance_scale=2.0), atol=1e-4)


def test_a_second_time_is_saved_told_and_leaves_no_trace(pipe: LabPipeline, tmp_path: Path) -> None:
    before = sampled(pipe, guidance_scale=1.0)
    second = SecondTime.for_host(pipe.transformer)
    pipe.register_modules(second_time=second)
    assert torch.equal(sampled(pipe, guidance_scale=1.0), before)  # zero at first
    second.embedder.linear_2.weight.data.normal_(generator=seeded(5))
    student = sampled(pipe, guidance_scale=1.0)
    assert not torch.allclose(student, before, atol=1e-4)
    pipe.save_pretrained(tmp_path)
    loaded = LabPipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert torch.allclose(sampled(loaded, guidance_scale=1.0), student, atol=1e-5)
    pipe.register_modules(second_time=None)
    assert torch.equal(sampled(pipe, guidance_scale=1.0), before)


def test_a_callback_sees_every_step_and_may_change_the_latents(pipe: LabPipeline) -> None:
    seen = []

    def zero_last(_: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append(step)
        return {"latents": torch.zeros_like(tensors["latents"])} if step == 2 else {}

    latents = sampled(pipe, output_type="latent", callback_on_step_end=zero_last)
    assert seen == [0, 1, 2] and not latents.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": "a purple seven drifting left"}, "'purple'"),
        ({"num_inference_steps": 0}, "at least 1"),
        ({"output_type": "pill"}, "'pill'"),
        ({"latents": torch.zeros(1, 2, 3, 4, 5)}, "expected"),
        ({"callback_on_step_end_tensor_inputs": ("noise",)}, "may name"),
    ],
)
def test_bad_input_is_refused_before_any_work(pipe: LabPipeline, options: dict[str, Any], message: str) -> None:
    with disca.attach(pipe) as run, pytest.raises(ValueError, match=message):
        pipe(**{"prompt": EXAMPLE, **options})
    assert run.summary().transformer_evaluations == 0
