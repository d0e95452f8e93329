"""The only file that assigns to a live module. What it does to a model, it undoes without a trace.

It lives inside diffusers' hook registry, so it stacks with the offloading and parallel hooks found there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, wraps
from inspect import signature
from typing import Any, ParamSpec, Protocol, TypeVar

import torch
from diffusers.hooks.hooks import HookRegistry, ModelHook, StateManager
from torch import nn
from torch.compiler import is_dynamo_compiling

P = ParamSpec("P")
T = TypeVar("T")


def untraced(function: Callable[P, T]) -> Callable[P, T]:
    """Outside of compiled graphs, and at no cost where nothing is compiled: `torch.compiler.disable` takes longer than
    what it is used on here."""
    disabled = torch.compiler.disable(function)

    @wraps(function)
    def either(*args: P.args, **kwargs: P.kwargs) -> T:
        return disabled(*args, **kwargs) if is_dynamo_compiling() else function(*args, **kwargs)

    return either


def install(module: nn.Module, hook: ModelHook, name: str) -> None:
    """Register ``hook`` on ``module``, outside of the hooks it has.

    Raises:
        ValueError: the module has a hook of that name.
    """
    ours = _registry(module) is None
    registry = HookRegistry.check_if_exists_or_initialize(module)
    if ours:
        registry.made_by_disca = True
    registry.register_hook(hook, name)


def remove(module: nn.Module, name: str) -> None:
    """Take the hook away again, and with the last hook what the registry leaves behind in the module's ``__dict__``."""
    registry = _registry(module)
    if registry is None or registry.get_hook(name) is None:
        return
    registry.remove_hook(name, recurse=False)
    if registry.hooks:
        return
    if getattr(module.__dict__.get("forward"), "__func__", None) is type(module).forward:
        del module.forward  # the class has it
    if getattr(registry, "made_by_disca", False):
        del module._diffusers_hook


def is_installed(module: nn.Module, name: str) -> bool:
    """Whether the module has a hook of that name."""
    return find(module, name) is not None


def find(module: nn.Module, name: str) -> ModelHook | None:
    """The module's hook of that name."""
    registry = _registry(module)
    return None if registry is None else registry.get_hook(name)


def _registry(module: nn.Module) -> HookRegistry | None:
    return vars(module).get("_diffusers_hook")  # getattr is slow where it fails


def add_child(module: nn.Module, name: str, child: nn.Module) -> None:
    """Make ``child`` a part of the module for good.

    Raises:
        ValueError: the module has something of that name.
    """
    if hasattr(module, name):
        raise ValueError(f"{type(module).__name__} has a {name} already.")
    module.add_module(name, child)


def remove_child(module: nn.Module, name: str) -> None:
    """Take back what :func:`add_child` made a part of the module."""
    delattr(module, name)


def listen(module: nn.Module, hear: Callable[[Mapping[str, Any]], None]) -> Callable[[], None]:
    """Let ``hear`` know the arguments of each call, by name; returns what undoes it."""
    named = signature(type(module).forward)

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hear(named.bind_partial(module, *args, **kwargs).arguments)

    return module.register_forward_pre_hook(before, with_kwargs=True).remove


