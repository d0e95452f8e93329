"""How much an early error matters: what a move of the state has become by the end of the run."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from disca.training.host import AnyHost
from disca.training.steps import Steps, moved


@torch.no_grad()
def growth(host: AnyHost, x: Tensor, steps: Steps, own: range | None = None) -> Tensor:
    """How much longer an error of the state after each step is at the end of a run of full steps, ``[steps]``: that
    error which taking the velocity of the step before makes. Mean over the batch.

    An early error changes what the later steps aim at, so it grows, and one that the model cannot represent dies out.
    Costs one evaluation of the model for each pair of steps, or two where the scheduler has a memory.

    Args:
        x: The state ``[batch, ...]`` that the run begins at.
        own: The steps of the run, by default all; others have 1, as has the last step. The first has that of the
            second, since no step is before it.
    """
    own = own or range(len(steps))
    states, velocities = _run(host, x, steps, own)
    found = torch.ones(len(steps))
    for (before, step), state in zip(pairwise(own), states[2:], strict=True):
        later = range(step + 1, own[-1] + 1)
        if not later:
            continue
        length = (steps.times[step] - steps.times[step + 1]).to(state)
        error = length * (velocities[step] - velocities[before])
        end = states[-1] if steps.scheduler is None else moved(host, state, steps, later)
        grown = moved(host, state + error, steps, later) - end
        found[step] = (grown.flatten(1).norm(dim=1) / error.flatten(1).norm(dim=1).clamp(min=1e-12)).mean()
    if len(own) > 1:
        found[own[0]] = found[own[1]]
    return found


def _run(host: AnyHost, x: Tensor, steps: Steps, own: range) -> tuple[list[Tensor], dict[int, Tensor]]:
    """States of a run, with both ends, and the velocity of each step."""
    velocities: dict[int, Tensor] = {}
    advance, states = steps.start(own[0]), [x.to(torch.promote_types(x.dtype, torch.float32))]
    for step in own:
        t, r = (time.expand(len(x)) for time in steps.times[step : step + 2])
        velocities[step] = host(states[-1], t, r)
        states.append(advance(states[-1], velocities[step], step))
    return states, velocities
