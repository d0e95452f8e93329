"""The predictor's options: at first each is a forecast without parameters, or as if it were not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import disca
from disca.adapters import adapter_for
from disca.caching.forecasts import Reuse
from disca.caching.gates import Given
from disca.caching.learned import Learned
from disca.caching.policy import Policy, Rule
from disca.caching.polynomials import Taylor
from disca.caching.sites import Span
from disca.features import Features, History
from disca.predictor.network import Predictor
from tests.families import FAMILIES, redraw
from tests.predictor.test_families import Heard

FULL = (0, 1, 4)
TIMES = (1.0, 0.9, 0.7, 0.6, 0.3, 0.1)
EVERYTHING: dict[str, Any] = {"residual": "line", "history": 2, "timed": True}


@torch.no_grad()
def sampled(host: Any, name: str, policy: Policy) -> Tensor:
    """Velocities of a run of six steps, each at latents of its own."""
    family, at = FAMILIES[name], adapter_for(host).timestep_at
    with disca.attach(host, policy, timesteps=[at(time) for time in TIMES]):
        inputs = [family.inputs(host, seed=step) for step in range(len(TIMES))]
        return torch.stack([family.call(host, one, time, 0.0) for one, time in zip(inputs, TIMES, strict=True)])


def ruled(where: Any, how: Any) -> Policy:
    return (Rule(where, Given(FULL, len(TIMES)), how),)


@pytest.mark.parametrize("name", FAMILIES)
def test_copies_of_the_tail_start_as_the_host_s_own_on_what_entered_them(name: str) -> None:
    host = FAMILIES[name].transformer()
    predictor = Predictor.from_host(
        host, depth=1, residual="cache", cached="tail", timed=True, history=2, init="host"
    ).eval()
    found = sampled(host, name, disca.disca(predictor, full_steps=FULL))
    assert torch.equal(found, sampled(host, name, ruled(Span(0, -1), Reuse())))
    assert not torch.allclose(found, sampled(host, name, disca.reuse(full_steps=FULL)))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_change_of_a_line_starts_as_the_line(name: str) -> None:
    host = FAMILIES[name].transformer()
    line = Taylor(1, variable="time")
    for cached, where in (("output", Span(0, None)), ("tail", Span(0, -1))):
        predictor = Predictor.from_host(host, depth=1, cached=cached, init="host", **EVERYTHING).eval()
        found = sampled(host, name, disca.disca(predictor, full_steps=FULL))
        torch.testing.assert_close(found, sampled(host, name, ruled(where, line)), rtol=1e-4, atol=1e-5)


@pytest.fixture(params=["hunyuan_video", "wan", "hunyuan_video_15"])
def heard(request: pytest.FixtureRequest) -> Heard:
    return Heard(request.param)


def history(heard: Heard, *, slope: bool = True) -> History:
    """Of full steps at 0.9 and 0.8, now 0.75."""
    changes = tuple(torch.randn_like(features) for features in heard.cached)
    return History(t=0.75, gap=0.05, slope=changes if slope else (), spacing=0.1 if slope else 0.0)


def forecast(predictor: Predictor, heard: Heard, past: History | None) -> Features:
    with torch.no_grad():
        return predictor(heard.current, heard.cached, heard.conditioning, past)


def test_the_names_of_families_are_those_of_the_table() -> None:
    assert {"hunyuan_video", "wan", "hunyuan_video_15"} <= set(FAMILIES)


@pytest.mark.parametrize("residual", ["none", "cache"])
@pytest.mark.parametrize("more", [{"timed": True}, {"history": 2}, {"timed": True, "history": 2}])
def test_what_is_added_starts_as_if_it_were_not_there(heard: Heard, more: Any, residual: Any) -> None:
    plain = redraw(Predictor.from_host(heard.host, depth=1, residual=residual))
    richer = Predictor.from_host(heard.host, depth=1, residual=residual, **more).eval()
    missing, unexpected = richer.load_state_dict(plain.state_dict(), strict=False)
    assert missing and not unexpected
    assert all(name.startswith(("timing", "slope")) for name in missing)
    past = history(heard)
    torch.testing.assert_close(forecast(richer, heard, past), forecast(plain, heard, None))
    assert not torch.allclose(forecast(redraw(richer), heard, past)[0], forecast(plain, heard, None)[0])


@pytest.mark.parametrize("cached", ["output", "tail"])
def test_times_and_slope_reach_the_forecast(heard: Heard, cached: Any) -> None:
    predictor = redraw(Predictor.from_host(heard.host, depth=1, cached=cached, **EVERYTHING))
    past = history(heard)
    before = forecast(predictor, heard, past)[0]
    for change in ({"t": 0.5}, {"gap": 0.1}, {"spacing": 0.2}, {"slope": tuple(2 * s for s in past.slope)}):
        other = History(**{"t": past.t, "gap": past.gap, "slope": past.slope, "spacing": past.spacing, **change})
        assert not torch.allclose(forecast(predictor, heard, other)[0], before)
    alone = forecast(predictor, heard, history(heard, slope=False))
    assert all(features.isfinite().all() for features in alone)
    with pytest.raises(ValueError, match="give it history="):
        forecast(predictor, heard, None)


def test_times_may_differ_between_samples(heard: Heard) -> None:
    predictor = redraw(Predictor.from_host(heard.host, depth=1, **EVERYTHING))
    slope = history(heard).slope

    def at(t: Any, gap: Any, spacing: Any) -> Tensor:
        return forecast(predictor, heard, History(t=t, gap=gap, slope=slope, spacing=spacing))[0]

    one, other = at(0.7, 0.05, 0.1), at(0.4, 0.2, 0.3)
    both = at(torch.tensor([0.7, 0.4]), torch.tensor([0.05, 0.2]), torch.tensor([0.1, 0.3]))
    torch.testing.assert_close(both, torch.stack([one[0], other[1]]))


@pytest.mark.parametrize("cached", ["output", "tail"])
def test_gradients_reach_all_of_it(heard: Heard, cached: Any) -> None:
    heard.host.requires_grad_(False)
    predictor = redraw(Predictor.from_host(heard.host, cached=cached, **EVERYTHING)).train()
    made = predictor(heard.current, heard.cached, heard.conditioning, history(heard))
    torch.cat([features.flatten() for features in made]).square().mean().backward()
    assert not [name for name, p in predictor.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("cached", ["output", "tail"])
def test_it_is_the_same_after_a_while_on_disk(heard: Heard, tmp_path: Path, cached: Any) -> None:
    predictor = redraw(Predictor.from_host(heard.host, cached=cached, **EVERYTHING))
    predictor.calibrate(heard.cached)
    predictor.save_pretrained(tmp_path)
    loaded, past = Predictor.from_pretrained(tmp_path), history(heard)
    assert loaded.wants == predictor.wants
    torch.testing.assert_close(forecast(loaded, heard, past), forecast(predictor, heard, past), rtol=0, atol=0)


def test_the_authors_layout_is_stored_as_it_was(heard: Heard) -> None:
    names = {name.partition(".")[0] for name in Predictor.from_host(heard.host).state_dict()}
    assert names <= {"fusion_mlp", "fusion_mlp_img", "fusion_mlp_txt", "blocks"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"residual": "line"}, "wants history=2"),
        ({"history": 3}, "1 or 2, not 3"),
        ({"cached": "input"}, "cached"),
        ({"cached": "tail", "depth": 4}, "too few to copy 4"),
    ],
)
def test_what_cannot_be_is_refused(hunyuan: nn.Module, options: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Predictor.from_host(hunyuan, **options)


def test_a_tail_longer_than_its_site_is_refused(hunyuan: nn.Module) -> None:
    predictor = Predictor.from_host(hunyuan, cached="tail", residual="cache", init="host")
    policy = (Rule(Span(-1, None), Given((0,)), Learned(predictor)),)
    with pytest.raises(ValueError, match="has 1 blocks; its forecast reads into_last_2"):
        disca.attach(hunyuan, policy, timesteps=[1000.0, 500.0])
