"""A host, and what its steps cost, drawn in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rich import box
from rich.bar import Bar
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from disca.bench.describe import Description
    from disca.bench.predict import Outlook

BAR = 12
"""Characters of the longest bar."""
TRUNK, LEARNED, OTHER = "cyan", "green", "bright_black"


def host(found: Description, own: tuple[int, int] | None = None) -> Panel:
    """The parts of a host in the order in which they run, each with its share of the parameters, and below them the
    predictors that could stand in for its blocks; ``own`` are blocks and parameters of the one that a bundle has."""
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    for name, justify in (("", "left"), ("", "left"), ("blocks", "right"), ("parameters", "right"), ("share", "right")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for mark, part, blocks, parameters, style in _parts(found, own):
        share = parameters / found.parameters
        cells = (Text(mark, style), part, blocks, number(parameters), f"{share:.1%}", _bar(share, style))
        table.add_row(*cells)
    widths = " + ".join(map(str, found.widths))
    title = f"[bold]{found.transformer}[/bold], {number(found.parameters)} parameters"
    foot = f"width {widths}; share of the host's parameters"
    return _panel(table, title, foot)


def _parts(found: Description, own: tuple[int, int] | None) -> Iterator[tuple[str, Text, str, int, str]]:
    yield "▽", Text("embedders and last projection"), "", found.outside, OTHER
    for stack in found.stacks:
        name = Text.assemble(stack.name, "\n", (stack.block, "dim"))
        yield "┃\n┃", name, str(stack.blocks), stack.parameters, TRUNK
    for depth, parameters in {own[0]: own[1]}.items() if own else found.predictors.items():
        yield "┊", Text("the bundle's predictor" if own else "or a predictor"), str(depth), parameters, LEARNED


def steps(outlook: Outlook) -> Panel:
    """What a full and a forecast step take."""
    cost = outlook.cost
    table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
    for name in ("", "operations", "attention", "moved", "share"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for name, one, style in (("full step", cost.full, TRUNK), ("forecast step", cost.forecast, LEARNED)):
        share = one.flops / cost.full.flops
        amounts = f"{scaled(one.flops)}FLOP", f"{one.attention / one.flops:.0%}", f"{scaled(one.bytes)}B"
        table.add_row(name, *amounts, f"{share:.1%}", _bar(share, style))
    tokens = " + ".join(f"{count:,}" for count in cost.tokens)
    kept = f"kept between steps {scaled(cost.cache_bytes)}B; weights {scaled(cost.parameter_bytes)}B"
    foot = f"{kept}, predictor {scaled(cost.predictor_bytes)}B"
    return _panel(table, f"[bold]{outlook.size}[/bold], {tokens} tokens, bfloat16, one sample", foot)


def schedule(steps: int, full: Iterable[int]) -> Text:
    """Steps in a row: full ones stand out."""
    full = set(full)
    return Text(" ").join(Text("■", TRUNK) if step in full else Text("□", LEARNED) for step in range(steps))


def number(count: int) -> str:
    """With two decimals, in thousands, millions or billions."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return str(count)


def scaled(value: float) -> str:
    """With three digits and the prefix of a unit, which is to follow."""
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:#.3g}".rstrip(".") + f" {prefix}"
    return f"{value:g} "


def _panel(table: Table, title: str, foot: str) -> Panel:
    edge = {"title_align": "left", "subtitle_align": "left", "box": box.ROUNDED, "expand": False, "padding": (1, 2)}
    return Panel(table, title=title, subtitle=f"[dim]{foot}[/dim]", **edge)  # type: ignore[arg-type]


def _bar(share: float, style: str) -> Bar:
    return Bar(1, 0, min(1.0, share), width=BAR, color=style)
