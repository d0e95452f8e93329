"""Learnable feature caching and few-step distillation for video diffusion transformers.

The names are handed on lazily, so that ``import disca`` loads no model and no trainer.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Bundle": "disca.bundle",
    "Frontier": "disca.planning",
    "METHODS": "disca.caching.methods",
    "Moment": "disca.features",
    "Policy": "disca.caching.policy",
    "Predictor": "disca.predictor.network",
    "Rule": "disca.caching.policy",
    "Run": "disca.caching.run",
    "Schedule": "disca.schedules",
    "SecondTime": "disca.meanflow.second_time",
    "Summary": "disca.caching.summary",
    "attach": "disca.caching.run",
    "from_calibration": "disca.bench.calibrate",
    "from_name": "disca.caching.methods",
    **dict.fromkeys(
        (
            "delta_dit",
            "disca",
            "duca",
            "easycache",
            "first_block_cache",
            "fora",
            "freqca",
            "hicache",
            "magcache",
            "pab",
            "repeat_change",
            "reuse",
            "rfc",
            "speca",
            "taylor",
            "taylorseer",
            "taylorseer_lite",
            "teacache",
            "toca",
        ),
        "disca.caching.methods",
    ),
}

_MODULES = ("official",)
"""Modules that come with ``import disca`` when they are asked for."""

__all__ = [*_HOMES, *_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("disca")
    if name in _MODULES:
        return import_module(f"disca.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'disca' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
