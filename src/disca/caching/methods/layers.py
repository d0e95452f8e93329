"""Published methods that work on the layers inside of blocks: each is a line of data."""

from __future__ import annotations

from typing import Literal

from disca.caching.forecasts import Reuse
from disca.caching.gates import Alternate, Broadcast, Every, Given, Narrowing, OneOf, Static
from disca.caching.methods.when import FullSteps, gate
from disca.caching.policy import Policy, Rule
from disca.caching.polynomials import Hermite, Relational, Taylor
from disca.caching.sites import Trunk
from disca.caching.sublayers import Sublayers
from disca.caching.tokens import FreshTokens, Score
from disca.caching.watchful import InputForecastError, Verified

ATTENTION = Sublayers(("attention", "cross_attention"))
FEED_FORWARD = Sublayers(("feed_forward", "single"))


def fora(
    *,
    full_steps: FullSteps | None = None,
    every: int | None = None,
    warmup: int = 1,
    phase: int = 0,
    force_last: bool = False,
) -> Policy:
    """The last full outputs of every attention and feed-forward layer again.

    FORA (arXiv 2407.01425). Its released rule for DiT counts down: ``every=3, phase=1`` at 50 steps; HunyuanVideo was
    measured with ``every=5`` and 6. The arguments are those of :func:`disca.reuse`.
    """
    return (Rule(Sublayers(), gate(full_steps, every, warmup, phase, force_last), Reuse()),)


def pab(
    *,
    attention: int,
    cross_attention: int | None = None,
    window: tuple[float, float] = (0.1, 0.8),
    unit: Literal["time", "steps"] = "time",
) -> Policy:
    """Attention outputs are broadcast over the following steps inside of a window; everything else is computed.

    Pyramid attention broadcast (arXiv 2408.12588): the window is (0.1, 0.8) for Latte, (0.1, 0.85) for CogVideoX. It
    covers few steps where the scheduler is shifted. What is kept is the output before its gate; the broadcast of
    feed-forward layers in the authors' code is not built.

    Args:
        attention: self or joint attention is computed at every so many steps.
        cross_attention: cross attention is; by default three times as seldom (2 and 6 in Open-Sora).
        window: times between which outputs are broadcast, 1 is noise and 0 is data.
        unit: what the window is in: the ``time`` t, or ``steps``, the share of them that is still to come.
    """
    seldom = 3 * attention if cross_attention is None else cross_attention
    own, text = Sublayers(("attention", "single_attention")), Sublayers(("cross_attention",), required=False)
    return (
        Rule(own, Broadcast(attention, window, unit), Reuse()),
        Rule(text, Broadcast(seldom, window, unit), Reuse()),
    )


def taylorseer(
    *,
    full_steps: FullSteps | None = None,
    every: int | None = None,
    order: int = 1,
    form: Literal["published", "newton"] = "published",
    variable: Literal["step", "time"] = "step",
    warmup: int = 1,
    phase: int = 0,
    force_last: bool = False,
) -> Policy:
    """A polynomial through the past outputs of every attention and feed-forward layer.

    TaylorSeer (arXiv 2503.06923): HunyuanVideo was measured with ``every=5, order=1``, and ``every=6, warmup=3`` in
    later code; diffusers' hook is ``every=5, warmup=3, phase=2``. The arguments are those of :func:`disca.taylor`.
    """
    how = Taylor(order, form, variable, begin=max(0, warmup - 1))
    return (Rule(Sublayers(), gate(full_steps, every, warmup, phase, force_last), how),)


def hicache(
    *,
    full_steps: FullSteps | None = None,
    every: int | None = None,
    order: int = 2,
    sigma: float = 0.5,
    warmup: int | None = None,
    phase: int = 0,
    force_last: bool = False,
) -> Policy:
    """Hermite polynomials through the past outputs of every attention and feed-forward layer.

    HiCache (arXiv 2508.16984), measured with ``every=6`` and 7 on Flux.

    Args:
        order: degree of the polynomial.
        sigma: how much it is contracted; the authors find 0.5 best.
        warmup: how many first steps are full; 3 by default.

    The other arguments are those of :func:`disca.reuse`.
    """
    when = gate(full_steps, every, warmup, phase, force_last, usual=3)
    return (Rule(Sublayers(), when, Hermite(order, sigma=sigma)),)


def toca(
    *,
    ratio: float,
    full_steps: FullSteps | None = None,
    every: int | None = None,
    score: Score = "attention",
    layer_weight: float = 0.0,
    step_weight: float = 0.0,
    bonus: float = 0.0,
    cell: int = 2,
    adaptive: bool = False,
    warmup: int = 1,
    phase: int = 0,
    force_last: bool = False,
) -> Policy:
    """The last full attention outputs again; feed-forward layers of the worthiest tokens computed afresh.

    ToCa (arXiv 2410.05317), measured on HunyuanVideo with ``every=5, ratio=0.1``. In single-stream blocks the attention
    part is reused and the rest computed for the chosen tokens, which are written back; the authors' port computes them
    without.

    Args:
        ratio: share of tokens computed afresh.
        score: ``attention`` weights (entropy of cross attention where there is one, else how much a token is attended
            to); ``value_norm``, which needs no weights, and is used where the kernel shows none; or ``random``.
        layer_weight: how much more of them in early than in late blocks (0.5 for Flux).
        step_weight: how much more of them in early than in late steps.
        bonus: share of its own score that the best token of each ``cell`` x ``cell`` tokens gets on top.
        adaptive: with ``every``, the authors' rule for DiT, which shortens the interval as the run goes on.

    The other arguments are those of :func:`disca.reuse`.
    """
    when = _token_gate(adaptive, full_steps, every, warmup, phase, force_last)
    how = FreshTokens(ratio, score, _interval(when), 0.25, layer_weight, step_weight, bonus, cell)
    return (Rule(ATTENTION, when, Reuse()), Rule(FEED_FORWARD, when, how))


