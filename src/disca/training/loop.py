"""The training loop: one task, checkpoints that resume exactly, averaged weights, a log and a progress bar.

Micro-batch ``n`` of a run draws everything random from a generator seeded with ``(seed, n)``, so a run that was
interrupted goes on as if it had not been, and several processes compute what one would.
"""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import torch
from torch import nn

from disca.files import write_text_atomic
from disca.objectives import Loss
from disca.provenance import hardware, versions
from disca.training import saving, shard
from disca.training.average import Average
from disca.training.clips import Draw
from disca.training.log import Bins, Log, forget_rows, progress
from disca.training.recipe import BOOKKEEPING, Optimiser, Recipe
from disca.training.saving import checkpoints
from disca.training.shard import processes

SAVE, STOP = 1, 2
"""What the processes agree on after an iteration."""


class Task(Protocol):
    """What a stage gives the loop."""

    modules: nn.ModuleDict
    """Trained modules, averaged and exported; parameters that do not require a gradient are left alone."""

    # critic: nn.Module, where there is one, is trained by the same loss at its own rate.
    # sharded: tuple of nn.Module, where there are some, are split over the processes by FSDP2.

    def loss(self, draw: Draw) -> Loss:
        """The loss of one micro-batch, everything random drawn from ``draw``."""
        ...

    def validate(self, folder: Path) -> dict[str, float]:
        """Measures on fixed seeds; pictures go into ``folder``. The averaged weights are in place."""
        ...

    def export(self, folder: Path, whole: Callable[[nn.Module], nn.Module]) -> None:
        """Write the result. The averaged weights are in place; ``whole`` gives a module that may be sharded in one
        piece."""
        ...


class Stopped(SystemExit):
    """A run was told to stop (SIGTERM), and has saved what it had."""

    def __init__(self, where: Path) -> None:
        super().__init__(128 + signal.SIGTERM)
        print(f"Stopped by SIGTERM. Saved {where}; go on with --resume.", file=sys.stderr)