def named_arguments(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a call of a module, by name."""
    return {**dict(zip(_names(type(module).forward), args, strict=False)), **kwargs}


class Observer(Protocol):
    """Who wants to know about each call of a transformer."""

    def before(self, arguments: Mapping[str, Any], branch: str | None) -> Mapping[str, Any]:
        """A call begins, with these arguments by name, in the branch that ``cache_context`` names. What it returns the
        transformer is given besides, or instead."""
        ...

    def after(self) -> None:
        """The call is done. It does not come when the call raised."""
        ...

    def reset(self) -> None:
        """The pipeline is done."""
        ...


@lru_cache(maxsize=64)
def _names(forward: Callable[..., Any]) -> tuple[str, ...]:
    """Parameters of a bound ``forward``, by whatever it is bound."""
    names = tuple(signature(forward).parameters)
    return names[1:] if names[:1] == ("self",) else names


class Branch(StateManager):
    """The name that ``cache_context`` gives to the calls inside of it. diffusers looks for attributes of this type."""

    def __init__(self) -> None:
        super().__init__(object)
        self.name: str | None = None

    def set_context(self, context: Any) -> None:
        self.name = getattr(context, "name", context)

    def reset(self, *args: Any, **kwargs: Any) -> None:
        self.name = None


class Watch(ModelHook):
    """Tells an observer about each call of a transformer."""

    _is_stateful = True

    def __init__(self, observer: Observer) -> None:
        super().__init__()
        self.observer = observer
        self.branch = Branch()
        self.names: tuple[str, ...] = ()

    def initialize_hook(self, module: nn.Module) -> nn.Module:
        self.names = _names(getattr(module.forward, "__func__", module.forward))
        return module

    @untraced
    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        placed = dict(zip(self.names, args, strict=False)) if args else {}
        given = self.observer.before({**placed, **kwargs} if placed else kwargs, self.branch.name)
        if not given:
            return args, kwargs
        named = {name: value for name, value in given.items() if name not in placed}
        return tuple({**placed, **given}[name] for name in placed), {**kwargs, **named}

    @untraced
    def post_forward(self, module: nn.Module, output: Any) -> Any:
        self.observer.after()
        return output

    def reset_state(self, module: nn.Module) -> nn.Module:
        self.branch.reset()
        self.observer.reset()
        return module


SPLITS = "cp_input---"
"""How the names of diffusers' hooks begin that split a module's inputs between ranks."""


class Splits:
    """The hooks that split the inputs of a host's first block between ranks, lifted off it: whoever stands in for the
    block, or runs it, splits instead, so that both see the same shard."""

    def __init__(self, block: nn.Module) -> None:
        self.block = block
        self.hooks: dict[str, ModelHook] = {}

    def lift(self) -> None:
        """Take them off the block."""
        registry = _registry(self.block)
        for name in splits_of(self.block):
            assert registry is not None
            self.hooks[name] = registry.hooks[name]
            registry.remove_hook(name, recurse=False)

    def put_back(self) -> None:
        """Give them back to the block."""
        registry = _registry(self.block)
        while self.hooks:
            assert registry is not None
            name, hook = self.hooks.popitem()
            registry.register_hook(hook, name)

    def check(self) -> None:
        """Raise RuntimeError where the block was told to split after the hooks were lifted."""
        if splits_of(self.block):
            raise RuntimeError(
                "Context parallelism was enabled while a policy is attached. Enable it before attaching."
            )

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The block's arguments, as this rank is to see them."""
        for hook in reversed(self.hooks.values()):
            args, kwargs = hook.pre_forward(self.block, *args, **kwargs)
        return args, kwargs


def splits_of(block: nn.Module) -> list[str]:
    """Names of the hooks that split a module's inputs between ranks."""
    registry = _registry(block)
    return [] if registry is None else [name for name in registry.hooks if name.startswith(SPLITS)]


_ATTENTION = ("_attention_backend", "_parallel_config")


def share_attention(host: nn.Module, network: nn.Module) -> Callable[[], None]:
    """Let the attention of ``network`` run as the host's does, by the same kernel and over the same ranks; returns what
    undoes it."""
    settings = next(_processors(host), None)
    before = [
        (processor, {name: getattr(processor, name) for name in _ATTENTION}) for processor in _processors(network)
    ]
    for processor, _ in before if settings else ():
        for name in _ATTENTION:
            setattr(processor, name, getattr(settings, name))

    def undo() -> None:
        for one, values in before:
            for name, value in values.items():
                setattr(one, name, value)

    return undo


def _processors(network: nn.Module) -> Iterator[Any]:
    """Attention processors of diffusers that can be told which kernel and which ranks."""
    for module in network.modules():
        processor = vars(module).get("processor") or module._modules.get("processor")  # getattr is slow where it fails
        if processor is not None and all(hasattr(processor, name) for name in _ATTENTION):
            yield processor


class HeldStack(nn.ModuleList):
    """A stack of blocks that runs something else in place of some of them.

    It has the blocks under their own names, so parameters, state-dict keys, devices, adapters and compilation are what
    they were; only iterating over it, which is how a host runs its blocks, gives the stand-ins.
    """

    def __init__(self, blocks: Iterable[nn.Module] = ()) -> None:
        super().__init__(blocks)
        self.stand_ins: list[Mapping[int, Callable[..., Any] | None]] = []
        self.all_held: list[Callable[..., Any]] | None = None
        self.original: tuple[nn.ModuleList, ...] = ()  # in a tuple, so that it is no child

    def __iter__(self) -> Iterator[Any]:
        if self.all_held is not None:
            return iter(self.all_held)
        runs: dict[int, Any] = dict(enumerate(self._modules.values()))
        for stand_ins in self.stand_ins:
            runs |= stand_ins
        return iter([run for run in runs.values() if run is not None])

    def settle(self) -> None:
        """Others stand in from here on."""
        held = {index: run for stand_ins in self.stand_ins for index, run in stand_ins.items()}
        in_order = [held[index] for index in sorted(held)]
        everything = len(held) == len(self._modules)
        self.all_held = [run for run in in_order if run is not None] if everything else None


def hold(host: nn.Module, stack: str, stand_ins: Mapping[int, Callable[..., Any] | None]) -> None:
    """Let ``stand_ins`` run in place of the blocks of these indices in ``host.stack``; None runs nothing there.

    Raises:
        ValueError: one of the blocks is held already.
    """
    held = getattr(host, stack)
    if not isinstance(held, HeldStack):
        held = _held(held)
        setattr(host, stack, held)
    if any(index in others for others in held.stand_ins for index in stand_ins):
        raise ValueError(
            f"Blocks of {type(host).__name__}.{stack} are held already: by another run, which is to be detached first, "
            "or by another rule of the policy."
        )
    held.stand_ins.append(stand_ins)
    held.settle()


def _held(original: nn.ModuleList) -> HeldStack:
    held = HeldStack.__new__(HeldStack)
    # Its blocks are shared, so that one replaced while held stays replaced.
    vars(held).update(vars(original), stand_ins=[], all_held=None, original=(original,))
    return held


def let_go(host: nn.Module, stack: str) -> None:
    """Take back the last :func:`hold`."""
    held = getattr(host, stack)
    if not isinstance(held, HeldStack):
        return
    held.stand_ins.pop()
    held.settle()
    if not held.stand_ins:
        (original,) = held.original
        original.training = held.training
        setattr(host, stack, original)


def original(host: nn.Module, stack: str) -> nn.ModuleList:
    """The stack itself, also while it is held."""
    held = getattr(host, stack)
    return held.original[0] if isinstance(held, HeldStack) else held


class StandIn(ModelHook):
    """Runs in place of a module: ``run(forward, args, kwargs)``, where ``forward`` is what the module would do."""

    def __init__(self, run: Callable[..., Any]) -> None:
        super().__init__()
        self.run = run

    @untraced
    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        return self.run(self.fn_ref.original_forward, args, kwargs)


def stand_in(module: nn.Module, run: Callable[..., Any], name: str) -> Callable[[], None]:
    """Let ``run(forward, args, kwargs)`` stand in for a module; returns what undoes it.

    Raises:
        ValueError: the module has a hook of that name.
    """
    install(module, StandIn(run), name)
    return lambda: remove(module, name)


def hear_output(module: nn.Module, hear: Callable[[Any], None]) -> Callable[[], None]:
    """Let ``hear`` know what each call gives; returns what undoes it."""
    return module.register_forward_hook(lambda module, args, output: hear(output)).remove


def ranks_of(module: nn.Module) -> Any:
    """Process group over which the tokens of a host, or of one of its blocks, are split by context parallelism."""
    for processor in _processors(module):
        config = getattr(processor._parallel_config, "context_parallel_config", None)
        return None if config is None else config._flattened_mesh.get_group()
    return None
