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
from disca.caching.sites import Span, Trunk
from disca.features import Features, History
from disca.predictor.network import Predictor
from tests.families import FAMILIES, redraw
from tests.predictor.test_families import Heard

FULL = (0, 1, 4)
TIMES = (1.0, 0.9, 0.7, 0.6, 0.3, 0.1)
EVERYTHING: dict[str, Any] = {"residual": "line", "timed": True}


@torch.no_grad()
def sampled(host: Any, name: str, policy: Policy) -> Tensor:
    """Velocities of a run of six steps, each at latents of its own."""
    family, at = FAMILIES[name], adapter_for(host).timestep_at
    with disca.attach(host, policy, timesteps=[at(time) for time in TIMES]):
        inputs = [family.inputs(host, seed=step) for step in range(len(TIMES))]
        return torch.stack([family.call(host, one, time, 0.0) for one, time in zip(inputs, TIMES, strict=True)])


def ruled(where: Any, how: Any) -> Policy:
    return (Rule(where, Given(FULL, len(TIMES)), how),)


@pytest.mark.parametrize("residual", ["cache", "line"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_change_starts_as_reuse_of_what_is_kept(name: str, residual: Any) -> None:
    """Of the output, or of what entered the last block, which then runs on it under the time of now."""
    host, plain = FAMILIES[name].transformer(), {}
    for cached, where in (("output", Trunk()), ("tail", Span(0, -1))):
        options: dict[str, Any] = {"cached": cached, "residual": residual, "timed": True}
        predictor = Predictor.from_host(host, depth=1, init="host", **options).eval()
        plain[cached] = sampled(host, name, ruled(where, Reuse()))
        assert torch.equal(sampled(host, name, disca.disca(predictor, full_steps=FULL)), plain[cached])
    assert not torch.allclose(plain["output"], plain["tail"])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_line_that_rises_in_full_is_taylor_s_in_time(name: str) -> None:
    host, line = FAMILIES[name].transformer(), Taylor(1, variable="time")
    for cached, where in (("output", Trunk()), ("tail", Span(0, -1))):
        predictor = Predictor.from_host(host, depth=1, cached=cached, init="host", **EVERYTHING).eval()
        for rise in {id(one): one for one in predictor._each("rise")}.values():
            nn.init.ones_(rise[2].bias)
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


@pytest.mark.parametrize("cached", ["output", "tail"])
@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({"residual": "none"}, {"timed": True}),
        ({"residual": "cache"}, {"timed": True}),
        ({"residual": "cache"}, {"residual": "line"}),
        ({"residual": "cache"}, {"residual": "line", "timed": True}),
    ],
)
def test_what_is_added_starts_as_if_it_were_not_there(heard: Heard, options: Any, more: Any, cached: Any) -> None:
    plain = redraw(Predictor.from_host(heard.host, depth=1, cached=cached, **options))
    richer = Predictor.from_host(heard.host, depth=1, cached=cached, **{**options, **more}).eval()
    missing, unexpected = richer.load_state_dict(plain.state_dict(), strict=False)
    assert missing and not unexpected
    assert all(name.startswith(("timing", "rise")) for name in missing)
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
        ({"residual": "slope"}, "residual"),
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
