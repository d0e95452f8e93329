"""The terms beside the velocity's error: tokens, features, and a discriminator."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from disca.objectives import (
    Discriminator,
    discriminator_hinge,
    feature_matching,
    predictor_hinge,
    renoised,
    stepped,
    token_error,
)
from disca.training.clips import Draw
from tests.training.test_stages import task


def test_hinges_stop_where_the_discriminator_is_sure() -> None:
    sure, fooled = [torch.full((2, 3), 2.0)], [torch.full((2, 3), -2.0)]
    assert discriminator_hinge(sure, fooled) == 0 and discriminator_hinge(fooled, sure) == 6
    assert predictor_hinge(sure) == 0 and predictor_hinge(fooled) == 3
    assert predictor_hinge(sure, form="linear") == -2
    weight = torch.tensor([1.0, 0.0])
    mixed = [torch.tensor([[0.0], [100.0]])]
    assert predictor_hinge(mixed, weight=weight) == 1
    uneven = [torch.zeros(1, 100), torch.ones(1, 1)]  # heads count alike, however many positions they have
    assert predictor_hinge(uneven) == 0.5


def test_features_and_tokens_match_themselves_and_the_real_ones_take_no_gradient() -> None:
    real = [torch.randn(2, 4, 3, requires_grad=True)]
    fake = [real[0].detach().clone().requires_grad_()]
    assert feature_matching(fake, real) == 0 and token_error(fake, real) == 0
    (feature_matching([fake[0] + 1], real) + token_error([fake[0] + 1], real)).backward()
    assert real[0].grad is None and fake[0].grad is not None
    assert feature_matching([3 * real[0]], [real[0]]).item() == pytest.approx(2)
    scaled = [1000 * real[0].detach()]
    assert token_error([1.1 * scaled[0]], scaled).item() == pytest.approx(
        token_error([1.1 * real[0].detach()], real).item()
    )


def test_noise_takes_latents_to_where_the_path_has_them() -> None:
    generator = torch.Generator().manual_seed(0)
    x0, noise, more = torch.randn(3, 1, 200_000, dtype=torch.float64, generator=generator)
    r, s = torch.tensor([0.1]).double(), torch.tensor([0.4]).double()
    y = (1 - r) * (3 + 0 * x0) + r * noise
    moved = renoised(y, more, r, s)
    assert moved.mean() == pytest.approx(0.6 * 3, abs=0.01) and moved.std() == pytest.approx(0.4, rel=0.01)
    torch.testing.assert_close(stepped(y, noise - 3, r, torch.zeros(1).double()), 3 + 0 * y)


def test_a_discriminator_is_lipschitz_layer_by_layer_and_follows_its_weights() -> None:
    torch.manual_seed(0)
    judge = Discriminator(8, layers=2, scales=(1, 2, 4), width=12).eval()
    features = [torch.randn(2, 64, 8).transpose(1, 2).unflatten(2, (4, 4, 4)) for _ in range(2)]
    logits = judge(features)
    assert [tuple(one.shape) for one in logits] == 2 * [(2, 64), (2, 16), (2, 4)]
    assert all(torch.equal(one, other) for one, other in zip(logits, judge(features), strict=True))
    weight = judge.heads[0][0].look.parametrizations.weight.original
    with torch.no_grad():
        weight.mul_(50)
    for _ in range(30):
        judge.follow()
    assert torch.linalg.matrix_norm(judge.heads[0][0].look.weight.detach().flatten(1), 2) == pytest.approx(1, rel=0.05)
    assert not judge.training


ADVERSARIAL = {"adversarial": 1.0, "matching": 1.0, "tokens": 0.1, "width": 8, "alone": 2}


def test_each_side_learns_from_its_own_terms_only(chain: dict[str, Path]) -> None:
    stage = task("predictor", chain["student"], **ADVERSARIAL)
    stage.modules.train()
    draw = Draw.seeded(0, iteration=5)
    loss = stage.loss(draw)
    loss.value.backward()
    assert {"matching", "tokens", "critic_real", "critic_fake", "relative"} <= set(loss.measures)
    assert all(value.grad.abs().sum() > 0 for value in list(stage.critic.parameters())[:4])
    assert all(value.grad is None for value in stage.base.parameters())

    alone = task("predictor", chain["student"], **{**ADVERSARIAL, "alone": 100})
    alone.predictor.load_state_dict(stage.predictor.state_dict())
    alone.critic.load_state_dict(stage.critic.state_dict())
    stage.critic.zero_grad(), stage.predictor.zero_grad()
    alone.loss(Draw.seeded(0, iteration=5, first=False)).value.backward()  # the discriminator alone: it sees the same
    stage.loss(Draw.seeded(0, iteration=5, first=False)).value.backward()
    for one, other in zip(stage.critic.parameters(), alone.critic.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    mine = [value.grad for value in stage.predictor.parameters()]
    theirs = [value.grad for value in alone.predictor.parameters()]
    assert any(not torch.allclose(one, other) for one, other in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("judged_at", ["own", "renoise", "random"])
@pytest.mark.parametrize("pairs", ["rollout", "same_noise"])
def test_every_way_to_judge_trains(chain: dict[str, Path], judged_at: str, pairs: str) -> None:
    stage = task("predictor", chain["student"], **ADVERSARIAL, judged_at=judged_at, pairs=pairs)
    stage.modules.train()
    loss = stage.loss(Draw.seeded(0, 3, iteration=3))
    loss.value.backward()
    assert loss.value.isfinite() and any(value.grad.abs().sum() > 0 for value in stage.predictor.gate.parameters())
