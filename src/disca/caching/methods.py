"""Published methods: each is a line of data. A new one joins by being listed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal

from disca.caching.forecasts import Forecast, Learned, RepeatChange, Reuse, Taylor
from disca.caching.gates import Every, Gate, Given, OneOf
from disca.caching.policy import Policy, Rule
from disca.caching.sites import Trunk
from disca.errors import unknown
from disca.features import Features
from disca.schedules import Schedule

FullSteps = Schedule | Sequence[Schedule] | Iterable[int]
"""A schedule, which is refused by runs of another length; several, one for each length; or the full steps alone, which
fit every run long enough."""


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


def _on_trunk(
    how: Forecast[Any], full_steps: FullSteps | None, every: int | None, warmup: int, phase: int, force_last: bool
) -> Policy:
    return (Rule(where=Trunk(), when=_gate(full_steps, every, warmup, phase, force_last), how=how),)


def _gate(full_steps: FullSteps | None, every: int | None, warmup: int, phase: int, force_last: bool) -> Gate:
    if (full_steps is None) == (every is None):
        raise ValueError(
            f"Give one of full_steps (such as full_steps=(0, 2, 4, 7)) and every (such as every=4); given "
            f"full_steps={full_steps}, every={every}."
        )
    if every is not None:
        return Every(every, warmup, phase, force_last)
    if (warmup, phase, force_last) != (1, 0, False):
        raise ValueError("warmup, phase and force_last go with every. With full_steps, list the steps themselves.")
    if isinstance(full_steps, Schedule):
        return Given(full_steps.full_steps, full_steps.steps)
    given: tuple[Any, ...] = tuple(full_steps or ())
    return OneOf(given) if given and all(isinstance(one, Schedule) for one in given) else Given(given)


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


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("reuse", reuse, "FORA, arXiv:2407.01425 (at the trunk)"),
        Method("repeat_change", repeat_change, "Delta-DiT, arXiv:2406.01125 (the span is the trunk)"),
        Method("taylor", taylor, "TaylorSeer, arXiv:2503.06923 (at the trunk)"),
        Method("disca", disca, "DisCa, arXiv:2602.05449"),
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
    return method.function(**options)
