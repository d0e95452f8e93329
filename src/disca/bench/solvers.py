"""How plain steps are taken: Euler, Adams-Bashforth of second order, UniPC."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers import FlowMatchEulerDiscreteScheduler, SchedulerMixin, UniPCMultistepScheduler
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteSchedulerOutput
from torch import Tensor


class AdamsBashforthScheduler(SchedulerMixin, ConfigMixin):
    """The two-step Adams-Bashforth method for flow matching, on the same times as diffusers' Euler scheduler.

    With steps ``h`` and the one before ``g``: ``x' = x + h ((1 + h / 2g) v - h / 2g v_before)`` (Hairer, Norsett and
    Wanner 1993, section III.5, for unequal steps); the first step is Euler's. Exact where the velocity is linear in
    time.
    """

    order = 1

    @register_to_config
    def __init__(
        self,
        num_train_timesteps: int = 1000,
        shift: float = 1.0,
        use_dynamic_shifting: bool = False,
        base_shift: float = 0.5,
        max_shift: float = 1.15,
        base_image_seq_len: int = 256,
        max_image_seq_len: int = 4096,
        shift_terminal: float | None = None,
        time_shift_type: str = "exponential",
    ) -> None:
        options = {name: value for name, value in self.config.items() if not name.startswith("_")}
        self._times = FlowMatchEulerDiscreteScheduler(**options)
        self._before: Tensor | None = None

    @property
    def timesteps(self) -> Tensor:
        return self._times.timesteps

    @property
    def sigmas(self) -> Tensor:
        return self._times.sigmas

    @property
    def step_index(self) -> int | None:
        return self._times.step_index

    @property
    def begin_index(self) -> int | None:
        return self._times.begin_index

    def set_begin_index(self, begin_index: int = 0) -> None:
        self._times.set_begin_index(begin_index)

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        sigmas: Any = None,
        mu: float | None = None,
        timesteps: Any = None,
    ) -> None:
        """As of the Euler scheduler."""
        self._times.set_timesteps(num_inference_steps, device=device, sigmas=sigmas, mu=mu, timesteps=timesteps)
        self._before = None

    def step(
        self, model_output: Tensor, timestep: Any, sample: Tensor, return_dict: bool = True, **_: Any
    ) -> FlowMatchEulerDiscreteSchedulerOutput | tuple[Tensor]:
        """From ``timestep`` to the next, given the velocity there."""
        if self.step_index is None:
            self._times._init_step_index(timestep)
        index = self.step_index or 0
        velocity = model_output.float()
        slope = velocity
        h = float(self.sigmas[index + 1] - self.sigmas[index])
        if self._before is not None:
            g = float(self.sigmas[index] - self.sigmas[index - 1])
            slope = velocity + h / (2 * g) * (velocity - self._before)
        self._before = velocity
        self._times._step_index = index + 1
        moved = (sample.float() + h * slope).to(model_output.dtype)
        return FlowMatchEulerDiscreteSchedulerOutput(prev_sample=moved) if return_dict else (moved,)


def unipc(config: Any) -> UniPCMultistepScheduler:
    """diffusers' UniPC of second order (arXiv 2302.04867) for the flow of an Euler scheduler's ``config``."""
    kept = ("num_train_timesteps", "use_dynamic_shifting", "time_shift_type", "shift_terminal")
    options = {name: config[name] for name in kept if name in config}
    return UniPCMultistepScheduler(
        **options, use_flow_sigmas=True, flow_shift=config["shift"], prediction_type="flow_prediction"
    )


SOLVERS = {"euler": None, "ab2": AdamsBashforthScheduler.from_config, "unipc": unipc}
"""By name, what makes the scheduler out of an Euler scheduler's configuration; Euler is the pipeline's own."""


@contextmanager
def solving(pipe: Any, solver: str) -> Iterator[None]:
    """Within the block the pipeline takes its steps by ``solver``.

    Raises:
        ValueError: the pipeline's own scheduler is not flow-matching Euler, whose times the others take over.
    """
    make = SOLVERS[solver]
    if make is None:
        yield
        return
    own = pipe.scheduler
    if not isinstance(own, FlowMatchEulerDiscreteScheduler):
        raise ValueError(
            f"{solver} takes over the times of a FlowMatchEulerDiscreteScheduler, not {type(own).__name__}."
        )
    pipe.register_modules(scheduler=make(own.config))
    try:
        yield
    finally:
        pipe.register_modules(scheduler=own)
