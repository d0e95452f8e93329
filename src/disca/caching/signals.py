"""What gates can read of a host beside the features: computed when asked, and nothing of the host is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

from torch import Tensor, nn

from disca.adapters import Adapter


def modulated_input(
    block: nn.Module, layers: Sequence[str], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Tensor:
    """What a block hands to its attention: the video tokens, normed and modulated with the time of now.

    A shallow copy of the block, which shares its norms, runs up to the first of ``layers`` and stops there.

    Raises:
        ValueError: the block handed nothing to any of them.
    """
    plain = block._modules.get("_orig_mod") or block
    probe = copy(plain)
    for name in ("forward", "_diffusers_hook"):
        probe.__dict__.pop(name, None)
    probe._modules = {**plain._modules, **{name: _Stop() for name in layers}}
    try:
        type(plain).forward(probe, *args, **kwargs)
    except _Reached as reached:
        return reached.tokens
    raise ValueError(f"{type(plain).__name__} reached none of {tuple(layers)}, so its modulated input is not known.")


class _Reached(Exception):
    def __init__(self, tokens: Tensor) -> None:
        self.tokens = tokens


class _Stop(nn.Module):
    """Stands for a layer, and goes no further than its input."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise _Reached(next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)))


class TimeEmbedding:
    """The output of the host's time embedder in the call under way."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.now: Tensor | None = None

    @classmethod
    def of(cls, host: nn.Module, adapter: Adapter) -> TimeEmbedding:
        """That of a host.

        Raises:
            ValueError: its adapter does not say where it is.
        """
        if adapter.time_embedder is None:
            raise ValueError(
                f"The adapter of {adapter.transformer} does not say which module embeds the time, so it cannot be "
                "read. Choose signal='modulated'."
            )
        return cls(host.get_submodule(adapter.time_embedder))

    def hear(self, output: Any) -> None:
        """The embedder was called."""
        self.now = output


def into_last(count: int) -> str:
    """The signal of what entered the last ``count`` blocks of a site at its last full step."""
    return f"into_last_{count}"


TAILS = {into_last(count): count for count in range(1, 5)}
"""Those signals, and their counts. They are known once the site was computed."""
