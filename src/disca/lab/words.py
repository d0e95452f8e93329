"""The language of the lab: its words, its prompts, and which combinations are reserved.

A prompt is ``a COLOUR DIGIT MOTION``, such as "a red seven drifting left". A fifth of the combinations is held out of
every training, calibration and selection stage, so "held-out prompts" means the same thing everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from random import Random

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (1.0, 0.15, 0.15),
    "green": (0.2, 0.9, 0.25),
    "blue": (0.25, 0.4, 1.0),
    "yellow": (1.0, 0.9, 0.1),
    "pink": (1.0, 0.4, 0.8),
    "white": (1.0, 1.0, 1.0),
}
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MOTIONS = (
    "drifting left",
    "drifting right",
    "drifting up",
    "drifting down",
    "bouncing up",
    "bouncing right",
    "standing still",
)
WORDS = ("a", *COLOURS, *DIGITS, *dict.fromkeys(word for motion in MOTIONS for word in motion.split()))
EXAMPLE = "a red seven drifting left"


@dataclass(frozen=True, order=True)
class Prompt:
    """Indices into :data:`COLOURS`, :data:`DIGITS` and :data:`MOTIONS`."""

    colour: int
    digit: int
    motion: int

    def __str__(self) -> str:
        return f"a {list(COLOURS)[self.colour]} {DIGITS[self.digit]} {MOTIONS[self.motion]}"

    @property
    def held_out(self) -> bool:
        """Whether this combination is reserved; every pair of attributes still occurs among the others."""
        return (self.digit + 2 * self.colour + self.motion) % 5 == 4


PROMPTS = tuple(Prompt(*indices) for indices in product(range(len(COLOURS)), range(len(DIGITS)), range(len(MOTIONS))))
TRAINING = tuple(prompt for prompt in PROMPTS if not prompt.held_out)
HELD_OUT = tuple(prompt for prompt in PROMPTS if prompt.held_out)
_BY_TEXT = {str(prompt): prompt for prompt in PROMPTS}


def parse(text: str) -> Prompt:
    """Read a prompt; case and spacing do not matter.

    Raises:
        ValueError: a word the lab does not know, or known words in another form; says which, and what it knows.
    """
    words = text.lower().replace(",", " ").replace(".", " ").split()
    unknown = [word for word in words if word not in WORDS]
    if unknown:
        raise ValueError(
            f"The lab does not know {_quoted(unknown)}. It knows colours ({', '.join(COLOURS)}), "
            f"digits ({', '.join(DIGITS)}) and motions ({', '.join(MOTIONS)}). Example: {EXAMPLE!r}."
        )
    prompt = _BY_TEXT.get(" ".join(words)) or _BY_TEXT.get(" ".join(["a", *words]))
    if prompt is None:
        raise ValueError(
            f"{text!r} is not a prompt of the lab: it takes 'a COLOUR DIGIT MOTION', such as {EXAMPLE!r}; "
            f"motions are {', '.join(MOTIONS)}."
        )
    return prompt


def sample(prompts: Sequence[Prompt], count: int, seed: int) -> list[Prompt]:
    """``count`` prompts, each as often as any other up to one, in an order given by the seed."""
    draw = Random(seed)
    chosen: list[Prompt] = []
    while len(chosen) < count:
        chosen += draw.sample(prompts, len(prompts))
    return chosen[:count]


def _quoted(words: Iterable[str]) -> str:
    return ", ".join(repr(word) for word in words)
