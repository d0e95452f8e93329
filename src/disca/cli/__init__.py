"""The command line: one verb per file, each a dataclass of options and a function that takes it."""

from disca.cli.program import main

__all__ = ["main"]
