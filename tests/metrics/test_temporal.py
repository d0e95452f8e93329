from __future__ import annotations

import torch

from disca.metrics.temporal import flicker, motion

MOVING = torch.stack([torch.rand(8, 3, 6, 6, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)])


def test_a_frozen_clip_has_no_motion_and_flickers_as_much_as_its_reference_moves() -> None:
    frozen = MOVING[:, :1].expand_as(MOVING)
    assert motion(frozen).tolist() == [0.0, 0.0]
    torch.testing.assert_close(flicker(frozen, MOVING), motion(MOVING))


def test_a_tint_is_no_flicker_and_alternating_brightness_is() -> None:
    signs = torch.tensor([1.0, -1.0] * 4).view(1, 8, 1, 1, 1)
    torch.testing.assert_close(flicker(MOVING + 0.1, MOVING), torch.zeros(2, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        flicker(MOVING.double() + 0.1 * signs, MOVING.double()), torch.full((2,), 0.2, dtype=torch.float64)
    )
    assert flicker(MOVING, MOVING).tolist() == [0.0, 0.0]


def test_twice_the_contrast_is_twice_the_motion() -> None:
    torch.testing.assert_close(motion(2 * MOVING), 2 * motion(MOVING))
