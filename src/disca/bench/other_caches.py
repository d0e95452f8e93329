"""Other caches on the same transformer: diffusers' own hooks, and cache-dit where it is installed.

Thresholds are set so high that a peer skips whenever it may: the weights are random, and what is asked is what a
skipped step costs, not when to skip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

ALWAYS = 1e9
"""A threshold that nothing exceeds."""

Within = Callable[[], AbstractContextManager[Any]]


@contextmanager
def _diffusers(make: Callable[[int], Any], transformer: Any, steps: int) -> Iterator[Within]:
    transformer.enable_cache(make(steps))
    try:
        yield partial(transformer.cache_context, "cond")
    finally:
        transformer.disable_cache()


def _first_block(steps: int) -> Any:
    from diffusers import FirstBlockCacheConfig

    return FirstBlockCacheConfig(threshold=ALWAYS)


def _taylorseer(steps: int) -> Any:
    from diffusers import TaylorSeerCacheConfig

    return TaylorSeerCacheConfig(cache_interval=2, disable_cache_before_step=1, max_order=1)


def _broadcast(steps: int) -> Any:
    from diffusers import PyramidAttentionBroadcastConfig

    return PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        cross_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=(-1, 1001),
        cross_attention_timestep_skip_range=(-1, 1001),
        current_timestep_callback=lambda: 500,
    )


def _magnitude(steps: int) -> Any:
    from diffusers import MagCacheConfig

    return MagCacheConfig(
        threshold=ALWAYS, max_skip_steps=1, retention_ratio=0.01, num_inference_steps=steps, mag_ratios=[1.0] * steps
    )


@contextmanager
def _cache_dit(transformer: Any, steps: int) -> Iterator[Within]:
    import cache_dit

    config = cache_dit.DBCacheConfig(
        num_inference_steps=steps,
        Fn_compute_blocks=1,
        Bn_compute_blocks=0,
        max_warmup_steps=1,
        residual_diff_threshold=ALWAYS,
        enable_separate_cfg=False,
    )
    cache_dit.enable_cache(transformer, cache_config=config)
    try:
        yield nullcontext
    finally:
        cache_dit.disable_cache(transformer)


PEERS: dict[str, Callable[[Any, int], AbstractContextManager[Within]]] = {
    "diffusers_first_block_cache": partial(_diffusers, _first_block),
    "diffusers_taylorseer": partial(_diffusers, _taylorseer),
    "diffusers_pyramid_attention_broadcast": partial(_diffusers, _broadcast),
    "diffusers_magcache": partial(_diffusers, _magnitude),
    "cache_dit": _cache_dit,
}
"""``peer(transformer, steps)``: enabled inside the block, which gives what each call is made inside of."""
