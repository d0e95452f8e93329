"""Published methods that take the trunk as one site: each is a line of data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from disca.caching.constants import magnitudes, rescaling
from disca.caching.ends import LastProjection, Output
from disca.caching.forecasts import Forecast, Offset, RepeatChange, Reuse
from disca.caching.gates import Every, From, Magnitudes
from disca.caching.learned import Learned
from disca.caching.methods.when import FullSteps, gate
from disca.caching.policy import Policy, Rule
from disca.caching.polynomials import Bands, Taylor
from disca.caching.sites import Span, Trunk
from disca.caching.watchful import Drift, InputChange, ProbeChange
from disca.features import Features


def reuse(
    *,
    full_steps: FullSteps | None = None,
    every: int | None = None,
    warmup: int = 1,
    phase: int = 0,
    force_last: bool = False,
) -> Policy:
    """The trunk's last full outputs again.

    The plainest cache, and the one to beat. FORA (arXiv 2407.01425) reuses so in the attention and feed-forward
    layers; here the trunk is one site, one tensor of video tokens and one of text tokens.

    Args:
        full_steps: the steps to compute in full, as a Schedule or as numbers from 0; or
        every: compute the first ``warmup`` steps in full, then every so many. Exactly one of the two is given.
        warmup: how many first steps are full.
        phase: how many steps the count waits after them.
        force_last: whether the last step is full in any case.

    Raises:
        ValueError: both or none of ``full_steps`` and ``every``, or steps that are no schedule.
    """
    return _on_trunk(Reuse(), full_steps, every, warmup, phase, force_last)


def repeat_change(
    *,
    full_steps: FullSteps | None = None,
    every: int | None = None,
    warmup: int = 1,
    phase: int = 0,
    force_last: bool = False,
) -> Policy:
    """The trunk's inputs of now, changed as at the last full step.

    Delta-DiT (arXiv 2406.01125) repeats so the change of a span of blocks; here the span is the whole trunk.
    The arguments are those of :func:`reuse`.
    """
    return _on_trunk(RepeatChange(), full_steps, every, warmup, phase, force_last)


def taylor(
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
    """A polynomial through the trunk's past full outputs.

    TaylorSeer (arXiv 2503.06923) forecasts so every attention and feed-forward layer; here the trunk is one site,
    ``order + 1`` times the memory of :func:`reuse`.

    Args:
        order: degree of the polynomial; 0 is reuse.
        form: ``published``, the default, is the recursion of the authors' code, which takes equal gaps for granted;
            ``newton`` goes exactly through the last full outputs, however far apart they are.
        variable: what the polynomial is in: the index of the ``step``, as published, or the ``time`` t.

    The other arguments are those of :func:`reuse`.
    """
    return _on_trunk(Taylor(order, form, variable), full_steps, every, warmup, phase, force_last)


def disca(
    predictor: Callable[..., Features],
    *,
    full_steps: FullSteps | None = None,
    every: int | None = None,
    warmup: int = 1,
    phase: int = 0,
    force_last: bool = False,
) -> Policy:
    """A small network's guess of the trunk's outputs, from its inputs of now and its last full outputs.

    DisCa (arXiv 2602.05449): a distilled student of 20 steps with full steps 0 1 2 5 9 13 17 19 (HunyuanVideo), of 8
    steps with 0 2 4 7 (HunyuanVideo-1.5, image to video).

    Args:
        predictor: a :class:`disca.predictor.network.Predictor` made for the host. ``predictor(current=, cached=,
            conditioning=)`` gives features.

    The other arguments are those of :func:`reuse`.
    """
    return _on_trunk(Learned(predictor), full_steps, every, warmup, phase, force_last)


def freqca(
    *,
    full_steps: FullSteps | None = None,
    every: int | None = None,
    order: int = 2,
    sigma: float = 0.71,
    cut: float = 0.1,
    warmup: int | None = None,
    phase: int = 0,
    force_last: bool = False,
) -> Policy:
    """The low spatial frequencies of the trunk's outputs again, a Hermite polynomial through the high ones.

    FreqCa (arXiv 2510.08669), with a transform over frames, rows and columns where the host says how its tokens lie,
    and along all tokens where not (as its authors do for Qwen-Image). Their look-ahead is not built.

    Args:
        order: degree of the polynomial.
        sigma: how much it is contracted.
        cut: share of the largest frequency up to which frequencies are low.
        warmup: how many first steps are full; 3 by default.

    The other arguments are those of :func:`reuse`.
    """
    when = gate(full_steps, every, warmup, phase, force_last, usual=3)
    return (Rule(Trunk(), when, Bands(order, sigma=sigma, cut=cut)),)


def taylorseer_lite(
    *,
    full_steps: FullSteps | None = None,
    every: int | None = None,
    order: int = 2,
    form: Literal["published", "newton"] = "published",
    variable: Literal["step", "time"] = "step",
    warmup: int | None = None,
    phase: int = 0,
    force_last: bool = False,
) -> Policy:
    """A polynomial through past outputs of the host's last projection; no block runs.

    The light variant of TaylorSeer (arXiv 2503.06923): ``order + 1`` tensors of the size of the latents. The warm-up is
    3 by default; the arguments are those of :func:`taylor`.
    """
    when = gate(full_steps, every, warmup, phase, force_last, usual=3)
    begin = 0 if full_steps is not None else 2 if warmup is None else max(0, warmup - 1)
    return (Rule(LastProjection(), when, Taylor(order, form, variable, begin=begin)),)


def delta_dit(*, every: int, switch: float = 0.5) -> Policy:
    """The change that half of the blocks makes, again: of the back half while outlines form, of the front half later.

    Delta-DiT (arXiv 2406.01125). The halves are the two stacks where there are two, as of HunyuanVideo. The step at the
    switch is full.

    Args:
        every: compute all blocks at every so many steps.
        switch: share of the steps after which the front half is spared instead of the back half.
    """
    back, front = Span("middle", None), Span(0, "middle")
    return (
        Rule(back, From(Every(every), 0.0, switch), RepeatChange()),
        Rule(front, From(Every(every), switch, 1.0), RepeatChange()),
    )


def teacache(
    *,
    threshold: float,
    constants: str | Path | Sequence[float] | None = None,
    signal: Literal["modulated", "time_embedding", "time_projection"] | None = None,
    warmup: int = 1,
    force_last: bool = True,
) -> Policy:
    """The trunk's inputs of now, changed as at the last full step, until the modulated input has drifted too far.

    TeaCache (arXiv 2411.19108). In a batch the worst sample decides, and the first branch of a step decides for all;
    the authors average, and decide for each branch.

    Args:
        threshold: the sum of rescaled relative changes at which a step is full; 0 computes all. The authors use 0.1 and
            0.15 for HunyuanVideo.
        constants: the polynomial that rescales, highest power first; or the name of the authors' for a model, such as
            ``hunyuan_video``; or a file that ``disca calibrate teacache`` wrote. None does not rescale.
        signal: what drifts: the ``modulated`` input of the first block, or for Wan the ``time_embedding`` or its
            ``time_projection``. By default what the constants were fitted to.
        warmup: how many first steps are full.
        force_last: whether the last step is full.

    Raises:
        ValueError: a threshold below 0, constants that nobody knows.
    """
    fitted = rescaling(constants)
    when = Drift(
        threshold, fitted.polynomial, signal or fitted.signal, warmup, force_last, fitted.range, fitted.made_for
    )
    return (Rule(Trunk(), when, RepeatChange()),)


def magcache(*, error: float, skips: int, constants: str | Path | Sequence[float], retention: float = 0.2) -> Policy:
    """The trunk's inputs of now, changed as at the last full step, while the sizes of changes say that this will do.

    MagCache (arXiv 2506.09045); the authors use error=0.24, skips=6 (fast) or error=0.12, skips=4 for HunyuanVideo. One
    table serves all branches; theirs has one for each. Which steps are full is known before sampling.

    Args:
        error: how far the product of the ratios may stray from 1, summed up over forecasts.
        skips: the most forecasts in a row.
        constants: the ratio of the norms of successive changes for each step; or the name of the authors' table for a
            model, ``hunyuan_video_720p``; or a file that ``disca calibrate magcache`` wrote.
        retention: share of first steps that are full.

    Raises:
        ValueError: values out of range, constants that nobody knows.
    """
    table = magnitudes(constants)
    return (Rule(Trunk(), Magnitudes(table.ratios, error, skips, retention, table.made_for), RepeatChange()),)


def first_block_cache(*, threshold: float, warmup: int = 1) -> Policy:
    """The change that all blocks but the first make, again, while the first one's differs little from what it was.

    First-block cache (ParaAttention, diffusers): the first block always runs. The threshold is 0.06 in ParaAttention
    for HunyuanVideo, and 0.05 in diffusers.

    Args:
        threshold: relative change of the first block's change at which a step is full; 0 computes all.
        warmup: how many first steps are full.
    """
    return (Rule(Span(1, None), ProbeChange(threshold, warmup), RepeatChange()),)


def easycache(*, threshold: float, warmup: int = 5, force_last: bool = True) -> Policy:
    """The latents of now plus what the model added to them at the last full step; nothing of the model runs.

    EasyCache (arXiv 2507.02860); the authors use 0.025 and 5 for HunyuanVideo, 0.05 and 10 for Wan.

    Args:
        threshold: the sum of expected relative changes of the output at which a step is full; 0 computes all.
        warmup: how many first steps are full.
        force_last: whether the last step is full.
    """
    return (Rule(Output(), InputChange(threshold, warmup, force_last), Offset()),)


def _on_trunk(
    how: Forecast[Any], full_steps: FullSteps | None, every: int | None, warmup: int, phase: int, force_last: bool
) -> Policy:
    return (Rule(where=Trunk(), when=gate(full_steps, every, warmup, phase, force_last), how=how),)
