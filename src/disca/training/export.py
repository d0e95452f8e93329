"""What a student's training hands on: a pipeline's folder, or a bundle for the stock pipeline."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from disca.bundle import Bundle, MadeFor
from disca.bundle.lora import LoraStudent
from disca.meanflow.second_time import SecondTime
from disca.training.recipe import Recipe


def export_student(
    pipe: Any,
    folder: Path,
    whole: Callable[[nn.Module], nn.Module],
    recipe: Recipe,
    *,
    student: nn.Module,
    second: SecondTime | None = None,
) -> None:
    """Write a student, and its second time, into a new ``folder``; ``whole`` gives a sharded module in one piece.

    A pipeline that can hold a second time itself (the lab's) is written as it is; for others, and for a LoRA, what is
    new makes a bundle, and the rest stays where the pipeline came from.
    """
    shutil.rmtree(folder, ignore_errors=True)
    parts: dict[str, Any] = {} if second is None else {"second_time": whole(second)}
    lora = LoraStudent.of(whole(student)) if recipe.lora.rank else None
    if lora is None and "second_time" in type(pipe)._optional_components:
        pipe.register_modules(transformer=whole(student), **parts)
        pipe.save_pretrained(folder)
        return
    parts |= {"lora": lora} if lora is not None else {"student": whole(student)}
    embedded = recipe.objective.get("scale") if pipe.transformer.config.get("guidance_embeds") else None
    shift = pipe.scheduler.config.get("shift", pipe.scheduler.config.get("flow_shift"))
    made_for = MadeFor(shift=shift, guidance=embedded)
    bundle = Bundle.for_host(pipe.transformer, base=recipe.start or None, made_for=made_for, **parts)
    bundle.save_pretrained(folder)
