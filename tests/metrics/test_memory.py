from __future__ import annotations

import torch

from disca.metrics.memory import PeakTensors

UNIT = 4 * 1000


def test_the_peak_is_what_is_alive_at_once_and_weights_do_not_count() -> None:
    weight = torch.ones(1000)
    with PeakTensors() as memory:
        for _ in range(5):
            once = weight * 2  # the last one and the next one, never more
        assert memory.live == UNIT
        kept = [weight + 1, weight.view(10, 100), once.view(10, 100)]
        assert memory.live == 2 * UNIT
        del kept, once
        assert memory.live == 0
    assert memory.peak == 2 * UNIT
