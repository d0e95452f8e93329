"""The most memory that some work needs at once."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree
from torch.utils._python_dispatch import TorchDispatchMode

CUDA = "CUDA: the most that the allocator had handed out, weights included"
CPU = "CPU: the most bytes of tensors that the run made and that were alive at once, without the weights"


class PeakTensors(TorchDispatchMode):
    """Within its block: the most bytes of tensors made here that were alive at once.

    Counts what operations return, each storage once; what was there before, such as weights, and scratch memory inside
    of an operation do not count. Slows the work down, so measure time elsewhere.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in _tensors((args, kwargs)):
            self._meet(tensor, new=False)
        outputs = func(*args, **(kwargs or {}))
        for tensor in _tensors(outputs):
            self._meet(tensor, new=True)
        self.peak = max(self.peak, self.live)
        return outputs

    def _meet(self, tensor: torch.Tensor, *, new: bool) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes() if new else 0
        self._known[key] = size
        self.live += size
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.live -= self._known.pop(key)


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in _pytree.tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def cuda_gauge() -> Callable[[], int] | None:
    """Tells the most bytes that the CUDA allocator handed out since; None without CUDA."""
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return None
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.max_memory_allocated
