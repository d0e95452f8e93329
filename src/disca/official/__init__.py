"""The authors' published weights (Tencent-Hunyuan/DisCa), read strictly: Restricted-MeanFlow transformers, predictors.

Their files name tensors as Tencent's own code does, diffusers names them otherwise, and fuses fewer of them. Here is
where each tensor of a diffusers model comes from, and so the way back too: :func:`export` writes what the authors' code
reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from disca.adapters import adapter_for
from disca.meanflow.second_time import SecondTime, second_path
from disca.official import sinusoid
from disca.official.naming import PREDICTORS, SWAPPED, TRANSFORMERS, Naming
from disca.predictor.network import Predictor

Weights = str | Path | Mapping[str, Any]
"""A safetensors file, or tensors by official name."""

PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
_WRAPPINGS = ("model", "module", "predictor")


@dataclass(frozen=True)
class Part:
    """Rows of an official tensor; all of them where ``rows`` is None."""

    name: str
    rows: tuple[int, int] | None = None


def load_transformer(host: nn.Module, weights: Weights) -> nn.Module:
    """Load an official transformer into ``host``, in place; returns it.

    HunyuanVideo 1.0 has no second time in diffusers. Where the host has none yet, one is added
    (``time_text_embed.timestep_embedder_r``, averaged with the time embedding as the authors do) and becomes part of
    the host, its state dict included. Sample inside ``disca.attach``, which tells it the steps. Sinusoids of times and
    guidance are from then on rounded the same way on every processor; see :mod:`disca.official.sinusoid`.

    Args:
        host: a ``HunyuanVideoTransformer3DModel``, or a ``HunyuanVideo15Transformer3DModel`` with
            ``use_meanflow=True``, of the configuration of the weights. Its dtype and device stay; on the meta device it
            takes the weights' own.
        weights: a safetensors file, or tensors by official name, in the merged or the split naming.

    Raises:
        ValueError: another family; a pickled file; keys that are missing, unexpected or misshapen, all named. The host
            is as it was then.
    """
    naming = _naming(TRANSFORMERS, host)
    tensors = _read(weights)
    expected, added = host.state_dict(), None
    if SecondTime.of(host) is None and adapter_for(host).second_timestep is None:
        added = SecondTime.for_host(host, layout="average")
        expected |= {f"{second_path(host)}.{name}": value for name, value in added.embedder.state_dict().items()}
    converted = _convert(naming, expected, tensors, type(host).__name__)
    if added is not None:
        added.install(host)
        added.adopt(host)
        sinusoid.install(added)
    sinusoid.install(host)
    _load(host, converted)
    return host


def load_predictor(host: nn.Module, weights: Weights) -> Predictor:
    """The official predictor for ``host``, with as many blocks as the weights have; on the host's device and in its
    dtype.

    Args:
        host: as for :func:`load_transformer`.
        weights: a safetensors file, or tensors by official name, in the merged or the split naming.

    Raises:
        ValueError: as :func:`load_transformer`.
    """
    naming = _naming(PREDICTORS, host)
    tensors = _read(weights)
    ((_, stack, _),) = naming.stacks
    numbers = {name.removeprefix(f"{stack}.").partition(".")[0] for name in tensors if name.startswith(f"{stack}.")}
    if not numbers:
        raise ValueError(f"These are no weights of a predictor for {type(host).__name__}: no key begins with {stack}.")
    predictor = Predictor.from_host(host, depth=len(numbers))
    _load(predictor, _convert(naming, predictor.state_dict(), tensors, "predictor"))
    return predictor.eval().requires_grad_(False)


def export(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of a transformer or a predictor by official name, in the naming of its family's published files
    (merged for HunyuanVideo 1.0, split for 1.5): the inverse of loading.

    Raises:
        ValueError: another family, or a predictor of another layout than the authors'.
    """
    predictor = isinstance(module, Predictor)
    family = module.config.host if isinstance(module, Predictor) else type(module).__name__
    naming = (PREDICTORS if predictor else TRANSFORMERS).get(family)
    if naming is None:
        raise ValueError(f"There is no official naming of {family}. Known: {', '.join(TRANSFORMERS)}.")
    state = module.state_dict()
    split = family == "HunyuanVideo15Transformer3DModel"
    pieces: dict[str, list[tuple[int, Tensor]]] = {}
    for key in state:
        name, place = _alternatives(naming, key, split)[0]
        pieces.setdefault(name, []).append((place, _swapped(key, state[key])))
    return {
        name: torch.cat([tensor for _, tensor in sorted(parts, key=lambda part: part[0])])
        for name, parts in pieces.items()
    }


def _naming(table: Mapping[str, Naming], host: nn.Module) -> Naming:
    family = adapter_for(host).transformer
    if family not in table:
        raise ValueError(
            f"The authors published weights for {' and '.join(table)}; the host is a {type(host).__name__}."
        )
    return table[family]


