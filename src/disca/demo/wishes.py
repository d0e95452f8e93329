"""What a visitor of the page wishes for, checked before any work: every input has a limit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PROMPT, STEPS, SEED = 1000, 200, 2**32 - 1
"""The most characters of a prompt, sampling steps of a run, and the largest seed."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A prompt to sample twice.

    Raises:
        ValueError: no prompt, or one that is too long; steps or a seed beyond their limits.
    """

    subject: str
    """Which of the models that the page was started with."""
    prompt: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the method is called with, ``full_steps`` among it."""
    steps: int
    seed: int = 0


def prompt(text: Any) -> str:
    """A prompt in one line.

    Raises:
        ValueError: an empty one, or one that is too long.
    """
    words = " ".join(str(text or "").split())
    if not words:
        raise ValueError("There is no prompt. Say what the clip is to show.")
    if len(words) > PROMPT:
        raise ValueError(f"The prompt has {len(words):,} characters; at most {PROMPT:,} are taken. Shorten it.")
    return words


def whole(name: str, value: Any, least: int, most: int) -> int:
    """A whole number of a control.

    Raises:
        ValueError: none, or one beyond its limits.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not least <= number <= most or number != int(number):
        shown = "nothing" if value is None or value == "" else str(value)[:40]
        raise ValueError(f"{name} must be a whole number from {least} to {most}; given {shown}.")
    return int(number)


def steps(value: Any) -> int:
    """Sampling steps.

    Raises:
        ValueError: not from 1 to 200.
    """
    return whole("The number of steps", value, 1, STEPS)


def seed(value: Any) -> int:
    """A seed of the noise.

    Raises:
        ValueError: not from 0 to 2**32 - 1.
    """
    return whole("The seed", value, 0, SEED)
