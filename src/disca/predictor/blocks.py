"""Blocks of a host's own class, built from the host's configuration and called as the host would."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from inspect import BoundArguments, Parameter, Signature, signature
from typing import Any

from torch import Tensor, nn

from disca.adapters import Adapter
from disca.adapters.adapter import is_named
from disca.features import Features


def name_of(block: type[nn.Module]) -> str:
    """``module:Class``, as it is stored."""
    return f"{block.__module__}:{block.__qualname__}"


def import_block(name: str) -> type[nn.Module]:
    """The class stored as ``module:Class``.

    Raises:
        ValueError: there is none, or it is no module of torch.
    """
    module, _, qualname = name.partition(":")
    try:
        found = getattr(import_module(module), qualname)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"The predictor's blocks are of the class {name}, which cannot be imported: {error}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(f"The predictor's blocks are said to be of {name}, which is no torch module.")
    return found


def build_block(
    block: type[nn.Module], host_config: Mapping[str, Any], adapter: Adapter, *, last: bool = False
) -> nn.Module:
    """A block with the host's dimensions. Constructor and configuration call most things by the same names; the adapter
    knows the others.

    Raises:
        ValueError: the constructor needs something that the configuration does not have.
    """
    parameters = signature(block).parameters
    known = {**host_config, "width": adapter.widths(host_config)[0]}
    named = {name: adapter.block_arguments.get(name, name) for name in parameters}
    given = {name: known[theirs] for name, theirs in named.items() if theirs in known}
    given |= {name: value for name, value in adapter.last_block.items() if last and name in parameters}
    missing = [name for name, p in parameters.items() if p.default is Parameter.empty and name not in given]
    if missing:
        raise ValueError(
            f"{block.__name__} needs {', '.join(missing)}, which the host's configuration does not have. Say in the "
            f"adapter what it is called there: block_arguments={{{missing[0]!r}: ...}}."
        )
    return block(**given)


def copy_block(copy: nn.Module, original: nn.Module) -> None:
    """Give a new block the weights of a host's; those that are quantised are rounded, not quantised, in the copy.

    Raises:
        ValueError: the host's block has other weights than its class gives it, such as an adapter's.
    """
    state = {name: _dequantised(value) for name, value in original.state_dict().items()}
    try:
        copy.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(
            f"The host's {type(original).__name__} cannot be copied: {error}. Take adapters off or fuse them first, or "
            "start the predictor with init='random'."
        ) from error


def _dequantised(value: Tensor) -> Tensor:
    return value if type(value) is Tensor else value.dequantize()


def conditioning_names(block: type[nn.Module], adapter: Adapter) -> list[str]:
    """Parameters of a block's forward but its features, in order."""
    named = (p.name for p in _signature(block.forward).parameters.values() if is_named(p))
    return [name for name in named if name not in (adapter.hidden, adapter.context)]


def translation(theirs: Sequence[str], block: type[nn.Module], adapter: Adapter) -> dict[str, str]:
    """From the names in ``theirs``, of the host's first block, to those of a block of another kind. All blocks of a
    family take the same things in the same order but not always under the same names: rotary embeddings are
    ``freqs_cis`` to one kind of HunyuanVideo's blocks and ``image_rotary_emb`` to the other.

    Raises:
        ValueError: the blocks take different numbers of things.
    """
    ours = conditioning_names(block, adapter)
    if len(ours) != len(theirs):
        raise ValueError(f"{block.__name__} takes {ours}, but the host's first block is given {list(theirs)}.")
    return dict(zip(theirs, ours, strict=True))


def run_block(block: nn.Module, adapter: Adapter, features: Features, arguments: Mapping[str, Any]) -> Features:
    """What a block makes of ``features`` and the further ``arguments`` of its forward, by name."""
    names = (adapter.hidden,) if adapter.context is None else (adapter.hidden, adapter.context)
    given = OrderedDict(zip(names, features, strict=True), **arguments)
    bound = BoundArguments(_signature(type(block).forward), given)
    return adapter.features(block(*bound.args, **bound.kwargs))


@lru_cache(maxsize=64)
def _signature(forward: Callable[..., Any]) -> Signature:
    whole = signature(forward)
    return whole.replace(parameters=list(whole.parameters.values())[1:])
