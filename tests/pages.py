"""Pages as a reader meets them: their blocks of code in order, and what to do with each.

A ``toml`` block that begins with ``# NAME.toml`` is a file that the reader saves; ``bash`` and ``python`` blocks are
run. Two visible lines right above a block change that, and tell the reader why:

    *Not run by the tests: it needs real weights.*
    *The tests add `--set iterations=1`.*

``disca`` and Python start as forks of a process that has imported what takes seconds to import.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN, SAVED, SHOWN = ("bash", "python"), ("toml",), ("", "text", "bibtex", "json")
"""Languages of blocks: what is run, what is saved, what is only shown."""
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NOT_RUN = re.compile(r"\*Not run by the tests: [^*]{10,}\.\*$")
ADDED = re.compile(r"\*The tests add `([^`]+)`\.\*$")
OURS = re.compile(r"^disca |disca\.cli ")
CHECKOUT = ("recipes", "benchmarks", "tests")
"""What a page needs a checkout for, where its commands name it."""
LONGEST = 300
"""Seconds that a block may take."""
SERVER = get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "disca.cli.program",
        "disca.lab.weights",
        "disca.lab.tiny",
        "disca.training.train",
        "disca.training.pipelines",
        "disca.data.encode",
        "disca.bench.bench",
        "diffusers.pipelines.wan.pipeline_wan",
    ]
)


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
    def lines(self) -> list[str]:
        """Its command lines, with what the tests add to those of ours."""
        added = ADDED.search(self.before)
        lines = [line.partition(" #")[0].strip() for line in self.code.replace("\\\n", " ").splitlines()]
        return [f"{line} {added[1]}" if added and OURS.search(line) else line for line in lines if line]


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
            steps = [("python", block.code)] if block.language == "python" else [("bash", line) for line in block.lines]
            for language, code in steps:
                _do(language, code, folder, f"{page.name}, block {number}")


def _do(language: str, code: str, folder: Path, where: str) -> None:
    if language == "bash" and not code.startswith("disca "):
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        command, environment = ["bash", "-euo", "pipefail", "-c", code], {**os.environ, "PATH": path}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=LONGEST)
        status, said = done.returncode, done.stdout + done.stderr
    else:
        output = folder.parent / f"{folder.name}.output"  # of the whole page so far
        work: Callable[[str], int] = _command if language == "bash" else _python
        process = SERVER.Process(target=_inside, args=(work, code, folder, output))
        process.start()
        process.join(LONGEST)
        process.kill()  # nothing, but to one that did not end
        process.join()
        status, said = process.exitcode, output.read_text()
    assert status == 0, f"{where} ended with {status}:\n{code}\n{said}"


def _inside(work: Callable[[str], int], code: str, folder: Path, output: Path) -> None:
    """Work in a folder, everything that is said into a file."""
    os.chdir(folder)
    with output.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.exit(work(code))


def _command(line: str) -> int:
    from disca.cli.program import main

    sys.argv = shlex.split(line)
    return main(sys.argv[1:])


def _python(code: str) -> int:
    sys.argv = ["-c"]
    exec(compile(code, "<page>", "exec"), {"__name__": "__main__"})
    return 0
