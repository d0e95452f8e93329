"""Words for errors: what is near to a name that nobody knows, and work that failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The known name most like ``name``, or None where nothing is like it."""
    known = {candidate.lower(): candidate for candidate in names}
    found = get_close_matches(name.lower(), known, n=1, cutoff=0.5)
    return known[found[0]] if found else None


def unknown(kind: str, name: str, names: Iterable[str]) -> str:
    """A message for a name that nobody knows: what was given, what is nearest, and what there is."""
    known = sorted(names)
    guess = nearest(name, known)
    hint = f"Did you mean {guess!r}? " if guess else ""
    return f"Unknown {kind} {name!r}. {hint}Known: {', '.join(known) or 'none'}."


def check_choice(option: str, given: str, choices: Iterable[str]) -> None:
    """Refuse what is none of the choices."""
    if given not in choices:
        raise ValueError(f"{option} must be one of {', '.join(choices)}; given {given!r}.")


class FailedError(Exception):
    """Work was done, and its outcome is a failure: nothing was wrong with what was asked for."""

    def __init__(self, message: str, result: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.result = result
        """What was found in spite of it."""
