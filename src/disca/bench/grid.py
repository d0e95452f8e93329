"""What a comparison consists of, as a plain value read from TOML or from a few words."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from disca import toml
from disca.bench.solvers import SOLVERS
from disca.errors import unknown

Options = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """A model of the grid."""

    name: str
    """What its rows are called by."""
    source: str
    """``lab-base``, ``lab-distilled``, ``lab-student``, or the folder of a diffusers pipeline."""
    bundle: str = ""
    """Folder of a bundle whose student and predictor it is sampled with."""
    steps: tuple[int, ...]
    """Step counts; each has a full run of its own, which is the reference of its rows."""
    dtype: str = ""
    device: str = ""
    call: Options = field(default_factory=dict)
    """What the pipeline is called with besides, such as ``guidance_scale``, ``height`` or ``num_frames``."""


@dataclass(frozen=True, kw_only=True)
class MethodEntry:
    """A caching method of the grid, with one row for each of its settings, models and step counts."""

    method: str
    """A name in :data:`disca.caching.methods.METHODS`."""
    settings: tuple[Options, ...] = ({},)
    """Options of the method."""
    models: tuple[str, ...] = ()
    """Names of the models it is for; all when left out."""
    steps: tuple[int, ...] = ()
    """Step counts it is for; all when left out."""


@dataclass(frozen=True, kw_only=True)
class PeerEntry:
    """Another library's method, which runs in a process of its own."""

    peer: str
    """A name in :data:`disca.bench.peers.PEERS`."""
    settings: tuple[Options, ...] = ({},)
    models: tuple[str, ...] = ()
    steps: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Methods x settings x step counts x prompts x seeds."""

    name: str = "bench"
    models: tuple[ModelEntry, ...]
    methods: tuple[MethodEntry, ...] = ()
    peers: tuple[PeerEntry, ...] = ()
    prompts: tuple[str, ...] = ()
    """Every prompt is sampled with every seed. Without prompts the model has to have some of its own, see ``pairs``."""
    seeds: tuple[int, ...] = (0,)
    pairs: int = 0
    """So many of the model's own prompts instead, with a seed each; the lab's are those that no training saw."""
    seed: int = 0
    """Of the choice of ``pairs``."""
    batch: int = 1
    """Clips of one call of the pipeline. Methods that decide while they run are called with one clip, since they decide
    for a whole batch by its worst clip."""
    turn: int = 0
    """Clips after which trials change places; as many as ``batch`` when left out."""
    repeats: int = 1
    """How often everything is timed."""
    rivals: tuple[str, ...] = tuple(SOLVERS)
    """How the plain steps beside every cached row are taken; students by Euler only."""
    clips: int = 0
    """How many of the first clips of every row are written as files, for the report."""
    lpips: bool = False
    """Whether to measure LPIPS, which downloads its network's weights."""

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise ValueError(f"The grid {self.name!r}: {problem}")

    def as_dict(self) -> dict[str, Any]:
        """Plain data, the same shape as the TOML file."""
        return asdict(self)


def load(path: str | Path) -> Grid:
    """Read a grid.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown key (names the nearest valid one), a value that cannot be.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no grid at {path}. Examples are in benchmarks/grids, such as smoke.toml.")
    return toml.parse(Grid, toml.read(path), where=str(path))


def parse_method(text: str) -> tuple[str, dict[str, Any]]:
    """Name and options of words such as ``taylor(every=4, order=1)``, the notation of records.

    Raises:
        ValueError: they are no call with named plain values.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if isinstance(tree, ast.Name):
            return tree.id, {}
        if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name | ast.Attribute) or tree.args:
            raise ValueError(text)
        options = {str(word.arg): ast.literal_eval(word.value) for word in tree.keywords}
        return ast.unparse(tree.func), options
    except (SyntaxError, ValueError) as error:
        raise ValueError(
            f"{text!r} is no method with named options, such as taylor(every=4, order=1) or "
            "reuse(full_steps=(0, 2, 4, 7))."
        ) from error


def write_method(name: str, options: Options) -> str:
    """The inverse of :func:`parse_method`."""
    return f"{name}({', '.join(f'{key}={_frozen(value)!r}' for key, value in options.items())})"


def frozen(options: Options) -> dict[str, Any]:
    """Options with tuples in the place of lists, which TOML and JSON have instead."""
    return {key: _frozen(value) for key, value in options.items()}


def tag(options: Options, *, whole: bool = False) -> str:
    """Options as a part of a row's name: ``every=4, order=1`` is ``every4_order1``. Of long lists it has the length, or
    all with ``whole``."""
    return "_".join(key + _words(value, whole) for key, value in options.items())


def _words(value: Any, whole: bool = False) -> str:
    if isinstance(value, list | tuple):
        return str(len(value)) if len(value) > 3 and not whole else "-".join(map(_words, value))
    if isinstance(value, Mapping):
        return "-".join(key + _words(one) for key, one in value.items())
    return str(value).replace("/", "-").replace(" ", "")


def _frozen(value: Any) -> Any:
    return tuple(_frozen(one) for one in value) if isinstance(value, list | tuple) else value


def _problems(grid: Grid) -> Sequence[str]:
    """What is wrong with a grid, as sentences."""
    found = []
    if not grid.models or not any(model.steps for model in grid.models):
        found.append("there are no rows, because there is no model with step counts.")
    names = [model.name for model in grid.models]
    if len(set(names)) < len(names):
        found.append(f"two models have one name: {', '.join(names)}.")
    entries: tuple[MethodEntry | PeerEntry, ...] = (*grid.methods, *grid.peers)
    for entry in entries:
        found += [unknown("model", name, names) for name in entry.models if name not in names]
        if not entry.settings:
            found.append(f"{getattr(entry, 'method', '') or getattr(entry, 'peer', '')} has no settings, so no rows.")
    found += [unknown("solver", name, SOLVERS) for name in grid.rivals if name not in SOLVERS]
    for name in ("pairs", "turn", "clips"):
        if getattr(grid, name) < 0:
            found.append(f"{name} is {getattr(grid, name)}; it cannot be negative.")
    for name in ("batch", "repeats"):
        if getattr(grid, name) < 1:
            found.append(f"{name} is {getattr(grid, name)}; at least 1 is needed.")
    if any(count < 1 for model in grid.models for count in model.steps):
        found.append("step counts are at least 1.")
    if grid.prompts and grid.pairs:
        found.append("give prompts and seeds, or pairs, not both.")
    if grid.prompts and not grid.seeds:
        found.append("there are no rows, because there are prompts but no seeds.")
    return found
