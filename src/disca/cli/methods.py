"""Options of the caching methods, as the command line takes them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any

from tyro.conf import arg


@dataclass(frozen=True, kw_only=True)
class MethodOptions:
    """Options of any method; each takes some of them. What is not given is the method's default."""

    full_steps: Annotated[tuple[int, ...] | None, arg(metavar="INT [INT ...]")] = None
    """The steps to compute in full, from 0; or give --every."""
    every: int | None = None
    """After the warm-up, compute every so many steps in full."""
    warmup: int | None = None
    """How many first steps are full."""
    phase: int | None = None
    """How many steps the count waits after the warm-up."""
    force_last: bool = False
    """Compute the last step in full in any case."""
    no_force_last: bool = False
    """Do not, where a method does so by default."""
    order: int | None = None
    """Degree of a polynomial forecast."""
    form: str | None = None
    """taylor: published, or newton."""
    variable: str | None = None
    """taylor: what the polynomial is in, step or time."""
    sigma: float | None = None
    """hicache, freqca: how much the polynomial is contracted."""
    cut: float | None = None
    """freqca: share of the largest frequency up to which frequencies are low."""
    switch: float | None = None
    """delta_dit: share of the steps after which the front half is spared."""
    attention: int | None = None
    """pab: attention is computed at every so many steps."""
    cross_attention: int | None = None
    """pab: cross attention is."""
    window: tuple[float, float] | None = None
    """pab: times between which outputs are broadcast, 1 is noise and 0 is data."""
    unit: str | None = None
    """pab: what the window is in, time or steps."""
    threshold: float | None = None
    """teacache, first_block_cache, easycache, speca, rfc: what makes a step full."""
    constants: str | None = None
    """teacache, magcache: published ones by name, or a file from `disca calibrate`."""
    signal: str | None = None
    """teacache: modulated, time_embedding or time_projection."""
    error: float | None = None
    """magcache: how far the product of the ratios may stray."""
    skips: int | None = None
    """magcache: the most forecasts in a row."""
    retention: float | None = None
    """magcache: share of first steps that are full."""
    ratio: float | None = None
    """toca, duca: share of tokens computed afresh."""
    score: str | None = None
    """toca, duca: attention, value_norm or random."""
    layer_weight: float | None = None
    """toca, duca: how much more of them in early blocks."""
    step_weight: float | None = None
    """toca, duca: how much more of them in early steps."""
    bonus: float | None = None
    """toca, duca: what the best token of a cell gets on top."""
    cell: int | None = None
    """toca, duca: rows and columns of a cell."""
    adaptive: bool = False
    """toca: intervals that shrink as the run goes on."""
    decay: float | None = None
    """speca: what the threshold has fallen to at the last step."""
    floor: float | None = None
    """speca: the least threshold."""
    fewest: int | None = None
    """speca: so many drafts follow a full step in any case."""
    most: int | None = None
    """speca: no more drafts than that do."""
    error_form: str | None = None
    """speca: elements or norms."""
    verdict: str | None = None
    """speca: a bad draft makes the next or the same step full."""

    def given(self) -> dict[str, Any]:
        """The options that were given, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(MethodOptions)}
        given = {name: value for name, value in values.items() if value is not None and value is not False}
        return {**given, "force_last": False} if given.pop("no_force_last", False) else given
