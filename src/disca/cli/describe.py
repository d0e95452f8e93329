"""`disca describe`: a model in numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg

from disca.cli import drawing
from disca.cli.printing import Printing, say, show


@dataclass(frozen=True, kw_only=True)
class Describe:
    """Draw a model: its blocks, parameters and predictors; with --size, also what its steps cost and what a schedule
    would gain. Only configurations are read.

    disca describe lab

    disca describe path/to/pipeline --size 704x704x129 --steps 20 --full-steps 0 1 2 5 9 13 17 19 --card H100

    disca describe my-bundle --size 704x704x129 --json
    """

    model: Positional[str]
    """A folder with a pipeline of diffusers, a transformer or a bundle; or one of the lab's pipelines."""
    size: str | None = None
    """A clip, as WIDTHxHEIGHTxFRAMES in pixels: count the operations and bytes of its steps."""
    text: int | None = None
    """Text tokens; by default as many as the stock pipeline hands over."""
    steps: int | None = None
    """Sampling steps of the schedule to predict; a bundle's first schedule, or 8, when left out."""
    full_steps: Annotated[tuple[int, ...] | None, arg(metavar="INT [INT ...]")] = None
    """Its full steps, from 0; those of a bundle's schedule, or 0 2 4 7 of 8, when left out."""
    card: str | None = None
    """A card, such as H100 or "RTX 4090": derive seconds from its data sheet. Without it the GPU here is measured;
    where there is none, operations are compared."""
    printing: Printing = Printing()


def describe(options: Describe) -> dict[str, Any]:
    """Describe a model; only configurations are read."""
    from dataclasses import asdict

    from disca.bench.describe import describe as describe_host
    from disca.bench.describe import predictor_of
    from disca.cli.models import open_transformer

    transformer = open_transformer(options.model)
    found, bundle = describe_host(transformer), _bundle(Path(options.model))
    costs = _costs(options, transformer, bundle)
    own = predictor_of(options.model) if bundle else None
    show(drawing.host(found, own))
    for line in [f"Second time: {found.second_time}.", *_said_of(bundle), *_said_of_second(Path(options.model))]:
        say(line)
    if costs:
        _show_costs(**costs)
    shares = {depth: found.share(depth) for depth in found.predictors}
    result = {**asdict(found), "shares": shares, **{name: asdict(value) for name, value in costs.items()}}
    if own:
        result["own_predictor"] = {"blocks": own[0], "parameters": own[1], "share": own[1] / found.parameters}
    return result | ({"bundle": dict(bundle)} if bundle else {})


def _costs(options: Describe, transformer: Any, bundle: Mapping[str, Any]) -> dict[str, Any]:
    """The outlook at the size that was asked for, and the prediction where there is a machine to predict for."""
    if options.size is None:
        if options.card is not None:
            raise ValueError("--card predicts seconds at a size: give --size too, such as --size 704x704x129.")
        return {}
    from disca.bench.predict import outlook
    from disca.bench.sizes import Size

    machine = _machine(options.card)
    size = Size.parse(options.size)
    schedule = _schedule(options, bundle)
    found = outlook(type(transformer).__name__, transformer.config, size, schedule, text=options.text)
    return {"outlook": found} | ({"prediction": found.on(machine)} if machine else {})


def _schedule(options: Describe, bundle: Mapping[str, Any]) -> Any:
    """The schedule that was asked for: of a bundle the one for that number of steps, if it has one."""
    from disca.schedules import Schedule

    known = [(one["steps"], tuple(one["full_steps"])) for one in bundle.get("schedules", ())] or [(8, (0, 2, 4, 7))]
    steps = options.steps or known[0][0]
    if options.full_steps is not None:
        return Schedule(steps, options.full_steps)
    if steps not in dict(known):
        raise ValueError(f"Say which of the {steps} steps are full: --full-steps 0 1 2 5, for example.")
    return Schedule(steps, dict(known)[steps])


def _machine(name: str | None) -> Any:
    """A named card, or the GPU here, or none."""
    import torch

    from disca.bench.machines import card, measure

    if name is not None:
        return card(name)
    return measure(torch.device("cuda")) if torch.cuda.is_available() else None


def _show_costs(outlook: Any, prediction: Any = None) -> None:
    """What steps cost and what a schedule gains."""
    schedule = outlook.schedule
    show(drawing.steps(outlook))
    stock = f"{outlook.stock_steps} steps x {outlook.stock_passes}"
    show(drawing.schedule(schedule.steps, schedule.full_steps))
    say(
        f"{schedule.steps} steps, full {' '.join(map(str, schedule.full_steps))}: {outlook.bound:.1f}x fewer "
        f"operations than 50 steps x 2, {outlook.bound_over_stock:.1f}x fewer than the stock pipeline's {stock}"
    )
    if prediction is None:
        say("No GPU here to measure. Name one with --card for seconds.")
        return
    how = "derived from its data sheet, not measured" if prediction.machine.derived else "two measured constants"
    say(
        f"On {prediction.machine.name} ({how}): full step {prediction.seconds_full:.3g} s, forecast step "
        f"{prediction.seconds_forecast:.3g} s, run {prediction.seconds_run:.3g} s; {prediction.speedup:.1f}x and "
        f"{prediction.speedup_over_stock:.1f}x faster than those"
    )


def _bundle(folder: Path) -> Mapping[str, Any]:
    """What a bundle says of itself but its host's configuration; nothing for other models."""
    file = folder / "bundle.json"
    if not file.is_file():
        return {}
    return {name: value for name, value in json.loads(file.read_text()).items() if name != "host_config"}


def _said_of(bundle: Mapping[str, Any]) -> list[str]:
    if not bundle:
        return []
    lists = [f"{one['steps']} steps, full {' '.join(map(str, one['full_steps']))}" for one in bundle["schedules"]]
    made_for = ", ".join(f"{name} {value}" for name, value in bundle["made_for"].items() if value is not None)
    measured = bundle["measured"]
    return [
        f"A bundle for the component {bundle['component']}, with {', '.join(bundle['parts']) or 'no parts'}.",
        f"Schedules: {'; '.join(lists) or 'none'}.",
        f"Made for: {made_for or 'anything'}.",
        f"Recorded error: {measured['relative_l2']:.4f}." if measured else "Recorded error: none; see disca check.",
        f"Base: {bundle['base']}. Licence: {bundle['licence']}.",
    ]


def _said_of_second(folder: Path) -> list[str]:
    """Of Wan 2.2, whose pipeline has two transformers."""
    second = folder / "transformer_2"
    return [f"The pipeline has a second transformer: disca describe {second}"] if second.is_dir() else []
