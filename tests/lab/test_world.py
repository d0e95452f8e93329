"""The lab's clips and codec."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from disca.lab.codec import PatchCodec
from disca.lab.judge import trajectory
from disca.lab.words import COLOURS, MOTIONS, TRAINING, Prompt, sample
from disca.lab.world import World, scans

WORLD = World()


def clips(prompts: list[Prompt], seed: int = 0) -> Tensor:
    return WORLD.clips(prompts, torch.Generator().manual_seed(seed))


def test_no_scan_is_in_two_splits() -> None:
    from sklearn.datasets import load_digits

    parts = [scans(split)[0] for split in ("model", "judge", "test")]
    assert sum(map(len, parts)) == len(load_digits().target)
    seen = [{image.numpy().tobytes() for image in part} for part in parts]
    assert not seen[0] & seen[2] and not seen[1] & seen[2] and not seen[0] & seen[1]


def test_a_seed_gives_the_same_clips_and_another_seed_others() -> None:
    prompts = sample(TRAINING, 8, 0)
    assert torch.equal(clips(prompts), clips(prompts))
    assert not torch.equal(clips(prompts), clips(prompts, seed=1))


@pytest.mark.parametrize(
    ("motion", "step"),
    [
        ("drifting left", (-1, 0)),
        ("drifting right", (1, 0)),
        ("drifting up", (0, -1)),
        ("drifting down", (0, 1)),
        ("standing still", (0, 0)),
    ],
)
def test_a_digit_moves_as_its_prompt_says(motion: str, step: tuple[int, int]) -> None:
    prompts = [Prompt(colour=5, digit=digit, motion=MOTIONS.index(motion)) for digit in range(10)]
    path = trajectory(clips(prompts))
    moved = path[:, -1] - path[:, 0]
    assert torch.allclose(moved, torch.tensor(step) * WORLD.travel, atol=1.0)  # tall digits are cut at the edge


def test_a_bounce_goes_there_and_back() -> None:
    path = trajectory(clips([Prompt(colour=0, digit=3, motion=MOTIONS.index("bouncing up"))]))[0]
    assert torch.allclose(path[0], path[-1], atol=0.3)
    assert path[3, 1] < path[0, 1] - 0.8 * WORLD.travel


def test_a_clip_has_its_colour() -> None:
    for index, paint in enumerate(COLOURS.values()):
        clip = clips([Prompt(colour=index, digit=0, motion=6)])[0]
        brightest = clip.flatten(1)[:, clip.sum(0).argmax()]
        assert torch.allclose(brightest / brightest.max(), torch.tensor(paint) / max(paint), atol=1e-5)


def test_the_codec_is_a_projection_with_latents_of_unit_variance() -> None:
    shown = clips(sample(TRAINING, 200, 0))
    codec = PatchCodec.fit(shown, components=12)
    latents = codec.encode(shown)
    assert latents.shape == (200, 12, *codec.latent_shape)
    assert latents.var().item() == pytest.approx(1, abs=0.01)
    assert torch.allclose(codec.analysis @ codec.synthesis, torch.eye(12), atol=1e-5)


def test_the_codec_loses_nothing_with_as_many_components_as_pixels() -> None:
    shown = clips(sample(TRAINING, 100, 0))
    codec = PatchCodec.fit(shown, components=192, patch_time=1)
    assert torch.allclose(codec.decode(codec.encode(shown)), shown, atol=1e-3)