def duca(
    *,
    ratio: float,
    full_steps: FullSteps | None = None,
    every: int | None = None,
    score: Score = "random",
    layer_weight: float = 0.0,
    step_weight: float = 0.0,
    bonus: float = 0.0,
    cell: int = 2,
    warmup: int = 1,
    phase: int = 0,
    force_last: bool = False,
) -> Policy:
    """Steps of :func:`toca`, and between them steps at which the trunk's last outputs are used again.

    DuCa (arXiv 2412.18911), measured on HunyuanVideo with ``every=5, ratio=0.1`` and random tokens: a full step, then
    by turns a conservative and an aggressive one. The arguments are those of :func:`toca`.
    """
    when = gate(full_steps, every, warmup, phase, force_last)
    how = FreshTokens(ratio, score, _interval(when), 0.25, layer_weight, step_weight, bonus, cell)
    return (
        Rule(Trunk(), Alternate(when), Reuse()),
        Rule(ATTENTION, when, Reuse()),
        Rule(FEED_FORWARD, when, how),
    )


def speca(
    *,
    threshold: float,
    decay: float = 0.1,
    floor: float = 0.1,
    fewest: int = 4,
    most: int = 12,
    order: int = 1,
    warmup: int = 1,
    error_form: Literal["elements", "norms"] = "elements",
    verdict: Literal["next", "same"] = "next",
) -> Policy:
    """Forecasts of :func:`taylorseer` as drafts, checked at the last block; a bad draft makes a step full.

    SpeCa (arXiv 2509.11628). What is compared is the hidden state after the last block. The defaults are the authors'
    for HunyuanVideo, where the threshold is 1; for Flux it is 7, with ``decay=0.3, fewest=2, most=8, order=2,
    warmup=3``.

    Args:
        threshold: the error that is accepted at the first step.
        decay: what it has fallen to at the last step, as a share.
        floor: the least error that is accepted at any step.
        fewest: so many drafts follow a full step whatever the error.
        most: no more drafts than that follow one.
        order: degree of the polynomial.
        warmup: how many first steps are full, but for the one after a full step.
        error_form: ``elements``, as in the code, the mean relative error of single numbers; ``norms``, as in the paper.
        verdict: a bad draft makes the ``next`` step full, as in the code, or the ``same``, as in the paper.
    """
    when = Verified(threshold, decay, floor, fewest, most, warmup, error_form, verdict)
    return (Rule(Sublayers(), when, Taylor(order, begin=max(0, warmup - 1))),)


def rfc(
    *,
    threshold: float | None = None,
    full_steps: FullSteps | None = None,
    every: int | None = None,
    order: int = 1,
    warmup: int | None = None,
    phase: int = 0,
    force_last: bool = False,
) -> Policy:
    """The direction of :func:`taylorseer`, as far as the change of each layer's inputs says.

    Relational feature caching (arXiv 2602.19506), with one norm for each sample and stream.

    Args:
        threshold: relational scheduling: a step is full when the errors of forecasting the first layer's input, summed
            up, reach this; 0 computes all. Or give ``full_steps`` or ``every``.
        order: degree of the polynomial that gives the direction.
        warmup: how many first steps are full; by default 2, after which the relation is known.

    The other arguments are those of :func:`disca.reuse`.
    """
    if threshold is None:
        when = gate(full_steps, every, warmup, phase, force_last, usual=2)
        return (Rule(Sublayers(), when, Relational(order)),)
    if full_steps is not None or every is not None:
        raise ValueError("Give one of threshold, full_steps and every.")
    return (
        Rule(
            Sublayers(),
            InputForecastError(threshold, order, 2 if warmup is None else warmup, force_last),
            Relational(order),
        ),
    )


def _interval(when: Static) -> int:
    """About how many steps apart full ones are."""
    if isinstance(when, (Every, Narrowing)):
        return when.n
    full = (
        when.full_steps if isinstance(when, Given) else when.schedules[0].full_steps if isinstance(when, OneOf) else ()
    )
    return max(1, round(full[-1] / (len(full) - 1))) if len(full) > 1 else 1


def _token_gate(
    adaptive: bool, full_steps: FullSteps | None, every: int | None, warmup: int, phase: int, force_last: bool
) -> Static:
    if not adaptive:
        return gate(full_steps, every, warmup, phase, force_last)
    if every is None or full_steps is not None or (warmup, phase, force_last) != (1, 0, False):
        raise ValueError("adaptive goes with every alone.")
    return Narrowing(every)
