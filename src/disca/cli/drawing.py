"""A host, and what its steps cost, drawn in a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich import box
from rich.bar import Bar
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from disca.bench.describe import Description
    from disca.bench.predict import Outlook

BAR = 18
"""Characters of the longest bar."""
TRUNK, LEARNED, OTHER = "cyan", "green", "bright_black"


def host(found: Description, own: tuple[int, int] | None = None) -> Panel:
    """The parts of a host from its input to its output, each with its share of the parameters, and below them the
    predictors that could stand in for its blocks; ``own`` are blocks and parameters of the one that a bundle has."""
    table = _table("", "blocks", "parameters", "share of the host", "")
    table.add_row("embedders, last projection", "", *_share(found.outside, found.parameters, OTHER))
    for stack in found.stacks:
        name = Text.assemble(stack.name, "\n", (stack.block, "dim"))
        table.add_row(name, str(stack.blocks), *_share(stack.parameters, found.parameters, TRUNK))
    table.add_section()
    predictors = {own[0]: own[1]} if own else found.predictors
    for depth, parameters in predictors.items():
        name = "predictor of this bundle" if own else "a predictor" if depth == min(predictors) else ""
        table.add_row(name, str(depth), *_share(parameters, found.parameters, LEARNED))
    widths = " + ".join(map(str, found.widths))
    title = f"[bold]{found.transformer}[/bold], {number(found.parameters)} parameters, width {widths}"
    return Panel(table, title=title, title_align="left", box=box.ROUNDED, expand=False)


def steps(outlook: Outlook) -> Panel:
    """What a full and a forecast step take, and which steps of the schedule are which."""
    cost = outlook.cost
    table = _table("", "TFLOP", "attention", "GB moved", "share", "")
    for name, one, style in (("full step", cost.full, TRUNK), ("forecast step", cost.forecast, LEARNED)):
        table.add_row(
            name,
            f"{one.flops / 1e12:.4g}",
            f"{one.attention / one.flops:.0%}",
            f"{one.bytes / 1e9:.4g}",
            f"{one.flops / cost.full.flops:.1%}",
            _bar(one.flops / cost.full.flops, style),
        )
    tokens = " + ".join(f"{count:,}" for count in cost.tokens)
    title = f"[bold]{outlook.size}[/bold], {tokens} tokens, bfloat16, one sample"
    return Panel(table, title=title, title_align="left", box=box.ROUNDED, expand=False)


def schedule(steps: int, full: Iterable[int]) -> Text:
    """Steps in a row: full ones stand out."""
    full = set(full)
    marks = [("■ " if step in full else "□ ", TRUNK if step in full else LEARNED) for step in range(steps)]
    return Text.assemble(*marks)


def number(count: int) -> str:
    """With three digits, in thousands, millions or billions."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return str(count)


def _table(*names: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, header_style="dim")
    for place, name in enumerate(names):
        edge = place in (0, len(names) - 1)
        table.add_column(name, justify="left" if edge else "right", no_wrap=place > 0)
    return table


def _share(parameters: int, whole: int, style: str) -> tuple[str, str, Any]:
    return number(parameters), f"{parameters / whole:.1%}", _bar(parameters / whole, style)


def _bar(share: float, style: str) -> Bar:
    return Bar(1, 0, min(1.0, share), width=BAR, color=style)
