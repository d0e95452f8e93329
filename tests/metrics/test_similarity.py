from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from disca.metrics.similarity import ssim

CLIPS = torch.rand(2, 3, 3, 16, 20, generator=torch.Generator().manual_seed(0))


def test_a_clip_is_wholly_similar_to_itself_and_less_to_what_is_further() -> None:
    noise = torch.randn(CLIPS.shape, generator=torch.Generator().manual_seed(1))
    near, far = (ssim((CLIPS + scale * noise).clamp(0, 1), CLIPS) for scale in (0.05, 0.3))
    assert ssim(CLIPS, CLIPS).tolist() == [1.0, 1.0]
    assert (near < 1).all() and (far < near).all()


def test_it_equals_the_formula_written_out_for_one_window() -> None:
    x, y = CLIPS[:1, 0, :1, :11, :11].double().numpy()[0, 0], CLIPS[1:, 0, :1, :11, :11].double().numpy()[0, 0]
    place = np.arange(11) - 5
    row = np.exp(-(place**2) / (2 * 1.5**2))
    weights = np.outer(row, row) / np.outer(row, row).sum()
    mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
    var_x, var_y = (weights * (x - mean_x) ** 2).sum(), (weights * (y - mean_y) ** 2).sum()
    covariance = (weights * (x - mean_x) * (y - mean_y)).sum()
    c1, c2 = 0.01**2, 0.03**2
    wanted = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    wanted /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    found = ssim(*(torch.from_numpy(part)[None, None] for part in (x, y)))
    assert math.isclose(found.item(), wanted, rel_tol=1e-9)


def test_frames_smaller_than_the_window_are_refused() -> None:
    with pytest.raises(ValueError, match="11 pixels"):
        ssim(CLIPS[..., :8], CLIPS[..., :8])
