"""`disca --completion SHELL`: a script that lets a shell complete verbs, options and files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import tyro

SHELLS = ("bash", "zsh", "fish")


def completion(args: Sequence[str], verbs: Any, config: Sequence[Any] = ()) -> None:
    """Print the script.

    Raises:
        ValueError: no shell, or one that there is no script for.
    """
    if len(args) != 1 or args[0] not in SHELLS:
        raise ValueError(f"Completion is for one of {', '.join(SHELLS)}: disca --completion bash.")
    with suppress(SystemExit):  # tyro ends the program after it
        tyro.cli(verbs, prog="disca", args=["--tyro-write-completion", args[0], "-"], config=config)
