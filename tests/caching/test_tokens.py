"""Fresh tokens: which are chosen, and that they are computed (law 6 is in tests/laws)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import disca
from disca.adapters import adapter_for
from disca.adapters.hunyuan_video import HUNYUAN_VIDEO
from disca.adapters.wan import WAN
from disca.caching.attention import AttentionSeen, value_norms
from disca.caching.tokens import FreshTokens
from disca.features import Call, Features, Moment
from tests.families import FAMILIES


def moment(step: int, grid: Any = None, branch: str = "cond") -> Moment:
    return Moment(step=step, steps=10, t=1 - step / 10, r=0.9 - step / 10, branch=branch, grid=grid)


class Seen:
    """Scores as an attention layer would give them."""

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores

    def spread(self, tokens: int) -> None:
        return None

    def received(self, tokens: int) -> Tensor:
        return self.scores


def full_step(how: FreshTokens, scores: list[float], step: int = 0, **at: Any) -> Any:
    tokens = torch.zeros(1, len(scores), 2)
    memory, seen = how.start(), Seen(torch.tensor([scores]))
    how.observe(memory, moment(step, **at), Call((tokens,), tuple, signals={"attention": lambda: seen}), (tokens,))
    return memory


def refreshed(how: FreshTokens, memory: Any, step: int, **at: Any) -> list[int]:
    """Which tokens are computed at a step; a computed token becomes the number of the step."""
    tokens = memory.outputs[0]

    def compute(inputs: Tensor) -> Features:
        return (torch.full_like(inputs, float(step)),)

    (outputs,) = how.predict(memory, moment(step, **at), Call((torch.zeros_like(tokens),), compute))
    return (outputs[0, :, 0] == step).nonzero().flatten().tolist()


def test_the_most_attended_tokens_are_computed_and_kept() -> None:
    how = FreshTokens(0.5, age_weight=0.0)
    memory = full_step(how, [0.1, 0.9, 0.5, 0.2])
    assert refreshed(how, memory, 1) == [1, 2]
    assert memory.outputs[0][0, :, 0].tolist() == [0, 1, 1, 0]


def test_old_tokens_get_their_turn() -> None:
    how = FreshTokens(0.25, interval=1, age_weight=10.0)
    memory = full_step(how, [0.4, 0.3, 0.2, 0.1])
    assert [refreshed(how, memory, step) for step in range(1, 6)] == [[0], [1], [2], [3], [0]]


def test_the_best_of_each_cell_gets_a_bonus() -> None:
    scores = [0.9, 0.8, 0.7, 0.6, 0.1, 0.2, 0.3, 0.4]  # two frames of 2 x 2
    spread = FreshTokens(0.25, age_weight=0.0, bonus=9.0)
    assert refreshed(FreshTokens(0.25, age_weight=0.0), full_step(spread, scores), 1, grid=(2, 2, 2)) == [0, 1]
    assert refreshed(spread, full_step(spread, scores), 1, grid=(2, 2, 2)) == [0, 7]


def test_cells_at_the_edge_may_be_smaller() -> None:
    how = FreshTokens(2 / 3, age_weight=0.0, bonus=9.0, cell=2)
    assert refreshed(how, full_step(how, [0.9, 0.8, 0.1]), 1, grid=(1, 1, 3)) == [0, 2]


def test_both_halves_of_batched_guidance_choose_the_same_tokens() -> None:
    how = FreshTokens(0.5, age_weight=0.0)
    memory, seen = how.start(), Seen(torch.tensor([[0.9, 0.5, 0.0, 0.0], [0.0, 0.5, 0.6, 0.0]]))
    tokens = torch.zeros(2, 4, 2)
    at = moment(0, branch="cond_uncond")
    how.observe(memory, at, Call((tokens,), tuple, signals={"attention": lambda: seen}), (tokens,))
    assert memory.score is not None and torch.equal(memory.score[0], memory.score[1])


def test_random_tokens_are_the_same_for_all_branches_and_others_at_each_step() -> None:
    how = FreshTokens(0.5, score="random")
    chosen = {
        (branch, step): refreshed(how, full_step(how, [0.0] * 16), step, branch=branch)
        for branch in ("cond", "uncond")
        for step in (1, 2)
    }
    assert chosen["cond", 1] == chosen["uncond", 1] != chosen["cond", 2]
    assert len(chosen["cond", 1]) == 8


@pytest.mark.parametrize(("depth", "share"), [(0.0, 0.6), (0.5, 0.4), (1.0, 0.2)])
def test_early_blocks_get_more_fresh_tokens(depth: float, share: float) -> None:
    assert FreshTokens(0.4, layer_weight=0.5)._share(moment(0), depth) == pytest.approx(share)


def test_attention_is_seen_as_it_is() -> None:
    seen = AttentionSeen(HUNYUAN_VIDEO)
    query, key, value = (torch.randn(2, 3, 2000, 4, generator=torch.Generator().manual_seed(i)) for i in range(3))
    mask = torch.ones(2, 1, 1, 2000, dtype=torch.bool)
    mask[..., -5:] = False
    with seen.watching("attention", tuple):
        F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    weights = (query @ key.transpose(-1, -2) / 2).masked_fill(~mask, -torch.inf).softmax(-1).mean(1)
    received = seen.received(1990)
    assert received is not None and torch.allclose(received, weights.sum(1)[:, :1990], atol=1e-4)
    text = AttentionSeen(HUNYUAN_VIDEO, text=True, kernels=seen.kernels).received(10)
    assert text is not None and torch.allclose(text, weights.sum(1)[:, -10:], atol=1e-4)
    spread = AttentionSeen(WAN, kernels={"cross_attention": seen.kernels["attention"]}).spread(2000)
    expected = -(weights * weights.clamp_min(1e-30).log()).sum(-1)
    assert spread is not None and torch.allclose(spread, expected, atol=1e-3)


@pytest.mark.parametrize("family", ["hunyuan_video", "wan", "flux"])
@pytest.mark.parametrize("score", ["attention", "value_norm"])
def test_scores_come_from_the_host_s_own_attention(family: str, score: Any) -> None:
    """Weights and value norms choose other tokens than chance, and no warning is needed."""
    host = FAMILIES[family].transformer(0)
    timesteps = [adapter_for(host).timestep_at(t) for t in (1.0, 0.5)]
    outputs = {}
    for chosen in (score, "random"):
        with disca.attach(host, disca.toca(every=9, ratio=0.3, score=chosen), timesteps=timesteps):
            inputs = FAMILIES[family].inputs(host)
            with torch.no_grad():
                for t in (1.0, 0.5):
                    outputs[chosen] = FAMILIES[family].call(host, inputs, t, t - 0.5)
    assert not torch.equal(outputs[score], outputs["random"])


def test_where_the_kernel_shows_no_weights_value_norms_stand_in() -> None:
    seen = AttentionSeen(HUNYUAN_VIDEO)
    norms = (torch.randn(1, 6), torch.randn(1, 2))
    with seen.watching("attention", lambda: norms):
        pass
    assert seen.received(6) is None
    assert torch.equal(seen.value_norms(6), norms[0])
    assert torch.equal(AttentionSeen(HUNYUAN_VIDEO, True, {}, seen.fallbacks).value_norms(2), norms[1])


def test_fused_projections_have_no_value_norms() -> None:
    with pytest.raises(ValueError, match="Unfuse its projections"):
        value_norms(nn.Module(), (torch.zeros(1, 2, 3),))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"ratio": 1.2}, "from 0 to 1"), ({"ratio": 0.5, "score": "value"}, "score must be"), ({"ratio": 0.5, "cell": 0},
    "at least 1")],
)  # fmt: skip
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        disca.toca(every=3, **options)
