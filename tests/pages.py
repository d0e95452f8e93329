"""Pages as a reader meets them: their blocks of code in order, and what to do with each.

A ``toml`` block that begins with ``# NAME.toml`` is a file that the reader saves; ``bash`` and ``python`` blocks are run.
Two visible lines right above a block change that, and tell the reader why:

    *Not run by the tests: it needs real weights.*
    *The tests add `--set iterations=1`.*
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN, SAVED, SHOWN = ("bash", "python"), ("toml",), ("", "text", "bibtex", "json")
"""Languages of blocks: what is run, what is saved, what is only shown."""
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NOT_RUN = re.compile(r"\*Not run by the tests: [^*]{10,}\.\*$")
ADDED = re.compile(r"\*The tests add `([^`]+)`\.\*$")
CHECKOUT = ("recipes", "benchmarks", "tests")
"""What a page needs a checkout for, where its commands name it."""


@dataclass(frozen=True)
class Block:
    """One block of a page."""

    language: str
    code: str
    before: str
    """The text right above it."""

    @property
    def is_run(self) -> bool:
        return self.language in RUN and not NOT_RUN.search(self.before)

    @property
    def file(self) -> str | None:
        """The name of the file that it is."""
        named = re.match(r"# (\S+\.toml)\n", self.code)
        return named[1] if named and self.language in SAVED else None

    @property
    def commands(self) -> str:
        """What is run, with what the tests add."""
        added = ADDED.search(self.before)
        if self.language != "bash" or not added:
            return self.code
        joined = self.code.replace("\\\n", " ")
        return re.sub(r"^((?:\w+=\S+ )*(?:disca|torchrun|accelerate) [^#\n]*)", rf"\1 {added[1]} ", joined, flags=re.MULTILINE)


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    text = page.read_text()
    return [Block(found[1], found[2], text[: found.start()].rstrip()) for found in FENCE.finditer(text)]


def follow(page: Path, folder: Path) -> None:
    """Do what a page says in an empty folder, block by block; the first that fails ends it.

    Raises:
        AssertionError: a block failed.
    """
    found = blocks(page)
    for name in CHECKOUT:
        if any(f"{name}/" in block.code for block in found):
            (folder / name).symlink_to(ROOT / name)
    for number, block in enumerate(found, start=1):
        if block.file:
            (folder / block.file).write_text(block.code)
        elif block.is_run:
            _run(block, folder, f"{page.relative_to(ROOT)}, block {number}")


def _run(block: Block, folder: Path, where: str) -> None:
    command = ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else [sys.executable, "-c"]
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([*command, block.commands], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{where} ended with {done.returncode}:\n{block.commands}\n{done.stdout}\n{done.stderr}"
