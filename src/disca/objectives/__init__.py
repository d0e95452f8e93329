"""Objectives: pure functions from a velocity and a batch to a loss. They never see a pipeline."""

from disca.objectives.adversarial import (
    discriminator_hinge,
    feature_matching,
    predictor_hinge,
    renoised,
    stepped,
)
from disca.objectives.discriminator import Discriminator
from disca.objectives.flow_matching import flow_matching
from disca.objectives.forecast import drift_error, forecast_error, token_error
from disca.objectives.guidance import guidance_distillation, guided
from disca.objectives.loss import Loss, adaptive_weight, interval_weight, relative_error, squared_error
from disca.objectives.mean_flow import Target, mean_flow, mean_flow_error

__all__ = [
    "Discriminator",
    "Loss",
    "Target",
    "adaptive_weight",
    "discriminator_hinge",
    "drift_error",
    "feature_matching",
    "flow_matching",
    "forecast_error",
    "guidance_distillation",
    "guided",
    "interval_weight",
    "mean_flow",
    "mean_flow_error",
    "predictor_hinge",
    "relative_error",
    "renoised",
    "squared_error",
    "stepped",
    "token_error",
]
