"""The training loop: one task, checkpoints that resume exactly, averaged weights, a log and a progress bar.

Iteration ``i`` draws everything random from a generator seeded with ``(seed, i)``, so a run that was interrupted
goes on as if it had not been. Several processes share a batch, each with draws of its own, and average their gradients.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from disca.objectives import Loss
from disca.provenance import hardware, versions
from disca.training.average import Average
from disca.training.recipe import Optimiser, Recipe

KEPT_CHECKPOINTS = 2


class Task(Protocol):
    """What a stage gives the loop."""

    modules: nn.ModuleDict
    """Trained modules; parameters that do not require a gradient are left alone."""

    def loss(self, generator: torch.Generator) -> Loss:
        """The loss of one batch, everything random drawn from ``generator``."""
        ...

    def validate(self, folder: Path) -> dict[str, float]:
        """Measures on fixed seeds; pictures go into ``folder``. The averaged weights are in place."""
        ...

    def export(self, folder: Path) -> None:
        """Write the result. The averaged weights are in place."""
        ...


class Loop:
    """Runs a task for a recipe inside an output folder; see :meth:`run`."""

    def __init__(self, recipe: Recipe, task: Task, output: Path) -> None:
        self.recipe, self.task, self.output = recipe, task, output
        self.parameters = [value for value in task.modules.parameters() if value.requires_grad]
        settings = recipe.optimiser
        self.optimiser = torch.optim.AdamW(
            self.parameters, lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay, fused=True
        )
        self.average = Average(task.modules, recipe.ema)
        self.processes = processes()
        self.iteration = 0

    def run(self) -> dict[str, float]:
        """Train to the last iteration, validate, export into ``output/final``; returns the last validation."""
        recipe = self.recipe
        measures: dict[str, float] = {}
        with _progress(shown=self.processes.is_main_process) as bar:
            line = bar.add_task(recipe.name, total=recipe.iterations, completed=self.iteration, shown="")
            while self.iteration < recipe.iterations:
                row = self._step()
                bar.update(line, advance=1, shown=f"mse {row['mse']:.4f}  {row['seconds']:.2f} s/it")
                if self.processes.is_main_process:
                    measures = self._look_after(row, bar) or measures
                self.processes.wait_for_everyone()
        if self.processes.is_main_process:
            measures = measures or self._validate()  # a finished run that is resumed
            with self.average.applied():
                self.task.export(self.output / "final")
        return measures

    def _look_after(self, row: dict[str, float], bar: Progress) -> dict[str, float]:
        """Log, validate and save as far as they are due; returns the validation, or nothing."""
        measures = {}
        if self._due(self.recipe.log_every):
            self._write(row)
        if self._due(self.recipe.validate_every):
            measures = self._validate()
            bar.console.print(f"{self.iteration}: " + "  ".join(f"{k} {v:.4f}" for k, v in measures.items()))
        if self._due(self.recipe.checkpoint_every):
            self.save()
        return measures

    def _due(self, every: int) -> bool:
        return self.iteration % every == 0 or self.iteration == self.recipe.iterations

    def _step(self) -> dict[str, float]:
        started = time.perf_counter()
        seed = self.recipe.seed * 1_000_003 + self.iteration
        seed = seed * self.processes.num_processes + self.processes.process_index
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)  # for layers that draw by themselves, such as dropout
        self.task.modules.train()
        loss = self.task.loss(generator)
        if not torch.isfinite(loss.value):
            raise ValueError(f"The loss is {loss.value.item()} at iteration {self.iteration}; lower optimiser.lr.")
        self.optimiser.zero_grad(set_to_none=True)
        loss.value.backward()
        mse = self._shared(loss.per_sample.mean())
        norm = nn.utils.clip_grad_norm_(self.parameters, self.recipe.optimiser.clip)
        lr = rate(self.recipe.optimiser, self.iteration, self.recipe.iterations)
        for group in self.optimiser.param_groups:
            group["lr"] = lr
        self.optimiser.step()
        self.average.update(self.iteration)
        self.iteration += 1
        return {
            "iteration": self.iteration,
            "mse": mse.item(),
            "gradient": norm.item(),
            "lr": lr,
            "seconds": time.perf_counter() - started,
        }

    def _shared(self, mse: Tensor) -> Tensor:
        """Average the gradients, and the error, over the processes."""
        if self.processes.num_processes == 1:
            return mse
        gradients = [value.grad for value in self.parameters if value.grad is not None]
        flat = reduce(torch.cat([mse.view(1), *(gradient.flatten() for gradient in gradients)]), "mean")
        for gradient, mean in zip(gradients, flat[1:].split([value.numel() for value in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))
        return flat[0]

    def _validate(self) -> dict[str, float]:
        self.task.modules.eval()
        # Validations have shapes of their own: compiling for each would take longer than they do.
        with self.average.applied(), torch.no_grad(), torch.compiler.set_stance("force_eager"):
            folder = self.output / "validation"
            folder.mkdir(exist_ok=True)
            measures = self.task.validate(folder / f"{self.iteration:06d}")
        self._write({"iteration": self.iteration, "validation": measures})
        return measures

    def _write(self, row: dict[str, Any]) -> None:
        with (self.output / "log.jsonl").open("a") as log:
            log.write(json.dumps(row) + "\n")

    def save(self) -> None:
        """Write a checkpoint, whole or not at all, and drop old ones."""
        target = self.output / "checkpoints" / f"{self.iteration:06d}"
        draft = target.with_suffix(".draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        save_file(_plain(self.task.modules.state_dict()), draft / "weights.safetensors")
        save_file(_plain(self.average.state_dict()), draft / "average.safetensors")
        save_file(_plain(dict(_flatten(self.optimiser.state_dict()["state"]))), draft / "optimiser.safetensors")
        about = {"processes": self.processes.num_processes, "versions": versions(), "hardware": hardware()}
        state = {"iteration": self.iteration, "recipe": self.recipe.as_dict(), **about}
        (draft / "state.json").write_text(json.dumps(state, indent=1))
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)
        for old in checkpoints(self.output)[:-KEPT_CHECKPOINTS]:
            shutil.rmtree(old)

    def resume(self) -> bool:
        """Continue from the newest checkpoint; False where there is none.

        Raises:
            ValueError: the checkpoint was made with another recipe.
        """
        found = checkpoints(self.output)
        if not found:
            return False
        state = json.loads((found[-1] / "state.json").read_text())
        asked = {**json.loads(json.dumps(self.recipe.as_dict())), "processes": self.processes.num_processes}
        _same_recipe({"processes": 1, **state, **state["recipe"]}, asked, found[-1])
        self.task.modules.load_state_dict(load_file(found[-1] / "weights.safetensors"), strict=True)
        self.average.load_state_dict(load_file(found[-1] / "average.safetensors"))
        flat = load_file(found[-1] / "optimiser.safetensors")
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": _unflatten(flat), "param_groups": groups})
        self.iteration = state["iteration"]
        if self.processes.is_main_process:
            self._forget_later_rows()
        return True

    def _forget_later_rows(self) -> None:
        log = self.output / "log.jsonl"
        rows = log.read_text().splitlines() if log.exists() else []
        kept = [row for row in rows if json.loads(row)["iteration"] <= self.iteration]
        log.write_text("".join(f"{row}\n" for row in kept))


def rate(settings: Optimiser, iteration: int, iterations: int) -> float:
    """Learning rate of an iteration."""
    if iteration < settings.warmup:
        return settings.lr * (iteration + 1) / settings.warmup
    start = max(settings.warmup, int(settings.hold * iterations))
    progress = max(0.0, (iteration - start) / max(1, iterations - start))
    return settings.lr * (settings.floor + (1 - settings.floor) * (1 + math.cos(math.pi * progress)) / 2)


def checkpoints(output: Path) -> list[Path]:
    """Finished checkpoints of a run, oldest first."""
    folders = (output / "checkpoints").glob("*/state.json")
    return sorted(state.parent for state in folders if state.parent.suffix != ".draft")


def _same_recipe(stored: dict[str, Any], asked: dict[str, Any], checkpoint: Path) -> None:
    differing = [key for key in asked if stored.get(key) != asked[key]]
    if differing:
        raise ValueError(
            f"{checkpoint} was made in another way: {', '.join(differing)} differ. "
            "Resume with the recipe and the number of processes it was made with, or train into another --output."
        )


def _plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().contiguous().clone() for name, value in state.items()}


def _flatten(state: dict[int, dict[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    for index, entries in state.items():
        for name, value in entries.items():
            yield f"{index}.{name}", value


def _unflatten(flat: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in flat.items():
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = value
    return state


def processes() -> PartialState:
    """The processes that train together: one, or those that ``accelerate launch`` or ``torchrun`` started."""
    return PartialState(cpu=not torch.cuda.is_available())


def _progress(*, shown: bool) -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[shown]}")
    return Progress(*columns, TimeRemainingColumn(), disable=not shown)
