"""The stages of training, by the name that a recipe gives them. A new one joins by being listed."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from disca.training.clips import Source
from disca.training.distill import Guidance, MeanFlow
from disca.training.fit import Fit
from disca.training.loop import Task
from disca.training.pretrain import FlowMatching
from disca.training.recipe import Recipe


class Stage(Protocol):
    """Options of a stage, a frozen value; ``task`` does the work."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def task(self, recipe: Recipe, source: Source) -> Task: ...


STAGES: dict[str, type[Any]] = {
    "flow_matching": FlowMatching,
    "guidance": Guidance,
    "mean_flow": MeanFlow,
    "predictor": Fit,
}
