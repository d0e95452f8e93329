from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from disca.demo.difference import GAIN, SHADES, difference


def clip(value: int) -> np.ndarray:
    return np.full((2, 4, 4, 3), value, np.uint8)


@given(st.integers(0, 255))
def test_equal_clips_are_dark_everywhere(value: int) -> None:
    assert (difference(clip(value), clip(value)) == SHADES[0]).all()


@given(st.integers(0, 254), st.integers(0, 254))
def test_it_has_no_direction_and_grows(first: int, second: int) -> None:
    assert (difference(clip(first), clip(second)) == difference(clip(second), clip(first))).all()
    low, high = sorted((first, second))
    nearer, farther = (difference(clip(low), clip(value)).astype(int).sum() for value in (high, high + 1))
    assert nearer <= farther


def test_a_quarter_of_the_range_is_brightest() -> None:
    assert (difference(clip(0), clip(255 // GAIN + 1)) == SHADES[-1]).all()


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes"):
        difference(clip(0), clip(0)[:1])