class Loop:
    """Runs a task for a recipe inside an output folder; see :meth:`run`."""

    def __init__(self, recipe: Recipe, task: Task, output: Path) -> None:
        self.recipe, self.task, self.output = recipe, task, output
        self.processes = processes()
        # For other devices too, torch.manual_seed notes down what it is to tell them, with a stack trace.
        alone = self.processes.device.type == "cpu"
        self.seed = torch.default_generator.manual_seed if alone else torch.manual_seed
        self.micro = shard.share(recipe.batch, recipe.microbatch)[1]
        self.losses = shard.Losses(task, recipe)
        self.critic: nn.Module | None = getattr(task, "critic", None)
        self.players = [(task.modules, recipe.optimiser)] + (
            [] if self.critic is None else [(self.critic, recipe.critic)]
        )
        self.optimiser = torch.optim.AdamW([_group(*player) for player in self.players], fused=True)
        self.average = Average(task.modules, recipe.ema)
        self.iteration = self.skipped = self.in_row = 0
        self.bins = Bins()
        self.log: Log | None = None
        self.saved_at = time.monotonic()
        self.told = 0

    def run(self) -> dict[str, float]:
        """Train to the last iteration, validate, export into ``output/final``; returns the last validation."""
        recipe, main = self.recipe, self.processes.is_main_process
        self.log = Log(recipe, self.output) if main else None
        measures: dict[str, float] | None = None
        with progress(shown=main) as bar, self._listening():
            line = bar.add_task(recipe.name, total=recipe.iterations, completed=self.iteration, shown="")
            while self.iteration < recipe.iterations:
                row = self._step()
                bar.update(line, advance=1, shown=f"mse {row['mse']:.4f}  {1 / row['seconds']:.2f} it/s")
                measures = self._look_after(row, bar)
        if measures is None:  # a finished run that is resumed
            measures = self._validate()
        self._export()
        if self.log is not None:
            self.log.close()
        return measures

    def _look_after(self, row: dict[str, Any], bar: Any) -> dict[str, float] | None:
        """Log, validate and save as far as they are due; returns the validation, if it was."""
        measures, recipe = None, self.recipe
        if self.log is not None and ("skipped" in row or self._due(recipe.log_every)):
            self.log.write({**row, **self.bins.row()})
        if self._due(recipe.validate_every):
            measures = self._validate()
            bar.console.print(f"{self.iteration}: " + "  ".join(f"{k} {v:.4f}" for k, v in measures.items()))
        self._save_if_due(bar)
        return measures

    def _due(self, every: int) -> bool:
        return bool(every and self.iteration % every == 0) or self.iteration == self.recipe.iterations

    def _step(self) -> dict[str, Any]:
        started = time.perf_counter()
        self.task.modules.train()
        self.optimiser.zero_grad(set_to_none=True)
        measures: dict[str, float] = {"mse": 0.0}
        seen = []
        for index in range(self.micro):
            loss = self._backward(index)
            seen.append(loss)
            self.bins.take(loss)
            for name, value in {"mse": loss.per_sample.mean(), **loss.measures}.items():
                measures[name] = measures.get(name, 0.0) + float(value) / self.micro
        measures = shard.mean(measures)
        groups = zip(self.optimiser.param_groups, self.players, strict=True)
        norms = [shard.clip(group["params"], settings.clip) for group, (_, settings) in groups]
        lr = self._rates()
        row = {"iteration": self.iteration + 1, **measures, "gradient": norms[0], "lr": lr}
        if all(math.isfinite(value) for value in (*norms, measures["mse"])):
            self.optimiser.step()
            self.average.update(self.iteration - self.skipped)
            self.in_row = 0
        else:
            row["skipped"] = self._skip(row, seen)
        self.iteration += 1
        return {**row, "seconds": time.perf_counter() - started}

    def _backward(self, index: int) -> Loss:
        first = self.iteration * self.processes.num_processes + self.processes.process_index
        number = first * self.micro + index
        draw = Draw.seeded(self.recipe.seed, number, iteration=self.iteration, first=index == 0)
        self.seed(draw.generator.initial_seed())  # for layers that draw by themselves, such as dropout
        loss = self.losses(draw, last=index == self.micro - 1)
        (loss.value / self.micro).backward()
        return loss

    def _rates(self) -> float:
        rates = [rate(settings, self.iteration, self.recipe.iterations) for _, settings in self.players]
        for group, lr in zip(self.optimiser.param_groups, rates, strict=True):
            group["lr"] = lr
        return rates[0]

    def _skip(self, row: dict[str, Any], seen: list[Loss]) -> int:
        """Count a step whose loss or gradient is not finite; after too many in a row, stop with the evidence.

        Raises:
            ValueError: too many.
        """
        self.skipped, self.in_row = self.skipped + 1, self.in_row + 1
        if self.in_row < self.recipe.patience:
            return self.skipped
        evidence = {**{name: repr(value) for name, value in row.items()}, "samples": [_evidence(loss) for loss in seen]}
        path = self.output / "not_finite.json"
        if self.processes.is_main_process:
            write_text_atomic(path, json.dumps(evidence, indent=1) + "\n")
        last = checkpoints(self.output)
        raise ValueError(
            f"The loss or its gradient was not finite {self.in_row} times in a row, up to iteration {row['iteration']} "
            f"(mse {row['mse']}, gradient {row['gradient']}). What was computed is in {path}. Lower optimiser.lr, clip "
            "harder, or choose objective.target='solver' where a derivative explodes; then resume from "
            f"{last[-1] if last else 'the start: there is no checkpoint yet'}."
        )

    def _validate(self) -> dict[str, float]:
        self.task.modules.eval()
        measures: dict[str, float] = {}
        # Validations have shapes of their own: compiling for each would take longer than they do.
        with shard.taking_turns(self.task) as mine, self.average.applied(), torch.compiler.set_stance("force_eager"):
            if mine:
                own = nullcontext(self.output / "validation") if self.processes.is_main_process else _elsewhere()
                with own as folder, torch.no_grad():
                    folder.mkdir(exist_ok=True)
                    measures = self.task.validate(folder / f"{self.iteration:06d}")
        if self.log is not None:
            self.log.write({"iteration": self.iteration, "validation": measures})
        return measures

    def _export(self) -> None:
        self.task.modules.eval()
        with self.average.applied():
            trained = dict.fromkeys(self.task.modules.children())
            pieces = {id(module): shard.whole(module) for module in trained}
            if self.processes.is_main_process:
                self.task.export(self.output / "final", lambda module: pieces.get(id(module), module))
        self.processes.wait_for_everyone()

    def _save_if_due(self, bar: Any) -> None:
        """By iterations, by time, at the end, and when told to stop. A checkpoint that cannot be written is tried again
        when the next is due; only the last one has to succeed."""
        late = time.monotonic() - self.saved_at > 60 * self.recipe.checkpoint_minutes
        wanted = STOP if self.told else SAVE if late or self._due(self.recipe.checkpoint_every) else 0
        agreed = int(shard.highest(wanted if self.processes.is_main_process or wanted == STOP else 0))
        if not agreed:
            return
        try:
            self.save()
        except OSError as error:
            if agreed == STOP or self.iteration == self.recipe.iterations:
                raise
            bar.console.print(f"[bold]{error.strerror}.[/bold] Training goes on; the next try comes when it is due.")
        self.saved_at = time.monotonic()
        if agreed == STOP:
            raise Stopped(checkpoints(self.output)[-1])

    def save(self) -> None:
        """Write a checkpoint, whole or not at all, and drop old ones.

        Raises:
            OSError: it cannot be written; the ones before are intact.
        """
        about = {"processes": self.processes.num_processes, "versions": versions(), "hardware": hardware()}
        counts = {"iteration": self.iteration, "skipped": self.skipped, "in_row": self.in_row}
        saving.save(self.output, self.iteration, self._tensors(), {**counts, "recipe": self.recipe.as_dict(), **about})
        if self.processes.is_main_process:
            saving.drop_old(self.output, self.recipe.keep)
        self.processes.wait_for_everyone()

    def resume(self) -> bool:
        """Continue from the newest checkpoint; False where there is none.

        Raises:
            ValueError: the checkpoint was made with another recipe, or is damaged.
        """
        found = checkpoints(self.output)
        if not found:
            return False
        state = json.loads((found[-1] / saving.STATE).read_text())
        self._check_same(state, found[-1])
        saving.prepare(self.optimiser, found[-1])
        saving.load(found[-1], self._tensors())
        self.iteration, self.skipped, self.in_row = state["iteration"], state["skipped"], state["in_row"]
        if self.processes.is_main_process:
            forget_rows(self.output, self.iteration)
        return True

    def _tensors(self) -> dict[str, dict[str, Any]]:
        found = {
            "weights": self.task.modules.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": saving.optimiser_state(self.optimiser),
        }
        return found if self.critic is None else {**found, "critic": self.critic.state_dict()}

    def _check_same(self, state: dict[str, Any], checkpoint: Path) -> None:
        asked, stored = json.loads(json.dumps(self.recipe.as_dict())), state["recipe"]
        differing = [key for key in asked if key not in BOOKKEEPING and stored.get(key) != asked[key]]
        alone = self.recipe.microbatch and self.recipe.engine == "ddp"  # then the processes make no difference
        if not alone and state["processes"] != self.processes.num_processes:
            differing.append("processes")
        if differing:
            raise ValueError(
                f"{checkpoint} was made in another way: {', '.join(differing)} differ. "
                "Resume with the recipe and the number of processes it was made with, or train into another --output."
            )

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """SIGTERM asks the run to save and stop after the iteration under way."""

        def tell(number: int, frame: Any) -> None:
            self.told = number

        try:
            before = signal.signal(signal.SIGTERM, tell)
        except ValueError:  # not the main thread: nobody can be told
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)


def rate(settings: Optimiser, iteration: int, iterations: int) -> float:
    """Learning rate of an iteration."""
    if iteration < settings.warmup:
        return settings.lr * (iteration + 1) / settings.warmup
    start = max(settings.warmup, int(settings.hold * iterations))
    progress = max(0.0, (iteration - start) / max(1, iterations - start))
    return settings.lr * (settings.floor + (1 - settings.floor) * (1 + math.cos(math.pi * progress)) / 2)


def _trained(module: nn.Module) -> Iterator[nn.Parameter]:
    return (value for value in module.parameters() if value.requires_grad)


def _group(module: nn.Module, settings: Optimiser) -> dict[str, Any]:
    options = {"lr": settings.lr, "betas": settings.betas, "weight_decay": settings.weight_decay}
    return {"params": list(_trained(module)), **options}


def _evidence(loss: Loss) -> dict[str, Any]:
    values = {"mse": loss.per_sample, **loss.by, **loss.measures}
    return {name: repr(value.tolist()) for name, value in values.items()}


@contextmanager
def _elsewhere() -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        yield Path(folder)
