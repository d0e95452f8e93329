"""Checkpoints: written beside and renamed, so that a run that dies at any moment has a whole one to go on from."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from disca.files import write_text_atomic
from disca.training.shard import highest, local, processes

STATE = "state.json"


def checkpoints(output: Path) -> list[Path]:
    """Finished checkpoints of a run, oldest first."""
    folders = (output / "checkpoints").glob(f"*/{STATE}")
    return sorted(state.parent for state in folders if not state.parent.suffix)  # .draft, .old


def save(output: Path, iteration: int, tensors: Mapping[str, Mapping[str, Tensor]], about: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all. All processes call it; each writes the parts that it holds alone.

    Raises:
        OSError: it cannot be written, on this process or on another; what was there before is intact.
    """
    together = processes()
    target = output / "checkpoints" / f"{iteration:06d}"
    draft = target.with_suffix(".draft")
    error: Exception | None = None
    try:
        if together.is_main_process:
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
        together.wait_for_everyone()
        for name, state in tensors.items():
            mine = _mine(state)
            if mine or together.is_main_process:
                save_file(mine, draft / _file(name, together.process_index))
        if together.is_main_process:
            write_text_atomic(draft / STATE, json.dumps(about, indent=1) + "\n")
    except (OSError, SafetensorError) as failure:
        error = failure
    failed = _anywhere(error is not None)
    if together.is_main_process and not failed:
        if target.exists():
            target.rename(target.with_suffix(".old"))
        draft.rename(target)
        shutil.rmtree(target.with_suffix(".old"), ignore_errors=True)
    elif together.is_main_process:
        shutil.rmtree(draft, ignore_errors=True)
    together.wait_for_everyone()
    if failed:
        raise OSError(errno.ENOSPC, _refused(output, error)) from error


def drop_old(output: Path, keep: int) -> None:
    """Delete all but the newest checkpoints."""
    for old in checkpoints(output)[:-keep]:
        (old / STATE).unlink()  # first, so that half of a checkpoint is none
        shutil.rmtree(old, ignore_errors=True)


def load(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Read a checkpoint into tensors of the same names, in place.

    Raises:
        ValueError: files that are missing or damaged, or that hold other tensors.
    """
    index = processes().process_index
    for name, state in tensors.items():
        stored = _read(folder, name, 0)
        other = set(stored) ^ set(state)
        stored |= _read(folder, name, index) if index else {}
        if other:
            raise ValueError(f"{folder}: {name} holds other tensors than the run: {sorted(other)[:5]}.")
        with torch.no_grad():
            for key, value in state.items():
                local(value).copy_(stored[key])


def optimiser_state(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What an optimiser remembers, by the place of the parameter and the name."""
    return dict(_flat(optimiser))


def prepare(optimiser: torch.optim.Optimizer, folder: Path) -> None:
    """Give a fresh AdamW the tensors that it remembered in a checkpoint, to be read into. Parameters that have never
    had a gradient have none."""
    stepped = {int(name.partition(".")[0]) for name in _read(folder, "optimiser", 0)}
    for index, (parameter, fused) in enumerate(_parameters(optimiser)):
        if index in stepped:
            optimiser.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device if fused else "cpu"),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }


def _parameters(optimiser: torch.optim.Optimizer) -> Iterator[tuple[torch.nn.Parameter, bool]]:
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            yield parameter, bool(group.get("fused"))


def _flat(optimiser: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    for index, (parameter, _) in enumerate(_parameters(optimiser)):
        for name, value in optimiser.state.get(parameter, {}).items():
            yield f"{index}.{name}", value


def _mine(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The first process keeps everything, the others only their parts of what is sharded."""
    first = processes().is_main_process
    held = {name: value for name, value in state.items() if first or isinstance(value, DTensor)}
    return {name: local(value.detach()).contiguous().clone() for name, value in held.items()}


def _file(name: str, index: int) -> str:
    return f"{name}.safetensors" if index == 0 else f"{name}-{index:05d}.safetensors"


def _read(folder: Path, name: str, index: int) -> dict[str, Tensor]:
    path = folder / _file(name, index)
    if index and not path.exists():
        return {}
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"{path} is damaged or missing: {error}. Delete the folder {folder.name} and resume from the one before."
        ) from error


def _anywhere(failed: bool) -> bool:
    return bool(highest(float(failed)))


def _refused(output: Path, error: Exception | None) -> str:
    free = shutil.disk_usage(output).free / 2**20
    last = checkpoints(output)
    kept = f"The last good one, {last[-1]}, is intact" if last else "There is none yet"
    return (
        f"A checkpoint could not be written into {output / 'checkpoints'} ({error or 'another process failed'}); "
        f"{free:.0f} MiB are free there. {kept}. Free some space, or keep fewer (keep=1)"
    )
