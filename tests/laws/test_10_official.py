"""Law 10: official files converted and converted back are unchanged; a missing, extra or misshapen key raises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from disca import official
from disca.meanflow.second_time import SecondTime
from tests.official.golden import Golden

LOADERS = {"dit": official.load_transformer, "predictor": official.load_predictor}


def test_an_official_file_converted_and_converted_back_is_unchanged(golden: Golden, part: str) -> None:
    there = golden.weights(part)
    back = official.export(LOADERS[part](golden.host(), there))
    assert set(back) == set(there)
    assert all(torch.equal(back[name], there[name]) for name in there)


def damaged(there: dict[str, Tensor]) -> dict[str, tuple[dict[str, Any], str]]:
    first, *_ = there
    return {
        "missing": ({k: v for k, v in there.items() if k != first}, f"missing: .*{first}"),
        "unexpected": (there | {"somebody.else": torch.zeros(1)}, "unexpected: somebody.else"),
        "misshapen": (there | {first: torch.zeros(3, 3)}, f"misshapen: {first} is \\[3, 3\\]"),
        "no tensors": ({"epoch": 3}, "tensors by name"),
    }


@pytest.mark.parametrize("kind", ["missing", "unexpected", "misshapen", "no tensors"])
def test_what_does_not_fit_is_named_and_nothing_is_loaded(golden: Golden, part: str, kind: str) -> None:
    given, message = damaged(golden.weights(part))[kind]
    host = golden.host()
    before = {name: value.clone() for name, value in host.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        LOADERS[part](host, given)
    after = host.state_dict()
    assert set(after) == set(before) and all(torch.equal(after[name], before[name]) for name in before)
    assert SecondTime.of(host) is None
