"""What is encoded is what each pipeline itself hands its transformer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

import pytest
import torch

from disca.data import latents
from disca.data.captions import Item
from disca.data.encode import Maker
from disca.data.forms import FORMS, form_for
from disca.data.index import Plan, Teacher
from disca.data.shards import group
from disca.data.teacher import sample
from tests.data.hosts import HOSTS, TinyHost
from tests.families import Draw
from tests.pipelines import picture

ITEM = Item("a", "a dog runs")


def plan(host: TinyHost, guidance: float = 2.0) -> Plan:
    size = {"width": host.width, "height": host.height, "frames": host.frames}
    return Plan(**size, dtype="float32", teacher=Teacher(steps=2, guidance=guidance))


@contextmanager
def calls(*transformers: Any) -> Iterator[list[dict[str, Any]]]:
    """Arguments of every call of transformers."""
    seen: list[dict[str, Any]] = []
    hooks = [
        one.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True)
        for one in transformers
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def rows(seen: list[dict[str, Any]], name: str) -> list[torch.Tensor]:
    return [row for call in seen for row in call[name]]


@pytest.mark.parametrize("name", HOSTS)
@torch.no_grad()
def test_the_transformer_gets_what_the_pipeline_gives_it(name: str) -> None:
    host = HOSTS[name]
    pipe = host()
    form, maker = form_for(pipe), Maker(pipe, plan(host))
    image = picture(Draw(3), host.width, host.height) if form.takes_image else None
    clip = {
        **{f"prompt.{key}": value for key, value in form.encode_prompt(pipe, [ITEM.text], image).items()},
        **{f"condition.{key}": value for key, value in form.condition(pipe, image, maker.canvas).items()},
    }
    prompt, condition = group(clip, "prompt"), group(clip, "condition")
    with calls(pipe.transformer) as seen:
        result = sample(pipe, form, ITEM, image, maker.canvas, plan(host))
    assert result.shape[1:] == maker.canvas.latent_shape
    given = seen[0]
    texts = given["encoder_hidden_states"]
    at = next(at for at, row in enumerate(texts) if _same(row, prompt["encoder_hidden_states"][0]))
    state = given["hidden_states"][at : at + 1]
    x = _latents(form, state, maker.canvas.latent_shape)
    if "first_frame" in condition:
        x[:, :, :1] = 7.0  # it has to be replaced
    ours = form.inputs(pipe, x, prompt, condition)
    for key, value in ours.items():
        theirs = given[key]
        if isinstance(value, torch.Tensor):
            theirs = theirs[at : at + 1] if len(theirs) == len(given["hidden_states"]) else theirs
            torch.testing.assert_close(value, theirs.to(value.dtype))
        else:
            assert _plain(value) == _plain(theirs), key
    expected = {key for key, value in given.items() if value is not None} - {"timestep", "guidance", "return_dict"}
    assert set(ours) == expected - {"attention_kwargs", "timestep_r"}
    times = form.timestep(pipe, x, pipe.scheduler.timesteps[:1], condition)
    if times.ndim == given["timestep"].ndim:  # what is the same for all tokens may be given once
        torch.testing.assert_close(times.float(), given["timestep"][at : at + 1].float())
    assert given["timestep"].unique().numel() == times.unique().numel()
    output = pipe.transformer(**given)[0][at : at + 1]
    velocity = form.velocity(output, x, condition)
    assert velocity.shape == x.shape
    assert bool(velocity[:, :, 0].any()) == ("first_frame" not in condition) and velocity[:, :, 1:].any()


@pytest.mark.parametrize("name", HOSTS)
@torch.no_grad()
def test_the_negative_prompt_is_the_pipeline_s(name: str) -> None:
    host = HOSTS[name]
    pipe = host()
    maker = Maker(pipe, plan(host))
    shared = group(maker.shared(), "unconditional")
    image = picture(Draw(3), host.width, host.height) if maker.form.takes_image else None
    with calls(pipe.transformer) as seen:
        sample(pipe, maker.form, ITEM, image, maker.canvas, plan(host))
    two = any(not _same(rows(seen, "encoder_hidden_states")[0], row) for row in rows(seen, "encoder_hidden_states"))
    assert two != bool(pipe.transformer.config.get("guidance_embeds"))
    for key, value in shared.items() if two else ():
        assert any(_same(value, row.to(value.dtype)) for row in rows(seen, key)), key


@pytest.mark.parametrize("name", HOSTS)
@torch.no_grad()
def test_latents_are_scaled_as_the_pipeline_unscales_them(name: str) -> None:
    """What it hands its VAE to decode, scaled by us, is what its denoiser made."""
    host = HOSTS[name]
    pipe = host()
    maker = Maker(pipe, plan(host))
    image = picture(Draw(3), host.width, host.height) if maker.form.takes_image else None
    decoded = torch.randn(1, *maker.canvas.latent_shape, generator=torch.Generator().manual_seed(0))
    statistics = maker.form.statistics(pipe.vae)
    scaled = latents.normalise(decoded, statistics)
    given = _decoded(pipe, maker, image, scaled)
    torch.testing.assert_close(given[:, :, 1:], decoded[:, :, 1:], rtol=1e-4, atol=1e-4)  # the first may be the image's


def test_a_clip_is_the_mode_of_what_the_vae_gives() -> None:
    pipe = HOSTS["WanPipeline"]()
    pixels = 2 * torch.rand(1, 3, 5, 16, 32, generator=torch.Generator().manual_seed(0)) - 1
    with torch.no_grad():
        mode = pipe.vae.encode(pixels).latent_dist.mode()
        encoded = form_for(pipe).encode_clip(pipe, pixels)
    config = pipe.vae.config
    mean, std = (torch.tensor(one).view(1, -1, 1, 1, 1) for one in (config.latents_mean, config.latents_std))
    torch.testing.assert_close(encoded * std + mean, mode)


def test_prompts_differ_and_do_not_depend_on_their_neighbours() -> None:
    for name in ("WanPipeline", "HunyuanVideoPipeline", "HunyuanVideo15Pipeline", "LTXPipeline", "MochiPipeline"):
        pipe = HOSTS[name]()
        form = form_for(pipe)
        with torch.no_grad():
            both = form.encode_prompt(pipe, ["a dog runs", "two birds"])
            alone = form.encode_prompt(pipe, ["two birds"])
        assert not _same(*both["encoder_hidden_states"])
        assert both.get("encoder_attention_mask", torch.ones(1)).any()
        for key, value in alone.items():
            torch.testing.assert_close(value[0], both[key][1])


def test_sizes_that_do_not_divide_name_the_nearest() -> None:
    pipe = HOSTS["WanPipeline"]()
    assert form_for(pipe).shape(pipe, 32, 16, 9) == (4, 3, 2, 4)
    with pytest.raises(ValueError, match=r"multiples of 16 and a multiple of 4 frames plus one.*32x16x5"):
        form_for(pipe).shape(pipe, 40, 30, 8)


def test_families_without_a_description_are_refused() -> None:
    from tests.pipelines import PIPELINES

    with pytest.raises(ValueError, match=r"FluxPipeline encodes clips is not described.*WanPipeline"):
        form_for(PIPELINES["FluxPipeline"].build(0))
    assert {name.partition("/")[0] for name in HOSTS} == set(FORMS)


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.float(), b.float(), atol=1e-5)


def _latents(form: Any, state: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    return form.order[1](state, torch.Size((1, *shape)))[:, : shape[0]].clone()


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value.tolist() if isinstance(value, torch.Tensor) else value


def _decoded(pipe: Any, maker: Maker, image: Any, latents: torch.Tensor) -> torch.Tensor:
    """What the pipeline gives its VAE to decode after a run that ends with these latents."""
    seen: list[torch.Tensor] = []
    first = getattr(pipe.vae, "post_quant_conv", None) or pipe.vae.decoder
    hook = first.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    state = maker.form.order[0](latents)
    canvas = maker.canvas
    given = {"image": image, "height": canvas.height, "width": canvas.width, "num_frames": canvas.frames}
    given["callback_on_step_end"] = lambda *_: {"latents": state}
    takes = signature(type(pipe).__call__).parameters
    if "callback_on_step_end" not in takes:  # a run in which nothing moves ends where it starts
        given["latents"] = state
        for parameter in pipe.transformer.proj_out.parameters():
            parameter.zero_()
    given = {name: value for name, value in given.items() if name in takes}
    pipe(prompt=["a dog runs"], **given, num_inference_steps=2, output_type="pt")
    hook.remove()
    return seen[0]
