from __future__ import annotations

import math

import pytest
import torch

from disca.metrics.fidelity import psnr, relative_l2

CLIPS = torch.rand(3, 8, 6, 6, 3, generator=torch.Generator().manual_seed(0))


def test_a_clip_is_at_no_distance_from_itself() -> None:
    assert psnr(CLIPS, CLIPS).tolist() == [math.inf] * 3
    assert relative_l2(CLIPS, CLIPS).tolist() == [0.0] * 3
    black = torch.zeros_like(CLIPS)
    assert relative_l2(black, black).tolist() == [0.0] * 3


@pytest.mark.parametrize("error", [0.1, 0.01])
def test_a_constant_error_has_a_known_psnr(error: float) -> None:
    expected = torch.full((3,), -20 * math.log10(error), dtype=torch.float64)
    torch.testing.assert_close(psnr(CLIPS.double() + error, CLIPS.double()), expected)


def test_scaling_by_one_plus_e_is_a_relative_distance_of_e() -> None:
    scale = 1 + torch.tensor([0.5, 0.1, 0.0], dtype=torch.float64)
    scaled = CLIPS.double() * scale.view(3, 1, 1, 1, 1)
    torch.testing.assert_close(relative_l2(scaled, CLIPS.double()), scale - 1)


def test_clips_are_measured_one_by_one() -> None:
    other = CLIPS.flip(1)
    for measure in (psnr, relative_l2):
        together = measure(other, CLIPS)
        alone = torch.cat([measure(other[i : i + 1], CLIPS[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(together, alone)


def test_bytes_measure_like_floats() -> None:
    clips, reference = (CLIPS * 255).to(torch.uint8), (CLIPS.flip(1) * 255).to(torch.uint8)
    torch.testing.assert_close(
        psnr(clips, reference, data_range=255), psnr(clips / 255, reference / 255), atol=1e-4, rtol=0
    )


def test_misfits_are_refused() -> None:
    with pytest.raises(ValueError, match="equal shape"):
        psnr(CLIPS, CLIPS[:2])
    with pytest.raises(ValueError, match="equal shape"):
        relative_l2(CLIPS[:, :1], CLIPS)
    with pytest.raises(ValueError, match="data_range"):
        psnr(CLIPS, CLIPS, data_range=0)
