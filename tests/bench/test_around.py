"""Text encoders and VAEs are those of the pipelines, and what is derived of them is what they do."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from disca.adapters import adapter_for
from disca.bench.around import DECODE, STAGES, TEXT, Plan, Stage, cost_of_stage
from disca.bench.encoders import ENCODERS, encoders_of
from disca.bench.loops import built
from disca.bench.sizes import FEEDS, Size, inputs_of
from disca.bench.subjects import SUBJECTS, Subject
from disca.metrics.flops import count_flops
from disca.metrics.memory import PeakTensors

CPU = torch.device("cpu")
SMALL = Size(96, 48, 5)


def draw(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=dtype)


def real(plan: Plan) -> Stage:
    return plan.build(lambda make, dtype: built(make, CPU, dtype), draw, CPU)


def plan(name: Any, host: str, **options: Any) -> Plan:
    return Plan(**{"name": name, "host": host, "size": SMALL, "dtype": torch.float32, "small": True, **options})


def on_meta(make: Any) -> Any:
    with torch.device("meta"):
        return make()


def test_every_subject_has_its_encoders() -> None:
    assert {subject.host for subject in SUBJECTS} == set(ENCODERS)
    with pytest.raises(ValueError, match="Add a row"):
        encoders_of("MochiTransformer3DModel")


@pytest.mark.parametrize("host", ENCODERS)
@pytest.mark.parametrize("name", STAGES)
def test_operations_are_those_of_the_real_stage(name: Any, host: str) -> None:
    stage = real(plan(name, host))
    found = cost_of_stage(plan(name, host))
    with torch.no_grad():
        assert found.cost.flops == count_flops(stage.work) > 0
        with PeakTensors() as alive:
            outputs = stage.work()
    assert found.tensor_bytes == alive.peak or name == TEXT  # whose masks are real, and fused on a device
    weights = {id(one): one.numel() for module in stage.modules for one in module.parameters()}
    assert found.parameter_bytes == 4 * sum(weights.values())
    assert all(one.isfinite().all() for one in outputs)


@pytest.mark.parametrize("host", ENCODERS)
def test_a_decoded_clip_has_the_size_that_was_asked_for(host: str) -> None:
    (pixels,) = real(plan(DECODE, host)).work()
    assert pixels.shape == (1, 3, SMALL.frames, SMALL.height, SMALL.width)


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_true_sizes_fit_the_transformer(subject: Subject) -> None:
    """Its VAE gives the latents that the transformer takes, its encoders the text; all of them on the meta device."""
    import diffusers

    host = on_meta(lambda: getattr(diffusers, subject.host).from_config(dict(subject.config)))
    row, config = encoders_of(subject.host), host.config
    vae = on_meta(row.vae.make)
    for size in subject.sizes:
        grid = inputs_of(adapter_for(host), config, size, partial(torch.empty, device="meta")).grid
        assert row.vae.latents(vae, size) == (1, config["out_channels"], *grid)
    widths = [on_meta(encoder.make).config.to_dict() for encoder in row.text]
    widths = [one.get("hidden_size") or one["d_model"] for one in widths]
    names = ("text_embed_dim", "text_dim", "pooled_projection_dim", "text_embed_2_dim")
    assert widths == [config[name] for name in names if config.get(name)]
    assert row.text[0].text == FEEDS[subject.host].text


def test_templates_are_those_of_the_pipelines() -> None:
    from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE

    from tests.pipelines import PIPELINES

    old, new = (encoders_of(f"HunyuanVideo{kind}Transformer3DModel").text for kind in ("", "15"))
    assert old[0].template == DEFAULT_PROMPT_TEMPLATE["crop_start"]
    pipe = PIPELINES["HunyuanVideo15Pipeline"].build(0)
    assert new[0].template == pipe.prompt_template_encode_start_idx
    assert [one.text for one in new] == [pipe.tokenizer_max_length, pipe.tokenizer_2_max_length]


def test_parameters_are_the_published_numbers() -> None:
    """Llama 3 without its head 7.5 B, CLIP's text 123 M, Qwen2.5 without its head 7.1 B, UMT5-XXL's encoder 5.7 B."""
    billions = {}
    for host in ENCODERS:
        for encoder in encoders_of(host).text:
            model = on_meta(encoder.make)
            billions[encoder.model] = sum(one.numel() for one in model.parameters()) / 1e9
    assert billions == pytest.approx(
        {
            "LlamaModel": 7.505,
            "CLIPTextModel": 0.123,
            "Qwen2_5_VLTextModel": 7.071,
            "T5EncoderModel": 0.219,
            "UMT5EncoderModel": 5.681,
        },
        rel=0.005,
    )


def test_small_ones_are_a_fiftieth() -> None:
    for host in ENCODERS:
        row = encoders_of(host)
        for one in (*row.text, row.vae):
            large, small = (on_meta(partial(one.make, small)).num_parameters() for small in (False, True))
            assert small < large / 50


def test_an_encoder_in_bfloat16_is_all_in_bfloat16() -> None:
    """transformers keeps some of T5 in float32 beside float16 only."""
    model = built(partial(encoders_of("WanTransformer3DModel").text[0].make, True), CPU, torch.bfloat16)
    assert {one.dtype for one in model.parameters()} == {torch.bfloat16}


def test_each_prompt_is_drawn_anew() -> None:
    stage = real(plan(TEXT, "WanTransformer3DModel"))
    (first,), (second,) = stage.work(), stage.work()
    assert first.shape == second.shape == (1, 512, 64)
    assert not torch.equal(first, second)


@pytest.mark.long
def test_a_true_size_is_counted_without_memory() -> None:
    found = cost_of_stage(Plan(name=DECODE, host="WanTransformer3DModel", size=Size(832, 480, 81)))
    assert found.cost.flops > 1e14
    assert found.tensor_bytes > 3 * 832 * 480 * 81 * 4
