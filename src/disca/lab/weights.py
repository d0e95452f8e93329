"""The lab's trained weights, which come with the package: what there is, how it loads, how a run's result gets here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Literal, TypeVar

from diffusers import FlowMatchEulerDiscreteScheduler, HunyuanVideoTransformer3DModel
from safetensors import SafetensorError
from transformers import CLIPTextModel, PreTrainedTokenizerFast

from disca.errors import unknown
from disca.lab.codec import PatchCodec
from disca.lab.judge import Judge
from disca.lab.pipeline import LabPipeline
from disca.meanflow.second_time import SecondTime
from disca.predictor.network import Predictor

Stage = Literal["base", "distilled", "student"]
FOLDER = Path(__file__).parent / "trained"
_SHARED = ("tokenizer", "text_encoder", "scheduler", "codec")
PARTS: dict[str, tuple[str, ...]] = {
    "base": (*_SHARED, "transformer"),
    "distilled": ("transformer",),
    "student": ("transformer", "second_time"),
}
"""What each stage's folder holds; the children take the rest from the base."""

_LOADERS: dict[str, type[Any]] = {
    "tokenizer": PreTrainedTokenizerFast,
    "text_encoder": CLIPTextModel,
    "scheduler": FlowMatchEulerDiscreteScheduler,
    "codec": PatchCodec,
    "transformer": HunyuanVideoTransformer3DModel,
    "second_time": SecondTime,
}
T = TypeVar("T")


def pipeline(stage: str = "student", *, folder: Path = FOLDER) -> LabPipeline:
    """The lab's pipeline at a stage: ``base``, ``distilled`` or ``student``.

    Raises:
        ValueError: an unknown stage, or a damaged weight file.
        FileNotFoundError: weights that are missing.
    """
    if stage not in PARTS:
        raise ValueError(unknown("stage of the lab", stage, PARTS))
    where = {part: folder / "base" / part for part in PARTS["base"]}
    where |= {part: folder / stage / part for part in PARTS[stage]}
    pipe = LabPipeline(**{part: _load(_LOADERS[part], path) for part, path in where.items()})
    pipe.set_progress_bar_config(disable=True)
    return pipe


def predictor(*, folder: Path = FOLDER) -> Predictor:
    """The predictor of the lab's student."""
    return _load(Predictor, folder / "predictor").eval().requires_grad_(False)


def judge(*, folder: Path = FOLDER) -> Judge:
    """The lab's judge."""
    return _load(Judge, folder / "judge").eval().requires_grad_(False)


def keep(stage: str, run: Path, *, folder: Path = FOLDER) -> Path:
    """Put the result of a training run (its folder ``final``) in the place of a stage's weights."""
    parts = PARTS.get(stage, ())
    target, draft = folder / stage, folder / f"{stage}.draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for part in parts:
        shutil.copytree(run / part, draft / part)
    for file in [*run.glob("*.json")] + ([] if parts else [*run.glob("*.safetensors")]):
        shutil.copy(file, draft / file.name)
    for file in draft.rglob("*.json"):
        _forget_path(file)
    shutil.rmtree(target, ignore_errors=True)
    return draft.rename(target)


def _forget_path(file: Path) -> None:
    """Drop the folder that diffusers notes a configuration was loaded from: it is one of this machine."""
    values = json.loads(file.read_text())
    if values.pop("_name_or_path", None) is not None:
        file.write_text(json.dumps(values, indent=2) + "\n")


def _load(cls: type[T], path: Path) -> T:
    """Load strictly: every weight there, none too many, all whole."""
    if not path.is_dir():
        raise FileNotFoundError(
            f"The lab's weights are missing: there is no {path.parent.name}/{path.name} in {path.parent.parent}. "
            "They come with the package; install it again, or train them with the recipes lab_*.toml."
        )
    options: dict[str, Any] = (
        {"output_loading_info": True} if cls in (HunyuanVideoTransformer3DModel, PatchCodec) else {}
    )
    try:
        loaded = cls.from_pretrained(path, **options)  # type: ignore[attr-defined]
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ValueError(f"The lab's weights in {path.parent.name}/{path.name} are damaged: {error}") from error
    if not options:
        return loaded
    model, found = loaded
    wrong = {key: found[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys") if found.get(key)}
    if wrong:
        raise ValueError(f"The lab's weights in {path.parent.name}/{path.name} do not fit {cls.__name__}: {wrong}.")
    return model
