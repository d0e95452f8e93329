"""What the page can sample: the lab's stages, and the pipelines and bundles that it was started with. Nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

from disca.bench.describe import load_on_meta
from disca.bench.models import Model, from_folder, with_bundle
from disca.bundle import FILE, Bundle
from disca.caching.methods import METHODS
from disca.companion import check_host
from disca.errors import unknown
from disca.lab import weights
from disca.lab.measure import SOURCES
from disca.lab.measure import model as lab_model
from disca.lab.words import EXAMPLE, HELD_OUT, parse
from disca.lab.words import sample as choose
from disca.schedules import Schedule

LIBRARIES = ("diffusers", "transformers")
"""Whose classes a pipeline may consist of: code that lies beside weights is never run."""
LAB = ("lab-student", "lab-distilled", "lab-base")
"""The lab, its fastest stage first."""
STEPS = {"lab-base": 50, "lab-distilled": 50, "lab-student": 8}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Something to sample."""

    name: str
    open: Callable[[], Model]
    check: Callable[[str], Any] = str
    """Raises ValueError at a prompt that the model cannot take."""
    prompt: str = ""
    """One to begin with."""
    prompts: Sequence[str] = ()
    """More of them, where the model has some of its own."""
    steps: int = 50
    """How many to begin with."""
    schedules: tuple[Schedule, ...] = ()
    learned: bool = False
    """Whether it has a predictor."""
    transformer: Callable[[], Any] | None = None
    """Its transformer, without weights where that is enough to tell what fits it."""
    rows: str = ""
    """What records call it."""

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods that it can be accelerated by; the learned one first, where it has learned one."""
        names = [name for name in METHODS if self.learned or "predictor" not in METHODS[name].options]
        return tuple(sorted(names, key=lambda name: "predictor" not in METHODS[name].options))


@dataclass(frozen=True, kw_only=True)
class Calling:
    """How pipelines in folders are loaded and called."""

    dtype: str = ""
    device: str = ""
    call: Mapping[str, Any] | None = None


class Shelf:
    """The subjects, of which one is loaded at a time."""

    def __init__(self, subjects: Sequence[Subject]) -> None:
        self.subjects = {subject.name: subject for subject in subjects}
        self._lock = Lock()
        self._loaded: tuple[str, Model] | None = None

    def __getitem__(self, name: Any) -> Subject:
        if not isinstance(name, str) or name not in self.subjects:
            raise ValueError(unknown("model", str(name)[:80], self.subjects))
        return self.subjects[name]

    def load(self, name: str) -> Model:
        """The model of a subject; another one that was loaded is let go first."""
        with self._lock:
            if self._loaded is None or self._loaded[0] != name:
                self._loaded = None
                self._loaded = (name, self[name].open())
            return self._loaded[1]


def subjects(names: Sequence[str], bundles: Sequence[Path], calling: Calling = Calling()) -> list[Subject]:
    """What a command line names. A bundle is offered with every model that it fits.

    Raises:
        ValueError: a name that is neither a stage of the lab nor a folder with a pipeline; a pipeline with code of its
            own; a folder that is no bundle; a bundle that fits none of the models.
    """
    wanted = [one for name in names for one in (LAB if name == "lab" else (name,))]
    plain = [subject(name, calling) for name in dict.fromkeys(wanted)]
    accelerated = [one for folder in bundles for one in _with_bundle(folder, plain)]
    found = [*accelerated, *plain]
    names = [one.name for one in found]
    if len(set(names)) < len(names):
        raise ValueError(f"Two of the models have one name: {', '.join(names)}. Rename a folder.")
    return found


def subject(name: str, calling: Calling = Calling()) -> Subject:
    """One stage of the lab, or a pipeline in a folder."""
    if name in SOURCES:
        return _lab(name)
    folder = Path(name)
    if (folder / FILE).is_file():
        raise ValueError(
            f"{folder} is a bundle. Name the pipeline that it is for, and it with --bundle: "
            f"disca demo path/to/pipeline --bundle {folder}."
        )
    if not (folder / "model_index.json").is_file():
        raise ValueError(
            f"{unknown('model', name, ('lab', *SOURCES))} Nor is there a folder of that name with a pipeline of "
            "diffusers, which has a model_index.json."
        )
    check_no_code(folder)
    return Subject(
        name=folder.resolve().name,
        open=lambda: _from_folder(folder, calling),
        prompt="a paper boat on a rainy street",
        transformer=lambda: load_on_meta(folder),
        rows=folder.resolve().name,
    )


def check_no_code(folder: Path) -> None:
    """Make sure that a pipeline consists of classes of diffusers and transformers.

    Raises:
        ValueError: it names others, or its index cannot be read.
    """
    import diffusers

    try:
        index = json.loads((folder / "model_index.json").read_text())
        own = [name for name, value in index.items() if _is_part(value) and not _is_known(value[0])]
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"{folder / 'model_index.json'} cannot be read: {error}") from error
    kind = index.get("_class_name")
    if not isinstance(kind, str) or not hasattr(diffusers, kind):
        own.append("_class_name")
    if own:
        raise ValueError(
            f"{folder} needs code of its own for {', '.join(own)}, which the page never runs. It takes pipelines of "
            "classes of diffusers and transformers."
        )


def _is_part(value: Any) -> bool:
    """Whether a value of an index is a pair of library and class."""
    return isinstance(value, list) and len(value) == 2 and all(isinstance(one, str | None) for one in value)


def _is_known(library: str | None) -> bool:
    """Whether a library is none, or one whose code may run: modules of pipelines are diffusers' own."""
    import diffusers

    return library in (*LIBRARIES, None) or hasattr(diffusers.pipelines, str(library))


def _lab(name: str) -> Subject:
    stage = SOURCES[name]
    student = stage == "student"
    return Subject(
        name=name,
        open=lambda: replace(lab_model(stage), measure=None),
        check=parse,
        prompt=EXAMPLE,
        prompts=tuple(str(prompt) for prompt in choose(HELD_OUT, len(HELD_OUT), 0)),
        steps=STEPS[name],
        learned=student,
        transformer=lambda: weights.pipeline(stage).transformer,
        rows=stage,
    )


def _from_folder(folder: Path, calling: Calling) -> Model:
    import torch

    device = calling.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return replace(from_folder(folder, dtype=calling.dtype, device=device), call=dict(calling.call or {}))


def _with_bundle(folder: Path, plain: Sequence[Subject]) -> list[Subject]:
    """Each model that a bundle fits, with it."""
    if not (folder / FILE).is_file():
        raise ValueError(f"{folder} is no bundle: it has no {FILE}. Make one with disca import or disca lab bundle.")
    bundle = Bundle.from_pretrained(folder)
    found, reasons = [], []
    for one in plain:
        assert one.transformer is not None
        if one.learned:
            reasons.append(f"{one.name} has a student and a predictor of its own.")
            continue
        try:
            check_host(bundle.host, bundle.host_config, one.transformer(), "bundle")
        except ValueError as error:
            reasons.append(f"{one.name}: {error}")
            continue
        found.append(_joined(one, folder, bundle))
    if not found:
        raise ValueError(f"The bundle {folder} fits none of the models. {' '.join(reasons)}")
    return found


def _joined(one: Subject, folder: Path, bundle: Bundle) -> Subject:
    return replace(
        one,
        name=f"{one.name} + {folder.resolve().name}",
        open=lambda: with_bundle(one.open(), bundle),
        steps=bundle.schedules[0].steps if bundle.schedules else one.steps,
        schedules=bundle.schedules,
        learned=bundle.predictor is not None,
        rows=folder.resolve().name,
    )
