"""Objectives: pure functions from a velocity and a batch to a loss. They never see a pipeline."""

from disca.objectives.flow_matching import flow_matching
from disca.objectives.forecast import forecast_error
from disca.objectives.guidance import guidance_distillation, guided
from disca.objectives.loss import Loss, interval_weight, relative_error, squared_error
from disca.objectives.mean_flow import mean_flow, mean_flow_target

__all__ = [
    "Loss",
    "flow_matching",
    "forecast_error",
    "guidance_distillation",
    "guided",
    "interval_weight",
    "mean_flow",
    "mean_flow_target",
    "relative_error",
    "squared_error",
]
