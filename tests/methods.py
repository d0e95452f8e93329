"""Settings of every published method for the tests: some at which it forecasts, some at which every step is full."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import disca
from disca.caching.methods import METHODS, from_name
from disca.caching.policy import Policy
from tests.families import redraw

SOME: dict[str, dict[str, Any]] = {
    "reuse": {"every": 2},
    "repeat_change": {"every": 2},
    "taylor": {"every": 2},
    "disca": {"every": 2},
    "fora": {"every": 2},
    "delta_dit": {"every": 2},
    "pab": {"attention": 2, "cross_attention": 2, "window": (0.0, 1.0)},
    "teacache": {"threshold": 1e9, "force_last": False},
    "taylorseer": {"every": 2},
    "taylorseer_lite": {"every": 2, "warmup": 1},
    "toca": {"every": 2, "ratio": 0.3, "bonus": 0.5, "layer_weight": 0.5},
    "duca": {"every": 3, "ratio": 0.3},
    "speca": {"threshold": 0.0, "floor": 0.0, "fewest": 1, "most": 2},
    "rfc": {"every": 2, "warmup": 1},
    "magcache": {"error": 1.0, "skips": 1, "retention": 0.0, "constants": (1.0, 1.0)},
    "easycache": {"threshold": 1e9, "warmup": 2, "force_last": False},
    "first_block_cache": {"threshold": 1e9},
    "hicache": {"every": 2, "warmup": 1},
    "freqca": {"every": 2, "warmup": 1},
}

EVERYTHING: dict[str, dict[str, Any]] = {
    **{name: {"every": 1} for name, options in SOME.items() if "every" in options},
    "toca": {"every": 1, "ratio": 0.3},
    "duca": {"every": 1, "ratio": 0.3},
    "pab": {"attention": 1, "cross_attention": 1},
    "teacache": {"threshold": 0.0},
    "speca": {"threshold": 0.0, "floor": 0.0, "fewest": 1, "most": 2, "verdict": "same"},
    "magcache": {"error": 1.0, "skips": 0, "constants": (1.0, 1.0)},
    "easycache": {"threshold": 0.0},
    "first_block_cache": {"threshold": 0.0},
}

COUNTED = tuple(name for name in METHODS if {"every", "full_steps"} <= set(METHODS[name].options))
"""Methods that take the same options of when to compute in full."""

INSIDE = ("fora", "pab", "taylorseer", "toca", "duca", "speca", "rfc", "hicache")
"""Methods with sites inside of blocks."""

TRUNK = ("reuse", "repeat_change", "taylor", "disca", "freqca")
"""Those of them for which the trunk is one site."""

PREDICTORS: dict[str, dict[str, Any]] = {
    "disca": {"depth": 1},
    "disca/all": {
        "depth": 1,
        "cached": "tail",
        "residual": "line",
        "timed": True,
        "init": "host",
    },
}
"""Predictors that the method disca is tried with: the authors' layout, and one with everything else."""


def policy(name: str, host: nn.Module | None = None, **when: Any) -> Policy:
    """A method for a host. ``when`` says when it computes in full: as its own options say, or as near to
    ``every=1`` and ``every=2`` as it has settings for."""
    extras: dict[str, Any] = {}
    if name in PREDICTORS:
        assert host is not None
        torch.manual_seed(0)
        extras["predictor"] = disca.Predictor.from_host(host, **PREDICTORS[name]).eval()
        if name != "disca":
            redraw(extras["predictor"])  # none of its parts idle
        name = "disca"
    if name in COUNTED and when != {"every": 1}:
        kept = {key: value for key, value in SOME[name].items() if key not in ("every", "warmup")}
        warmup = {"warmup": 1} if "every" in when and "warmup" in SOME[name] else {}
        if name == "duca" and when == {"every": 2}:
            when = {"every": 3}
        return from_name(name, **{**kept, **warmup, **when}, **extras)
    assert when in ({"every": 1}, {"every": 2})
    return from_name(name, **(EVERYTHING if when == {"every": 1} else SOME)[name], **extras)
