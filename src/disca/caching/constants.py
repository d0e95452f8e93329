"""Constants that some methods need: those that were published, by name, and those that `disca calibrate` measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from disca.caching.gates import MadeFor
from disca.caching.watchful import evaluate
from disca.errors import unknown

SCHEMA = 1

Signal = Literal["modulated", "time_embedding", "time_projection"]
Constants = str | Path | Sequence[float] | None


@dataclass(frozen=True)
class Rescaling:
    """TeaCache's polynomial, and what it was fitted to."""

    polynomial: tuple[float, ...] = (1.0, 0.0)
    signal: Signal = "modulated"
    range: tuple[float, float] | None = None
    made_for: MadeFor | None = None


@dataclass(frozen=True)
class Ratios:
    """MagCache's table."""

    ratios: tuple[float, ...]
    made_for: MadeFor | None = None


POLYNOMIALS: dict[str, tuple[Signal, tuple[float, ...]]] = {
    "hunyuan_video": ("modulated", (733.226126, -401.131952, 67.5869174, -3.149878, 0.0961237896)),
    "flux": ("modulated", (498.651651, -283.781631, 55.8554382, -3.82021401, 0.264230861)),
    "cogvideox_2b": ("modulated", (-31.0658903, 25.4732368, -5.92380459, 1.75769064, -0.00361568434)),
    "cogvideox_5b": ("modulated", (-1538.80483, 843.202495, -134.363087, 7.97131516, -0.0523162339)),
    "wan_t2v_1.3b": ("time_embedding", (2396.76752, -1311.10545, 201.331979, -8.29855975, 0.137887774)),
    "wan_t2v_14b": ("time_embedding", (-5784.54975374, 5449.50911966, -1811.16591783, 256.27178429, -13.02252404)),
    "wan_i2v_480p": ("time_embedding", (-302.331670, 223.948934, -52.5463970, 5.87348440, -0.201973289)),
    "wan_i2v_720p": ("time_embedding", (-114.36346466, 65.26524496, -18.82220707, 4.91518089, -0.23412683)),
    "wan_t2v_1.3b_projection": ("time_projection", (-52186.2437, 9230.41404, -528.275948, 13.6987616, -0.0499875664)),
    "wan_t2v_14b_projection": ("time_projection", (-303318.725, 49053.7029, -2655.30556, 58.7365115, -0.315583525)),
    "wan_i2v_480p_projection": ("time_projection", (257151.496, -35422.9917, 1402.86849, -13.5890334, 0.132517977)),
    "wan_i2v_720p_projection": ("time_projection", (8107.05460, 2133.93892, -372.934672, 16.6203073, -0.0417769401)),
}
"""Of ali-vilab/TeaCache (Apache-2.0), highest power first. The authors do not say over which changes they fitted; the
range given here is where a polynomial is between 0 and 1."""

MAGNITUDES: dict[str, tuple[float, ...]] = {
    "hunyuan_video_720p": (
        1.0, 1.0754, 1.27807, 1.11596, 1.09504, 1.05188, 1.00844, 1.05779, 1.00657, 1.04142, 1.03101, 1.00679, 1.02556,
        1.00908, 1.06949, 1.05438, 1.02214, 1.02321, 1.03019, 1.00779, 1.03381, 1.01886, 1.01161, 1.02968, 1.00544,
        1.02822, 1.00689, 1.02119, 1.0105, 1.01044, 1.01572, 1.02972, 1.0094, 1.02368, 1.0226, 0.98965, 1.01588,
        1.02146, 1.0018, 1.01687, 0.99436, 1.00283, 1.01139, 0.97122, 0.98251, 0.94513, 0.97656, 0.90943, 0.85703,
        0.75456,
    ),
}  # fmt: skip
"""Of Zehong-Ma/MagCache (Apache-2.0), for 50 steps; other numbers of steps take the nearest."""


