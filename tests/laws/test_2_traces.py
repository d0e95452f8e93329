"""Law 2: attach then detach leaves module tree, parameters, state-dict keys and instance ``__dict__``s as they were,
also after an exception."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn


def portrait(model: nn.Module) -> dict[str, Any]:
    """All that attaching must not change, by identity where there is one."""
    modules = dict(model.named_modules())
    kept = ("_modules", "_parameters", "_buffers")
    return {
        "modules": [(name, id(module)) for name, module in modules.items()],
        "keys": list(model.state_dict()),
        "attributes": {name: {key: id(value) for key, value in vars(m).items()} for name, m in modules.items()},
        "children": {name: [list(vars(m)[key].items()) for key in kept] for name, m in modules.items()},
    }


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two portraits show one model; tensors among the children are told apart by what they are, not hold."""
    plain = [
        {**p, "children": {n: [[(k, id(v)) for k, v in d] for d in ds] for n, ds in p["children"].items()}}
        for p in (one, other)
    ]
    return plain[0] == plain[1]


@pytest.fixture(autouse=True)
def sampled_before(host: Any) -> None:
    """Some hosts keep tables from their first call on, which is their own affair."""
    host.sample()


def test_detaching_leaves_no_trace(host: Any, method: Any) -> None:
    before = portrait(host.models)
    with host.attach(method(every=2)):
        host.sample()
    assert same(portrait(host.models), before)
    plain = host.sample()
    with host.attach(method(every=2)):
        host.sample()
    assert torch.equal(host.sample(), plain)


def test_state_dict_and_parameters_are_the_same_while_attached(host: Any, method: Any) -> None:
    keys, parameters = list(host.models.state_dict()), list(host.models.parameters())
    modules = [name for name, _ in host.models.named_modules()]
    with host.attach(method(every=2)):
        assert list(host.models.state_dict()) == keys
        assert [name for name, _ in host.models.named_modules()] == modules
        assert all(a is b for a, b in zip(host.models.parameters(), parameters, strict=True))


def test_an_exception_leaves_no_trace(host: Any, method: Any) -> None:
    before = portrait(host.models)
    with pytest.raises(RuntimeError, match="out of luck"), host.attach(method(every=2)):
        host.sample()
        raise RuntimeError("out of luck")
    assert same(portrait(host.models), before)


def test_a_failure_within_a_block_leaves_no_trace(host: Any, method: Any) -> None:
    host.blocks(0)[-1].register_forward_pre_hook(lambda *_: 1 / 0)
    before = portrait(host.models)
    with pytest.raises(ZeroDivisionError), host.attach(method(every=2)):
        host.sample()
    assert same(portrait(host.models), before)


def test_a_refused_attachment_leaves_no_trace(host: Any, method: Any) -> None:
    with host.attach(method(every=2)):
        before = portrait(host.models)
        with pytest.raises(ValueError, match=f"attached to this {type(host.transformer).__name__} already"):
            host.attach(method(every=2))
        assert same(portrait(host.models), before)
