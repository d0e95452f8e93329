"""`disca describe`: a model in numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional, arg


@dataclass(frozen=True, kw_only=True)
class Describe:
    """Print a model's blocks and parameters, and what a predictor for it would weigh; with --size, also what its steps
    cost and what a schedule would gain. Only configurations are read.

    disca describe lab

    disca describe path/to/pipeline --size 704x704x129 --steps 20 --full-steps 0 1 2 5 9 13 17 19 --card H100
    """

    model: Positional[str]
    """A folder with a pipeline of diffusers, a transformer or a bundle; or one of the lab's pipelines."""
    size: str | None = None
    """A clip, as WIDTHxHEIGHTxFRAMES in pixels: count the operations and bytes of its steps."""
    text: int | None = None
    """Text tokens; by default as many as the stock pipeline hands over."""
    steps: int = 8
    """Sampling steps of the schedule to predict."""
    full_steps: Annotated[tuple[int, ...], arg(metavar="INT [INT ...]")] = (0, 2, 4, 7)
    """Its full steps, from 0."""
    card: str | None = None
    """A card, such as H100 or "RTX 4090": derive seconds from its data sheet. Without it the GPU here is measured;
    where there is none, operations are compared."""
    json: bool = False
    """Print one JSON object."""


def describe(options: Describe) -> None:
    """Describe a model; only configurations are read."""
    from dataclasses import asdict

    from disca.bench.describe import describe as describe_host
    from disca.cli.models import open_transformer

    transformer = open_transformer(options.model)
    found = describe_host(transformer)
    costs = _costs(options, transformer)
    if options.json:
        shares = {depth: found.share(depth) for depth in found.predictors}
        print(json.dumps({**asdict(found), "shares": shares, **{name: asdict(value) for name, value in costs.items()}}))
        return
    from rich.console import Console
    from rich.table import Table

    stacks = Table(title=f"{found.transformer}, {_number(found.parameters)} parameters")
    for name in ("stack", "block", "blocks", "parameters"):
        stacks.add_column(name, justify="left" if name in ("stack", "block") else "right")
    for stack in found.stacks:
        stacks.add_row(stack.name, stack.block, str(stack.blocks), _number(stack.parameters))
    predictors = Table(title="predictors")
    for name in ("blocks", "parameters", "share of the host"):
        predictors.add_column(name, justify="right")
    for depth, parameters in found.predictors.items():
        predictors.add_row(str(depth), _number(parameters), f"{found.share(depth):.1%}")
    console = Console()
    console.print(stacks, predictors)
    console.print(f"Second time: {found.second_time}.")
    for line in [*_bundle(Path(options.model)), *_sentences(**costs)]:
        console.print(line)


def _costs(options: Describe, transformer: Any) -> dict[str, Any]:
    """The outlook at the size that was asked for, and the prediction where there is a machine to predict for."""
    if options.size is None:
        if options.card is not None:
            raise ValueError("--card predicts seconds at a size: give --size too, such as --size 704x704x129.")
        return {}
    from disca.bench.predict import outlook
    from disca.bench.sizes import Size
    from disca.schedules import Schedule

    machine = _machine(options.card)
    schedule = Schedule(options.steps, options.full_steps)
    size = Size.parse(options.size)
    found = outlook(type(transformer).__name__, transformer.config, size, schedule, text=options.text)
    return {"outlook": found} | ({"prediction": found.on(machine)} if machine else {})


def _machine(name: str | None) -> Any:
    """A named card, or the GPU here, or none."""
    import torch

    from disca.bench.machines import card, measure

    if name is not None:
        return card(name)
    return measure(torch.device("cuda")) if torch.cuda.is_available() else None


def _sentences(outlook: Any = None, prediction: Any = None) -> list[str]:
    """What steps cost and what a schedule gains; nothing where no size was given."""
    if outlook is None:
        return []
    cost, schedule = outlook.cost, outlook.schedule
    run = f"{schedule.steps} steps, full {' '.join(map(str, schedule.full_steps))}"
    stock = f"{outlook.stock_steps} steps x {outlook.stock_passes}"
    lines = [
        f"At {outlook.size}, {' + '.join(map(str, cost.tokens))} tokens, bfloat16, one sample:",
        f"  full step {_amount(cost.full)}; forecast step {_amount(cost.forecast)}",
        f"  kept between steps {cost.cache_bytes / 1e9:.3f} GB; weights {cost.parameter_bytes / 1e9:.2f} GB, predictor "
        f"{cost.predictor_bytes / 1e9:.2f} GB",
        f"{run}: {outlook.bound:.1f}x fewer operations than 50 steps x 2, {outlook.bound_over_stock:.1f}x fewer than "
        f"the stock pipeline's {stock}",
    ]
    if prediction is None:
        return [*lines, "No GPU here to measure. Name one with --card for seconds."]
    how = "derived from its data sheet, not measured" if prediction.machine.derived else "two measured constants"
    return [
        *lines,
        f"On {prediction.machine.name} ({how}): full step {prediction.seconds_full:.2f} s, forecast step "
        f"{prediction.seconds_forecast:.3f} s, run {prediction.seconds_run:.1f} s; {prediction.speedup:.1f}x and "
        f"{prediction.speedup_over_stock:.1f}x faster than those",
    ]


def _amount(cost: Any) -> str:
    return (
        f"{cost.flops / 1e12:.4g} TFLOP (attention {cost.attention / cost.flops:.0%}), {cost.bytes / 1e9:.4g} GB moved"
    )


def _bundle(folder: Path) -> list[str]:
    """What a bundle says of itself; nothing for other models."""
    if not (folder / "bundle.json").is_file():
        return []
    stored = json.loads((folder / "bundle.json").read_text())
    lists = [f"{one['steps']} steps, full {' '.join(map(str, one['full_steps']))}" for one in stored["schedules"]]
    made_for = ", ".join(f"{name} {value}" for name, value in stored["made_for"].items() if value is not None)
    measured = stored["measured"]
    return [
        f"A bundle for the component {stored['component']}, with {', '.join(stored['parts']) or 'no parts'}.",
        f"Schedules: {'; '.join(lists) or 'none'}.",
        f"Made for: {made_for or 'anything'}.",
        f"Recorded error: {measured['relative_l2']:.4f}." if measured else "Recorded error: none; see disca check.",
        f"Base: {stored['base']}. Licence: {stored['licence']}.",
    ]


def _number(count: int) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return str(count)