def _read(weights: Weights) -> dict[str, Tensor]:
    """Tensors by name, out of a file or a mapping, without the wrappings that the authors' loader takes off too."""
    tensors: Mapping[str, Any] = _read_file(Path(weights)) if isinstance(weights, (str, Path)) else weights
    while len(tensors) == 1 and next(iter(tensors)) in _WRAPPINGS:
        tensors = next(iter(tensors.values()))
    while (
        tensors
        and (prefix := next(iter(tensors)).partition(".")[0]) in _WRAPPINGS
        and all(name.startswith(f"{prefix}.") for name in tensors)
    ):
        tensors = {name.removeprefix(f"{prefix}."): value for name, value in tensors.items()}
    wrong = [name for name, value in tensors.items() if not isinstance(value, Tensor)]
    if wrong or not tensors:
        raise ValueError(f"Weights are tensors by name; {wrong[:3] or 'nothing'} is given.")
    return dict(tensors)


def _read_file(path: Path) -> dict[str, Tensor]:
    if path.suffix in PICKLES:
        raise ValueError(
            f"{path.name} is a pickled checkpoint, and unpickling runs whatever code is in the file. Convert it once "
            "where you trust it: load it with torch.load(..., weights_only=True) and write it with "
            "safetensors.torch.save_file."
        )
    if not path.is_file():
        raise ValueError(f"There is no file {path}; a safetensors file with the authors' weights is expected.")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is no whole safetensors file ({error}). Copy or download it again.") from error


def _convert(
    naming: Naming, expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], what: str
) -> dict[str, Tensor]:
    """Official tensors under the names of ``expected``, whose shapes they must have."""
    sources, missing = _sources(naming, expected, tensors)
    wanted: dict[str, list[int]] = {}
    for key, part in sources.items():
        rows, *rest = expected[key].shape
        wanted[part.name] = [max(wanted.get(part.name, [0])[0], part.rows[1] if part.rows else rows), *rest]
    unexpected = sorted(set(tensors) - {part.name for part in sources.values()})
    misshapen = [
        f"{name} is {list(tensors[name].shape)} instead of {shape}"
        for name, shape in wanted.items()
        if list(tensors[name].shape) != shape
    ]
    problems = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
    if any(problems.values()):
        said = "; ".join(f"{kind}: {_shortened(names)}" for kind, names in problems.items() if names)
        raise ValueError(f"The weights do not fit this {what}. {said}. Nothing was loaded.")
    rows_of = {
        key: tensors[part.name][slice(*part.rows)] if part.rows else tensors[part.name] for key, part in sources.items()
    }
    return {key: _swapped(key, value) for key, value in rows_of.items()}


def _sources(
    naming: Naming, expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Part], list[str]]:
    """Where each expected tensor lies in ``tensors``, and official names of those that lie nowhere."""
    places: dict[str, dict[int, str]] = {}
    single: dict[str, Part] = {}
    missing: list[str] = []
    for key in expected:
        alternatives = _alternatives(naming, key)
        found = next(((name, place) for name, place in alternatives if name in tensors), None)
        if found is None:
            missing.append(" or ".join(name for name, _ in alternatives))
        elif found[1] < 0:
            single[key] = Part(found[0])
        else:
            places.setdefault(found[0], {})[found[1]] = key
    for name, keys in places.items():
        single |= dict(_cut(name, keys, expected))
    return single, list(dict.fromkeys(missing))


def _cut(name: str, keys: Mapping[int, str], expected: Mapping[str, Tensor]) -> Iterator[tuple[str, Part]]:
    """The rows of a fused tensor, in the order of their places."""
    start = 0
    for _, key in sorted(keys.items()):
        rows = expected[key].shape[0]
        yield key, Part(name, (start, start := start + rows))


def _alternatives(naming: Naming, key: str, split: bool = False) -> list[tuple[str, int]]:
    """Official names that a tensor may have, with its place in a fused one or -1; ``split`` puts those first."""
    module, _, kind = key.rpartition(".")
    entry = naming.official(module)
    if entry is None:
        raise ValueError(f"The authors' weights have no {key}. Load them into a host of the published configuration.")
    found = []
    for name in entry.split("|"):
        fused, _, place = name.rstrip("]").partition("[")
        found.append((f"{fused}.{kind}", int(place) if place else -1))
    return sorted(found, key=lambda one: one[1] >= 0) if split else found


def _swapped(key: str, tensor: Tensor) -> Tensor:
    return torch.cat(tensor.chunk(2)[::-1]) if key.rpartition(".")[0] == SWAPPED else tensor


def _load(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    meta = any(parameter.is_meta for parameter in module.parameters())
    module.load_state_dict(dict(tensors), strict=True, assign=meta)


def _shortened(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
