"""Which schedulers a mean velocity is exact under."""

from __future__ import annotations

from typing import Any

EULER = ("FlowMatchEulerDiscreteScheduler", "FlowMapEulerDiscreteScheduler")


def require_euler(scheduler: Any, *, ascends: bool = False) -> None:
    """Make sure that a scheduler takes deterministic Euler steps along a flow: ``x_r = x_t - (t - r) u``, which the
    mean velocity makes exact. Steps that combine several velocities, or add noise, go elsewhere.

    ``ascends`` is for hosts that count from noise upward, and so need a scheduler that does.

    Raises:
        ValueError: it does not; the message names one that does.
    """
    name = type(scheduler).__name__
    wanted = f"FlowMatchEulerDiscreteScheduler{' with invert_sigmas=True' if ascends else ''}"
    if not any(cls.__name__ in EULER for cls in type(scheduler).__mro__):
        raise ValueError(
            f"A MeanFlow student is exact only under Euler steps of a flow, which {name} does not take. Give the "
            f"pipeline a {wanted}, with the shift the student was trained for."
        )
    for option, value in (("stochastic_sampling", False), ("invert_sigmas", ascends)):
        if bool(scheduler.config.get(option)) is not value:
            raise ValueError(
                f"A MeanFlow student is exact only under deterministic steps from noise to data, but this {name} has "
                f"{option}={not value}. Give the pipeline a FlowMatchEulerDiscreteScheduler with {option}={value}."
            )
