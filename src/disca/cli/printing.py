"""What a command prints: sentences and bars for people, one JSON object for scripts, or nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import rich


@dataclass(frozen=True, kw_only=True)
class Printing:
    """Options that every verb has."""

    quiet: bool = False
    """Print nothing but errors and warnings."""
    json: bool = False
    """Print the result as one JSON object; sentences and bars go to the error output."""

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Inside the block, what is printed through rich's console goes where the options say."""
        console = rich.get_console()
        before = console.__dict__
        rich.reconfigure(stderr=self.json, quiet=self.quiet)
        if self.quiet:
            os.environ.setdefault("TQDM_DISABLE", "1")  # the bars of other libraries, which are not loaded yet
        try:
            yield
        finally:
            console.__dict__ = before


def say(text: str, style: str | None = None) -> None:
    """A sentence for people, in one line however long: a path in it can be copied."""
    rich.get_console().print(text, style=style, markup=False, soft_wrap=True)


def show(*things: Any) -> None:
    """Tables and drawings for people."""
    rich.get_console().print(*things)
