"""The lab's language."""

from __future__ import annotations

from itertools import product

import pytest

from disca.lab.words import COLOURS, DIGITS, EXAMPLE, HELD_OUT, MOTIONS, PROMPTS, TRAINING, parse, sample


def test_every_prompt_reads_back() -> None:
    assert [parse(str(prompt)) for prompt in PROMPTS] == list(PROMPTS)
    assert parse("Red  Seven drifting LEFT") == parse(EXAMPLE)


def test_a_fifth_is_reserved_and_every_pair_of_attributes_is_trained() -> None:
    assert len(HELD_OUT) * 5 == len(PROMPTS)
    assert not set(HELD_OUT) & set(TRAINING)
    trained = {(p.colour, p.digit) for p in TRAINING}, {(p.colour, p.motion) for p in TRAINING}
    assert trained[0] == set(product(range(len(COLOURS)), range(len(DIGITS))))
    assert trained[1] == set(product(range(len(COLOURS)), range(len(MOTIONS))))
    assert {(p.digit, p.motion) for p in TRAINING} == set(product(range(len(DIGITS)), range(len(MOTIONS))))


def test_an_unknown_word_is_named_beside_what_is_known() -> None:
    with pytest.raises(ValueError, match=r"'purple', 'elephant'.*colours \(red.*drifting left"):
        parse("a purple elephant drifting left")


@pytest.mark.parametrize("text", ["", "a red seven", "red red seven left", "a seven red drifting left", "standing up"])
def test_known_words_in_another_form_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=EXAMPLE):
        parse(text)


def test_sampling_is_seeded_and_even() -> None:
    chosen = sample(HELD_OUT, 2 * len(HELD_OUT), 3)
    assert chosen == sample(HELD_OUT, 2 * len(HELD_OUT), 3) != sample(HELD_OUT, 2 * len(HELD_OUT), 4)
    assert sorted(chosen) == sorted(2 * HELD_OUT)
