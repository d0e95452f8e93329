"""How two clips differ, as a clip of its own."""

from __future__ import annotations

import numpy as np

from disca.report.clips import Frames

GAIN = 4
"""How much larger a difference is shown than it is: a fixed number, so that what is closer looks darker."""
SHADES = ((12, 14, 16), (31, 111, 107), (124, 199, 189), (255, 250, 235))
"""Colours of no difference, a third, two thirds, and of ``1 / GAIN`` of the whole range and above."""


def difference(first: Frames, second: Frames) -> Frames:
    """The mean absolute difference over the colours of each pixel, ``GAIN`` times enlarged, in shades.

    Args:
        first: ``[frames, height, width, 3]`` in uint8.
        second: of the same shape.

    Raises:
        ValueError: the shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"Clips of shapes {first.shape} and {second.shape} have no difference; they must be equal.")
    distance = np.abs(first.astype(np.int16) - second.astype(np.int16)).mean(axis=3) / 255
    return shaded(np.minimum(GAIN * distance, 1.0))


def shaded(values: np.ndarray) -> Frames:
    """Values ``[...]`` in [0, 1] as colours ``[..., 3]`` in uint8."""
    places = np.linspace(0, 1, len(SHADES))
    channels = [np.interp(values, places, [shade[channel] for shade in SHADES]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)
