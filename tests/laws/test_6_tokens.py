"""Law 6: at one site, fresh tokens with ratio 1 equal full computation, with ratio 0 equal reuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from disca.caching.forecasts import Reuse
from disca.caching.gates import Every
from disca.caching.policy import Rule
from disca.caching.sublayers import Sublayers
from disca.caching.tokens import FreshTokens
from tests.families import FAMILIES

FEED_FORWARD = Sublayers(("feed_forward",))


@pytest.mark.hosts(*FAMILIES, "lab")
@pytest.mark.parametrize("score", ["random", "attention"])
def test_all_tokens_fresh_is_full_computation(host: Any, score: Any) -> None:
    plain = host.sample()
    with host.attach((Rule(FEED_FORWARD, Every(4), FreshTokens(1.0, score)),)):
        assert torch.equal(host.sample(), plain)


@pytest.mark.hosts("hunyuan_video", "wan", "lab", "flux")
@pytest.mark.parametrize("where", [FEED_FORWARD, Sublayers(("feed_forward", "single"))], ids=str)
def test_no_token_fresh_is_reuse(host: Any, where: Any) -> None:
    with host.attach((Rule(where, Every(4), Reuse()),)):
        reused = host.sample()
    with host.attach((Rule(where, Every(4), FreshTokens(0.0)),)):
        assert torch.equal(host.sample(), reused)
    with host.attach((Rule(where, Every(4), FreshTokens(0.5)),)):
        assert not torch.equal(host.sample(), reused)


@pytest.mark.hosts("hunyuan_video", "flux")
def test_in_single_stream_blocks_all_but_the_attention_is_fresh(host: Any) -> None:
    """With fresh inputs only the attention is old: that is what reusing it alone gives."""
    with host.attach((Rule(Sublayers(("single_attention",)), Every(4), Reuse()),)):
        expected = host.sample()
    with host.attach((Rule(Sublayers(("single",)), Every(4), FreshTokens(1.0)),)):
        assert torch.allclose(host.sample(), expected, atol=1e-5)
