"""Published methods: each is a line of data. A new one joins by being listed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any

from disca.caching.methods.layers import duca, fora, hicache, pab, rfc, speca, taylorseer, toca
from disca.caching.methods.trunk import (
    delta_dit,
    disca,
    easycache,
    first_block_cache,
    freqca,
    magcache,
    repeat_change,
    reuse,
    taylor,
    taylorseer_lite,
    teacache,
)
from disca.caching.methods.when import FullSteps
from disca.caching.policy import Policy
from disca.errors import unknown


@dataclass(frozen=True)
class Method:
    """A row of the table that the tests, the command line, the docs and the report list methods from."""

    name: str
    function: Callable[..., Policy]
    citation: str

    @property
    def options(self) -> tuple[str, ...]:
        """Names of what the function takes."""
        return tuple(signature(self.function).parameters)

    @property
    def required(self) -> tuple[str, ...]:
        """Those without a default."""
        parameters = signature(self.function).parameters.values()
        return tuple(one.name for one in parameters if one.default is one.empty)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("reuse", reuse, "FORA, arXiv:2407.01425 (at the trunk)"),
        Method("repeat_change", repeat_change, "Delta-DiT, arXiv:2406.01125 (the span is the trunk)"),
        Method("taylor", taylor, "TaylorSeer, arXiv:2503.06923 (at the trunk)"),
        Method("disca", disca, "DisCa, arXiv:2602.05449"),
        Method("fora", fora, "FORA, arXiv:2407.01425"),
        Method("delta_dit", delta_dit, "Delta-DiT, arXiv:2406.01125"),
        Method("pab", pab, "Pyramid Attention Broadcast, arXiv:2408.12588"),
        Method("teacache", teacache, "TeaCache, arXiv:2411.19108"),
        Method("taylorseer", taylorseer, "TaylorSeer, arXiv:2503.06923"),
        Method("taylorseer_lite", taylorseer_lite, "TaylorSeer, arXiv:2503.06923 (last projection)"),
        Method("toca", toca, "ToCa, arXiv:2410.05317"),
        Method("duca", duca, "DuCa, arXiv:2412.18911"),
        Method("speca", speca, "SpeCa, arXiv:2509.11628"),
        Method("rfc", rfc, "Relational Feature Caching, arXiv:2602.19506"),
        Method("magcache", magcache, "MagCache, arXiv:2506.09045"),
        Method("easycache", easycache, "EasyCache, arXiv:2507.02860"),
        Method("first_block_cache", first_block_cache, "First-block cache, ParaAttention and diffusers"),
        Method("hicache", hicache, "HiCache, arXiv:2508.16984"),
        Method("freqca", freqca, "FreqCa, arXiv:2510.08669"),
    )
}


def from_name(name: str, **options: Any) -> Policy:
    """The policy of a method by its name, such as ``from_name("taylor", every=4)``.

    Raises:
        ValueError: a method or an option that nobody knows; the message names the nearest.
    """
    if name not in METHODS:
        raise ValueError(unknown("policy", name, METHODS))
    method = METHODS[name]
    for option in options:
        if option not in method.options:
            raise ValueError(unknown(f"option of {name}", option, method.options))
    if "predictor" in method.options and "predictor" not in options:
        raise ValueError(f"The policy {name} needs a predictor, made for the host it is attached to.")
    missing = [name for name in method.required if name not in options]
    if missing:
        raise ValueError(f"{name} needs {', '.join(missing)}; see disca.{name}.")
    return method.function(**options)


__all__ = ["METHODS", "FullSteps", "Method", "from_name", *METHODS]