def rescaling(constants: Constants) -> Rescaling:
    """TeaCache's constants: coefficients, the name of the published ones, or a file.

    Raises:
        ValueError: a name that nobody knows, or a file that is not for TeaCache.
    """
    if constants is None:
        return Rescaling()
    if _is_name(constants):
        if constants not in POLYNOMIALS:
            raise ValueError(unknown("polynomial", str(constants), POLYNOMIALS))
        signal, polynomial = POLYNOMIALS[str(constants)]
        return Rescaling(polynomial, signal, trusted(polynomial), published_for(str(constants)))
    if isinstance(constants, (str, Path)):
        found = load(constants, "teacache")
        _require(found, ("polynomial", "signal", "range"), constants)
        return Rescaling(tuple(found["polynomial"]), found["signal"], tuple(found["range"]), MadeFor.from_dict(found))
    return Rescaling(_numbers(constants))


def magnitudes(constants: Constants) -> Ratios:
    """MagCache's constants: ratios, the name of the published ones, or a file.

    Raises:
        ValueError: a name that nobody knows, or a file that is not for MagCache.
    """
    if _is_name(constants):
        if constants not in MAGNITUDES:
            raise ValueError(unknown("table of magnitudes", str(constants), MAGNITUDES))
        return Ratios(MAGNITUDES[str(constants)], published_for(str(constants)))
    if isinstance(constants, (str, Path)):
        found = load(constants, "magcache")
        _require(found, ("ratios",), constants)
        return Ratios(tuple(found["ratios"]), MadeFor.from_dict(found))
    return Ratios(_numbers(constants or ()))


def load(path: str | Path, method: str = "METHOD") -> Mapping[str, Any]:
    """A file that `disca calibrate METHOD` wrote; of any method by default.

    Raises:
        ValueError: there is no such file, or it is of another method or version.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"There is no file {path}. Write one with: disca calibrate {method} --output {path}.")
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no calibration: {error}.") from error
    fits = isinstance(found, dict) and method in ("METHOD", found.get("method"))
    if not fits or found.get("schema") != SCHEMA:
        given = (found.get("method"), found.get("schema")) if isinstance(found, dict) else (None, None)
        raise ValueError(
            f"{path} is a calibration of {given[0]}, version {given[1]}; this needs one of {method}, version {SCHEMA}. "
            f"Write it with: disca calibrate {method}."
        )
    return found


def trusted(polynomial: Sequence[float], upto: float = 0.5, points: int = 501) -> tuple[float, float]:
    """The first stretch of changes from 0 to ``upto`` on which a polynomial is between 0 and 1, as a change is."""
    places = [upto * index / (points - 1) for index in range(points)]
    sane = [0 <= evaluate(polynomial, place) <= 1 for place in places]
    start = sane.index(True)
    stop = sane.index(False, start) if False in sane[start:] else points
    return places[start], places[stop - 1]


_PUBLISHED = {
    "hunyuan_video": ("HunyuanVideoTransformer3DModel", 60),
    "flux": ("FluxTransformer2DModel", 57),
    "cogvideox_2b": ("CogVideoXTransformer3DModel", 30),
    "cogvideox_5b": ("CogVideoXTransformer3DModel", 42),
    "wan_t2v_1.3b": ("WanTransformer3DModel", 30),
    "wan": ("WanTransformer3DModel", 40),
}
"""Class and number of blocks of the models that published constants are for, by how their names begin."""


def published_for(name: str) -> MadeFor:
    """What published constants were fitted to."""
    transformer, blocks = next(model for begin, model in _PUBLISHED.items() if name.startswith(begin))
    return MadeFor(transformer, (), blocks, published=True)


def _require(found: Mapping[str, Any], names: Sequence[str], path: Any) -> None:
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"{path} holds no {missing[0]}. Write it anew with disca calibrate, without --constants.")


def _is_name(constants: Constants) -> bool:
    return isinstance(constants, str) and "/" not in constants and not constants.endswith(".json")


def _numbers(constants: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in constants)
