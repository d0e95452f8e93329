"""What docs/hosts.md and docs/new_host.md say of the hosts is so."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

import disca
from disca.adapters import ADAPTERS, adapter_for
from disca.caching.methods import METHODS, from_name
from disca.meanflow.second_time import SecondTime
from tests.methods import INSIDE, SOME
from tests.pipelines import PIPELINES

DOCS = Path(__file__).parents[1] / "docs"
PAGE, TUTORIAL = (DOCS / "hosts.md").read_text(), (DOCS / "new_host.md").read_text()
ROWS = {row[0]: row for row in re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) % \| (.*?) \|$", PAGE, re.MULTILINE)}


def test_every_family_and_every_pipeline_is_listed() -> None:
    assert set(ROWS) == set(ADAPTERS)
    listed = {name for _, pipelines, _, _ in ROWS.values() for name in re.findall(r"`(\w+Pipeline)`", pipelines)}
    assert listed == {name.partition("/")[0] for name in PIPELINES}


@pytest.mark.parametrize("name", ROWS)
def test_shares_and_second_times_are_those_of_full_size(name: str) -> None:
    _, _, share, second = ROWS[name]
    with torch.device("meta"):
        host = getattr(diffusers, name)()
        predictor = disca.Predictor.from_host(host)
        assert f"{100 * predictor.parameter_share(host):.1f}" == share
        if "hook" in second:
            SecondTime.for_host(host)
        else:
            with pytest.raises(ValueError, match=r"takes r itself|no flow|not sampled along a flow"):
                SecondTime.for_host(host)
    assert ("its own" in second) == (adapter_for(host).second_timestep is not None)


def test_the_family_of_one_s_own_works(monkeypatch: pytest.MonkeyPatch) -> None:
    known = dict(ADAPTERS)
    for module in ("disca.adapters", "disca.predictor.network"):
        monkeypatch.setattr(f"{module}.ADAPTERS", known)
    blocks = re.findall(r"```python\n(.*?)```", TUTORIAL, re.DOTALL)
    (example,) = [block for block in blocks if "# From here on" in block]
    assert len(example.partition("# From here on")[0].splitlines()) < 20
    scope: dict[str, Any] = {}
    with torch.random.fork_rng():
        exec(example, scope)
        host = scope["host"]
        at_first = SecondTime.for_host(host)
        before = host(hidden_states=torch.ones(1, 4, 8, 8), timestep=torch.tensor([500.0]), **scope["given"])[0]
        with at_first.attach(host), at_first.at(torch.tensor([0.5]), torch.tensor([0.2])):
            again = host(hidden_states=torch.ones(1, 4, 8, 8), timestep=torch.tensor([500.0]), **scope["given"])[0]
        assert torch.equal(before, again)
        policies = {name: from_name(name, **SOME[name]) for name in METHODS if name != "disca"}
        for name in policies.keys() - {"toca", "duca"}:
            assert 0 < forecasts(scope, policies[name]) < 4
        refused = pytest.raises(ValueError, match=r"no layers of the kinds .* describe them in Adapter\.sublayers")
        for name in ("toca", "duca"):
            with refused:
                forecasts(scope, policies[name])
        bare = replace(adapter_for(host), sublayers={})
        monkeypatch.setitem(known, bare.transformer, bare)
        for name in INSIDE:
            with refused:
                forecasts(scope, policies[name])


def forecasts(scope: dict[str, Any], policy: disca.Policy) -> int:
    """Steps of the example's run at which something is forecast."""
    host, timesteps = scope["host"], scope["timesteps"]
    with torch.no_grad(), disca.attach(host, policy, timesteps=timesteps) as run:
        for timestep in timesteps:
            host(hidden_states=torch.ones(1, 4, 8, 8), timestep=torch.tensor([timestep]), **scope["given"])
    return run.summary().forecasts


def test_compiled_blocks_are_what_the_page_says() -> None:
    """``tests/caching/test_composition.py`` sees whether it is so."""
    section = re.search(r"^## Compiled blocks\n(.*?)^## ", PAGE, re.DOTALL | re.MULTILINE)
    assert section is not None
    whole, inside, *_ = re.findall(r"\(((?:`\w+`,?\s*)+)\)", section[1])
    assert set(re.findall(r"`(\w+)`", whole)) | set(INSIDE) == set(METHODS)
    assert set(re.findall(r"`(\w+)`", inside)) == set(INSIDE)
