"""Several processes as one: copies of everything (DDP), or each with a part of the transformers (FSDP2).

The processes are those that ``accelerate launch`` or ``torchrun`` started, on one machine or many. Under FSDP2 a task's
transformers, their frozen teachers included, are sharded block by block, and the averages with them; a predictor and a
discriminator stay whole on every process, and their gradients are averaged as under DDP. Inputs are never cast: times
would be rounded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from accelerate import PartialState
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from disca.adapters import adapter_for
from disca.objectives import Loss
from disca.training.clips import Draw
from disca.training.recipe import Recipe


def processes() -> PartialState:
    """The processes that train together: one, or those that a launcher started."""
    return PartialState(cpu=not torch.cuda.is_available())


class Losses:
    """A task's loss as the engine wants it called, and when gradients are averaged over the processes."""

    def __init__(self, task: Any, recipe: Recipe) -> None:
        self._recipe = recipe
        self._sharded: tuple[Any, ...] = ()
        together = processes()
        if together.num_processes > 1 and recipe.engine == "fsdp":
            self._sharded = tuple(getattr(task, "sharded", ()))
            for module in self._sharded:
                shard(module, torch.bfloat16 if recipe.dtype == "bfloat16" else None, together.device.type)
        self._through: nn.Module = _Through(task)
        self._replicated = together.num_processes > 1 and any(True for _ in _plain(self._through))
        if self._replicated:
            # Blocks may give the last of their outputs to nobody, so some parameters may go unused.
            self._through = DistributedDataParallel(self._through, find_unused_parameters=True)

    def __call__(self, draw: Draw, *, last: bool) -> Loss:
        """The loss of one micro-batch, to be followed by its ``backward``; ``last`` says whether gradients are averaged
        over the processes then."""
        for module in self._sharded:
            module.set_requires_gradient_sync(last)
        device = processes().device.type
        # Weights cast without a gradient, for a target, must not serve the pass that wants one: no cache of casts.
        with torch.autocast(device, torch.bfloat16, self._recipe.dtype == "bfloat16", cache_enabled=False):
            if self._replicated and not last:
                with self._through.no_sync():  # type: ignore[operator]
                    return Loss(*self._through(draw))
            return Loss(*self._through(draw))


class _Through(nn.Module):
    """Computes the loss inside a forward, which is where DDP prepares for the backward pass."""

    def __init__(self, task: Any) -> None:
        super().__init__()
        self.trained = task.modules
        self.critic = getattr(task, "critic", None)
        self._loss = task.loss
        # What is sharded averages its own gradients.
        self._ddp_params_and_buffers_to_ignore = [
            name for name, value in self.named_parameters() if isinstance(value, DTensor)
        ]

    def forward(self, draw: Draw) -> tuple[Tensor, Tensor, dict[str, Tensor], dict[str, Tensor]]:
        loss = self._loss(draw)
        return loss.value, loss.per_sample, dict(loss.by), dict(loss.measures)


def _plain(module: nn.Module) -> Iterator[nn.Parameter]:
    return (value for value in module.parameters() if value.requires_grad and not isinstance(value, DTensor))


def shard(module: nn.Module, dtype: torch.dtype | None = None, device: str = "cpu") -> None:
    """Shard a transformer over all processes, block by block, or a smaller module as a whole, in place.

    ``dtype`` is what it computes in; parameters, and sums of gradients, keep their own.
    """
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh(device, (dist.get_world_size(),))
    policy = MixedPrecisionPolicy(
        param_dtype=dtype, reduce_dtype=None if dtype is None else torch.float32, cast_forward_inputs=False
    )
    options: dict[str, Any] = {"mesh": mesh, "mp_policy": policy}
    for block in _blocks(module):
        fully_shard(block, reshard_after_forward=True, **options)
    # A trained module is in parts outside of its passes, to be averaged and saved. A frozen one's embedders stay whole:
    # gradients reach them from features in the middle, which no hook of the engine would announce.
    trained = any(value.requires_grad for value in module.parameters())
    fully_shard(module, reshard_after_forward=trained, **options)


def _blocks(module: nn.Module) -> list[nn.Module]:
    try:
        return adapter_for(module).blocks(module)
    except ValueError:
        return []


def is_sharded(module: nn.Module) -> bool:
    """Whether each process holds a part of the module."""
    return isinstance(module, FSDPModule)


def local(value: Tensor) -> Tensor:
    """The part of a tensor that this process holds."""
    return value.to_local() if isinstance(value, DTensor) else value


def whole(module: Any) -> Any:
    """The module in one piece, to be saved; every process must ask. What is not sharded is itself.

    The copy lies on the CPU.
    """
    if not is_sharded(module):
        return module
    state = {
        name: value.full_tensor().cpu() if isinstance(value, DTensor) else value.cpu()
        for name, value in module.state_dict().items()
    }
    own = next(cls for cls in type(module).__mro__ if not issubclass(cls, FSDPModule))
    copy = own.from_config(module.config)  # type: ignore[attr-defined]
    for name, config in getattr(module, "peft_config", {}).items():
        copy.add_adapter(config, adapter_name=name)
    copy.load_state_dict(state)
    return copy


def clip(parameters: list[nn.Parameter], most: float) -> float:
    """Scale gradients down to a norm of at most ``most``, over all processes; returns the norm before."""
    norm = nn.utils.clip_grad_norm_(parameters, most)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def mean(values: Mapping[str, float]) -> dict[str, float]:
    """The mean of each value over the processes."""
    return dict(zip(values, _reduced(values.values(), dist.ReduceOp.SUM, processes().num_processes), strict=True))


def highest(value: float) -> float:
    """The largest of the processes' values, on which all of them act."""
    return _reduced([value], dist.ReduceOp.MAX, 1)[0]


def _reduced(values: Iterable[float], op: Any, divisor: int) -> list[float]:
    together = processes()
    if together.num_processes == 1:
        return list(values)
    device = together.device
    tensor = torch.tensor(list(values), dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)
    dist.all_reduce(tensor, op)
    return (tensor / divisor).tolist()


@contextmanager
def taking_turns(task: Any) -> Iterator[bool]:
    """Whether this process looks at a result: all do together where something is sharded, else the first for all."""
    together = processes()
    yield together.is_main_process or any(is_sharded(module) for module in getattr(task, "sharded", ()))
    together.wait_for_everyone()


def share(batch: int, microbatch: int) -> tuple[int, int]:
    """Size of a micro-batch, and how many each process computes for one batch.

    Raises:
        ValueError: the processes cannot share them evenly.
    """
    count = processes().num_processes
    size = microbatch or batch // count
    if not size or batch % (size * count):
        micro = f" in micro-batches of {microbatch}" if microbatch else ""
        raise ValueError(
            f"A batch of {batch}{micro} cannot be shared evenly by {count} processes. Choose a batch that is a "
            f"multiple of {math.lcm(max(size, 1), count)}, or another number of processes."
        )
    return size, batch // (size * count)
