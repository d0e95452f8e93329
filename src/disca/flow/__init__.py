"""The mathematics of flows: paths, intervals, derivatives. Nothing here knows a pipeline or a network."""

from disca.flow.attention import chunked_attention, in_chunks
from disca.flow.gaussian import Gaussian
from disca.flow.intervals import (
    Instant,
    Interval,
    LogitNormal,
    Mixture,
    Ordered,
    Restricted,
    Scheduled,
    Terminal,
    Uniform,
)
from disca.flow.jvp import du_dt
from disca.flow.path import (
    MeanVelocity,
    Velocity,
    expand,
    heun,
    heun_velocity,
    integrate,
    max_interval,
    point,
    shift_time,
    sigmas,
    velocity,
)

__all__ = [
    "Gaussian",
    "Instant",
    "Interval",
    "LogitNormal",
    "MeanVelocity",
    "Mixture",
    "Ordered",
    "Restricted",
    "Scheduled",
    "Terminal",
    "Uniform",
    "Velocity",
    "chunked_attention",
    "du_dt",
    "expand",
    "heun",
    "heun_velocity",
    "in_chunks",
    "integrate",
    "max_interval",
    "point",
    "shift_time",
    "sigmas",
    "velocity",
]
