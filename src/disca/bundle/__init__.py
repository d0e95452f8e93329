"""What accelerates one model, on disk: a student, its second time, a predictor, schedules, and what it was made for.

A bundle is a folder: ``bundle.json``, and beside it ``student/`` (a whole transformer) or ``lora/`` (low-rank changes
of the base), ``second_time/`` and ``predictor/``, each of which may be missing; ``training/``, how they were trained,
and ``records.jsonl``, what was measured with them. `disca card` makes its model card, ``README.md``, of all that.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor, nn

from disca import hooks
from disca import records as files
from disca.bundle.card import RECORDS, TRAINING, training_of, write_card
from disca.bundle.hub import upload
from disca.bundle.lora import LoraStudent
from disca.caching.methods import disca
from disca.caching.policy import Policy
from disca.caching.run import Run, attach
from disca.companion import check_host, describe_host
from disca.errors import unknown
from disca.files import check_writable, write_text_atomic
from disca.meanflow.second_time import SecondTime
from disca.planning import Frontier
from disca.predictor.network import Predictor
from disca.records import Record
from disca.schedules import Schedule

SCHEMA = 1
FILE = "bundle.json"
PARTS = ("student", "lora", "second_time", "predictor")
"""Folders of a bundle, and fields of its value."""
BESIDE = ("training", "records")
"""Fields that are files of their own."""


@dataclass(frozen=True, kw_only=True)
class MadeFor:
    """How a bundle is meant to be used; other uses are warned of. What is None is free."""

    latents: tuple[int, ...] | None = None
    """Frames, height and width of the latents."""
    shift: float | None = None
    """Of the scheduler's times."""
    guidance: float | None = None
    """The embedded guidance scale."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a check found when the bundle was made, and how far other checks may be from it."""

    relative_l2: float
    """Mean over clips of the relative L2 of the last latents, forecast run to full run."""
    most: float
    """The largest value of another check that is still as expected."""
    prompt: str
    steps: int
    seeds: tuple[int, ...]
    """What was sampled; another check compares only if it samples the same."""


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A value: attach it to as many pipelines as you like."""

    host: str
    """Class of the transformer it is for."""
    host_config: Mapping[str, Any]
    component: str = "transformer"
    """Which component of the pipeline it is for; Wan 2.2 has a ``transformer_2`` too."""
    base: str | None = None
    """Where the base model is: a hub id, or words."""
    licence: str | None = None
    """Licence of the base, which binds what derives from it."""
    made_for: MadeFor = field(default_factory=MadeFor)
    schedules: tuple[Schedule, ...] = ()
    """The full steps for each number of steps it is for."""
    frontiers: tuple[Frontier, ...] = ()
    """For some numbers of steps the full steps for every budget, as `disca calibrate schedule` computed them."""
    measured: Measured | None = None
    student: nn.Module | None = None
    """A transformer to sample with in the place of the pipeline's own."""
    lora: LoraStudent | None = None
    """Or what makes the pipeline's own a student."""
    second_time: SecondTime | None = None
    predictor: Predictor | None = None
    training: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """How parts were trained, by name: what `disca train` leaves as ``training.json``."""
    records: tuple[Record, ...] = ()
    """What was measured with it."""

    def __post_init__(self) -> None:
        if (self.predictor is None) != (not self.schedules):
            raise ValueError("A predictor and schedules go together: give both, or neither.")
        if self.student is not None and self.lora is not None:
            raise ValueError("A student is a transformer of its own or a LoRA on the pipeline's: give one of them.")
        counts = [schedule.steps for schedule in self.schedules]
        if len(set(counts)) < len(counts):
            raise ValueError(f"A bundle has one schedule for each number of steps; given {counts}.")
        steps = [frontier.steps for frontier in self.frontiers]
        if len(set(steps)) < len(steps) or not set(steps) <= set(counts):
            raise ValueError(
                f"A bundle has one frontier for a number of steps that it has a schedule for; given {steps}."
            )

    @classmethod
    def for_host(cls, transformer: nn.Module, **parts: Any) -> Bundle:
        """A bundle for hosts like ``transformer``; ``parts`` are the other fields."""
        return cls(**describe_host(transformer), **parts)

    @property
    def policy(self) -> Policy:
        """The caching policy; without a predictor, every step is full."""
        return self.policy_for(None)

    def policy_for(self, full_steps: int | None) -> Policy:
        """The policy with the best plans of at most so many full steps.

        Raises:
            ValueError: the bundle was not calibrated, or no plan has so few.
        """
        if self.predictor is None:
            return ()
        schedules = self.schedules
        if full_steps is not None:
            if not self.frontiers:
                raise ValueError(
                    "This bundle has no frontier to choose full steps from. Compute one with disca calibrate schedule "
                    "disca --bundle FOLDER."
                )
            schedules = tuple(frontier.at(full_steps) for frontier in self.frontiers)
        return disca(self.predictor, full_steps=schedules)

    def calibrated(self, frontier: Frontier, schedule: Schedule) -> Bundle:
        """The bundle with a frontier, and a schedule of it, for their number of steps."""
        others = [one for one in self.schedules if one.steps != schedule.steps]
        frontiers = [one for one in self.frontiers if one.steps != frontier.steps]
        schedules = sorted([*others, schedule], key=lambda one: one.steps)
        return replace(self, schedules=tuple(schedules), frontiers=(*frontiers, frontier))

    @contextmanager
    def attach(self, pipe: Any, *others: Bundle, full: bool = False, full_steps: int | None = None) -> Iterator[Run]:
        """Accelerate a pipeline inside the block; afterwards it is as it was.

        Args:
            others: bundles for the pipeline's other components (the second expert of Wan 2.2).
            full: compute every step in full, which shows what the forecasts cost in quality.
            full_steps: at most so many, the best that was found for a run's number of steps; by default the bundle's
                own schedules.

        Raises:
            ValueError: a pipeline over another host, two bundles for one component, or something attached already; in
                a run, a number of steps that the bundle has no schedule for.
        """
        bundles = {bundle.component: bundle for bundle in (self, *others)}
        if len(bundles) <= len(others):
            raise ValueError(f"Two of the bundles are for one component: {[b.component for b in (self, *others)]}.")
        for name, bundle in bundles.items():
            if getattr(pipe, name, None) is None:
                raise ValueError(f"This bundle is for {name!r}, which the {type(pipe).__name__} does not have.")
            check_host(bundle.host, bundle.host_config, getattr(pipe, name), "bundle")
        with ExitStack() as undo:
            for bundle in bundles.values():
                bundle._join(pipe, undo)
            policies = {name: () if full else bundle.policy_for(full_steps) for name, bundle in bundles.items()}
            yield undo.enter_context(attach(pipe, policies))

    @contextmanager
    def joined(self, pipe: Any) -> Iterator[None]:
        """Inside the block the pipeline samples with the bundle's student and second time, and no policy is attached,
        so that one of your own can be.

        Raises:
            ValueError: a pipeline over another host.
        """
        check_host(self.host, self.host_config, getattr(pipe, self.component), "bundle")
        with ExitStack() as undo:
            self._join(pipe, undo)
            yield

    def _join(self, pipe: Any, undo: ExitStack) -> None:
        """Put the parts into a pipeline; what it takes to undo this goes onto ``undo``."""
        self._warn_of_shift(pipe)
        own = getattr(pipe, self.component)
        host = own
        if self.student is not None:
            host = _moved(self.student, own)
            pipe.register_modules(**{self.component: host})
            undo.callback(pipe.register_modules, **{self.component: own})
        if self.lora is not None:
            undo.callback(self.lora.join(host))
        if self.second_time is not None:
            _moved(self.second_time, host).install(host)
            undo.callback(self.second_time.remove, host)
        if self.predictor is not None:
            _moved(self.predictor, host)
        undo.callback(hooks.listen(host, self._warn_of_inputs))

    def measure(self, pipe: Any, seeds: Sequence[int], **call: Any) -> float:
        """How far its forecast runs end from its full runs on this pipeline: mean relative L2 of the last latents.

        Args:
            pipe: the pipeline to sample with, with whatever adapters, quantisation and resolution it is used with.
            seeds: of the noise; one run of each kind for each.
            call: what the pipeline is called with, such as the prompt and ``num_inference_steps``.

        Raises:
            ValueError: no seeds.
        """
        if not seeds:
            raise ValueError("A measure needs at least one seed, such as 0.")
        errors = []
        for seed in seeds:
            ends = []
            for full in (True, False):
                with self.attach(pipe, full=full):
                    noise = torch.Generator().manual_seed(seed)
                    ends.append(pipe(generator=noise, output_type="latent", return_dict=False, **call)[0])
            reference, forecast = (end.float().flatten(1) for end in ends)
            errors.append(((forecast - reference).norm(dim=1) / reference.norm(dim=1)).mean().item())
        return sum(errors) / len(errors)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the bundle into a new or empty folder, whole or not at all.

        Raises:
            ValueError: the folder holds something already.
            OSError: it cannot be written.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"{folder} holds something already. Give a new folder for the bundle.")
        check_writable(folder.parent)
        draft = folder.with_name(f".{folder.name}-{uuid4().hex[:8]}")
        try:
            draft.mkdir()
            for name in PARTS:
                if (part := getattr(self, name)) is not None:
                    part.save_pretrained(draft / name)
            self._save_beside(draft)
            self.update(draft)
            if folder.exists():
                folder.rmdir()
            return draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def push_to_hub(self, repository: str, *, private: bool = True, api: Any = None) -> str:
        """Upload the bundle with a model card made of its own records (`disca card` shows it before); its address.

        Args:
            repository: ``OWNER/NAME``; made where it is missing, ``private`` or not.
            api: a ``huggingface_hub.HfApi``; by default one with the token that you logged in with.

        Raises:
            OSError: the hub cannot be reached, or refuses.
        """
        with TemporaryDirectory() as place:
            folder = self.save_pretrained(Path(place) / "bundle")
            write_card(folder, name=repository)
            return upload(folder, repository, private=private, api=api)

    def _save_beside(self, folder: Path) -> None:
        for name, about in self.training.items():
            (folder / TRAINING).mkdir(exist_ok=True)
            write_text_atomic(folder / TRAINING / f"{name}.json", json.dumps(about, indent=1) + "\n")
        if self.records:
            files.write(folder / RECORDS, self.records)

    def update(self, folder: str | Path) -> None:
        """Write ``bundle.json`` anew; the parts stay."""
        write_text_atomic(Path(folder) / FILE, json.dumps(self._described(), indent=1) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Bundle:
        """Read a bundle from a folder, or from the hub by its id.

        Raises:
            ValueError: no bundle, one of another version, or parts that are missing or damaged.
        """
        folder = _local(folder)
        try:
            stored = json.loads((folder / FILE).read_text())
        except (OSError, json.JSONDecodeError) as error:
            raise ValueError(f"{folder} is no bundle: its {FILE} cannot be read ({error}).") from error
        if not isinstance(stored, dict) or stored.pop("schema", None) != SCHEMA:
            raise ValueError(f"{folder} is a bundle of another version than {SCHEMA}. Update disca, or make it again.")
        parts = set(stored.pop("parts", ()))
        stored.setdefault("frontiers", [])  # bundles of before there were any
        _check_fields(cls, stored, folder)
        stored["made_for"] = MadeFor(**_tuples(stored["made_for"]))
        stored["schedules"] = tuple(Schedule(s["steps"], tuple(s["full_steps"])) for s in stored["schedules"])
        stored["frontiers"] = tuple(Frontier.from_dict(values) for values in stored["frontiers"])
        if stored["measured"] is not None:
            stored["measured"] = Measured(**_tuples(stored["measured"]))
        stored["training"] = training_of(folder)
        stored["records"] = tuple(files.read(folder / RECORDS)) if (folder / RECORDS).is_file() else ()
        for name in parts:
            part = _load(name, stored["host"], folder / name)
            stored[name] = part if name == "lora" else part.eval().requires_grad_(False)
        return cls(**stored)

    def _described(self) -> dict[str, Any]:
        kept = ("host", "host_config", "component", "base", "licence")
        parts = [name for name in PARTS if getattr(self, name) is not None]
        return {
            "schema": SCHEMA,
            **{name: getattr(self, name) for name in kept},
            "made_for": asdict(self.made_for),
            "schedules": [asdict(schedule) for schedule in self.schedules],
            "frontiers": [frontier.to_dict() for frontier in self.frontiers],
            "measured": None if self.measured is None else asdict(self.measured),
            "parts": parts,
        }

    def _warn_of_shift(self, pipe: Any) -> None:
        wanted, given = self.made_for.shift, pipe.scheduler.config.get("shift", pipe.scheduler.config.get("flow_shift"))
        if wanted is not None and given != wanted:
            _warn(f"was made for a scheduler with shift {wanted:g}, but the pipeline's has {given}")

    def _warn_of_inputs(self, inputs: Mapping[str, Any]) -> None:
        """Look at what the transformer is called with."""
        latents, guidance = inputs.get("hidden_states"), inputs.get("guidance")
        wanted = self.made_for
        if wanted.latents and isinstance(latents, Tensor) and tuple(latents.shape[2:]) != wanted.latents:
            _warn(f"was made for latents of {_by(wanted.latents)}, but is used at {_by(latents.shape[2:])}")
        if wanted.guidance is not None and isinstance(guidance, Tensor):
            scale = float(guidance.flatten()[0]) / 1000  # the embedding is fed a thousand times the scale
            if abs(scale - wanted.guidance) > 0.01 * wanted.guidance:  # half precision rounds it
                _warn(f"was made for a guidance scale of {wanted.guidance:g}, but is used with {scale:g}")


def _moved(part: Any, host: Any) -> Any:
    """A part on the host's device and in its dtype; diffusers warns of every move, also of one that is none."""
    same = part.device == host.device and part.dtype == host.dtype
    return part if same else part.to(host.device, host.dtype)


def _warn(what: str) -> None:
    warnings.warn(f"This bundle {what}. Its quality there is not known: run `disca check`.", stacklevel=3)


def _by(sizes: Any) -> str:
    return " x ".join(map(str, sizes))


def _local(folder: str | Path) -> Path:
    if Path(folder).is_dir():
        return Path(folder)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(folder)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(f"There is no folder {folder}, and the hub has no such bundle: {error}") from error


def _load(part: str, host: str, folder: Path) -> Any:
    """A part of a bundle, strictly: every weight there, none left over."""
    if part != "student":
        kinds = {"lora": LoraStudent, "second_time": SecondTime, "predictor": Predictor}
        return kinds[part].from_pretrained(folder)
    import diffusers

    try:
        student, found = getattr(diffusers, host).from_pretrained(
            folder, output_loading_info=True, use_safetensors=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"The bundle's student in {folder} cannot be loaded: {error}") from error
    if wrong := {key: value for key, value in found.items() if value}:
        raise ValueError(f"The bundle's student in {folder} does not fit {host}: {wrong}.")
    return student


def _check_fields(cls: type[Bundle], stored: Mapping[str, Any], folder: Path) -> None:
    known = {item.name for item in fields(cls)} - {*PARTS, *BESIDE}
    for name in stored:
        if name not in known:
            raise ValueError(f"{folder / FILE}: {unknown('field', name, known)}")
    if missing := known - set(stored):
        raise ValueError(f"{folder / FILE} has no {', '.join(sorted(missing))}.")


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
