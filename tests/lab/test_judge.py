"""The packaged judge, on scans that nobody trained on."""

from __future__ import annotations

import torch

from disca.lab import weights
from disca.lab.codec import PatchCodec
from disca.lab.judge import ATTRIBUTES, accuracy
from disca.lab.words import COLOURS, DIGITS, HELD_OUT, MOTIONS, Prompt, sample
from disca.lab.world import World

WORLD = World()


def test_it_reads_real_held_out_clips() -> None:
    found = accuracy(weights.judge(), WORLD, split="test", clips=420, seed=5)
    assert all(found[name] >= 0.97 for name in ATTRIBUTES), found


def test_it_reads_clips_through_the_codec() -> None:
    prompts = sample(HELD_OUT, 84, 0)
    clips = WORLD.clips(prompts, torch.Generator().manual_seed(0), split="test")
    codec = PatchCodec.fit(WORLD.clips(prompts, torch.Generator().manual_seed(1)), components=32)
    right = weights.judge().read(codec.decode(codec.encode(clips))).right(prompts)
    assert right["all"].float().mean() >= 0.95


def test_it_does_not_read_what_is_not_there() -> None:
    """Each attribute is read by itself: a wrong prompt is noticed in the attribute that is wrong, and in no other."""
    shown = [Prompt(colour=c, digit=c, motion=c) for c in range(len(COLOURS))]
    clips = WORLD.clips(shown, torch.Generator().manual_seed(0), split="judge")
    verdict = weights.judge().read(clips)
    for changed, count in (("digit", len(DIGITS)), ("colour", len(COLOURS)), ("motion", len(MOTIONS))):
        claimed = [Prompt(**{**vars(p), changed: (getattr(p, changed) + 1) % count}) for p in shown]
        right = verdict.right(claimed)
        assert {name: int(right[name].sum()) for name in ATTRIBUTES} == {
            name: 0 if name == changed else len(shown) for name in ATTRIBUTES
        }
        assert not right["all"].any()


def test_amplitude_is_the_way_in_pixels() -> None:
    moving = [Prompt(colour=5, digit=1, motion=MOTIONS.index("drifting up"))]
    still = [Prompt(colour=5, digit=1, motion=MOTIONS.index("standing still"))]
    clips = WORLD.clips(moving + still, torch.Generator().manual_seed(0))
    amplitude = weights.judge().read(clips).amplitude
    assert abs(amplitude[0] - WORLD.travel) < 0.5 and amplitude[1] < 0.2
