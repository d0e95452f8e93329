"""The lab as a source of training."""

from __future__ import annotations

import torch

from disca.lab.source import LabSource
from disca.training.clips import Draw


def test_clips_come_with_what_the_pipeline_makes_of_their_prompts() -> None:
    source = LabSource()
    pipe = source.pipeline("student", 0)
    texts, latents = source.batch(5, Draw.seeded(3).generator)
    clips = source.clips(5, Draw.seeded(3))
    assert torch.equal(clips.latents, latents)
    for given, prompts in ((clips.prompt, texts), (clips.empty, [""] * 5)):
        with torch.no_grad():
            encoded = pipe.encode_prompt(prompts)
        assert given.keys() == encoded.keys()
        assert all(torch.allclose(given[name], encoded[name], atol=1e-6) for name in encoded)


def test_what_a_prompt_becomes_does_not_depend_on_who_was_drawn_before() -> None:
    source, other = LabSource(), LabSource()
    for one in (source, other):
        one.pipeline("student", 0)
    source.clips(3, Draw.seeded(1))
    late, first = source.clips(4, Draw.seeded(2)), other.clips(4, Draw.seeded(2))
    assert all(torch.equal(late.prompt[name], first.prompt[name]) for name in first.prompt)


def test_another_pipeline_encodes_anew() -> None:
    source = LabSource()
    source.pipeline("student", 0)
    before = source.clips(2, Draw.seeded(1))
    source.pipeline("", 0)  # drawn at random
    after = source.clips(2, Draw.seeded(1))
    assert not torch.equal(before.prompt["encoder_hidden_states"], after.prompt["encoder_hidden_states"])


def test_drawing_clips_leaves_the_pipeline_where_it_is() -> None:
    """A training on a GPU drew clips with the pipeline's own codec on the CPU, and could not decode afterwards."""
    source = LabSource()
    pipe = source.pipeline("student", 0)
    pipe.codec.to("meta")
    _, latents = source.batch(2, Draw.seeded(0).generator)
    assert latents.device.type == "cpu" and pipe.codec.device.type == "meta"
