"""The whole story on this machine: the base, its distilled children and every cache, on the same prompts and noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import rich
from rich.progress import Progress
from torch import Tensor

from disca import records as files
from disca import trajectories
from disca.bench.models import Model
from disca.bench.rows import Row, Table
from disca.bench.sampling import Trial
from disca.bench.store import Store
from disca.bench.trajectories import record
from disca.bench.turns import Plan, Turns, counted
from disca.caching.methods import disca, reuse, taylor
from disca.caching.policy import Policy
from disca.files import check_writable
from disca.lab import weights
from disca.lab.bundle import SCHEDULES
from disca.lab.measure import held_out, model
from disca.metrics.fidelity import psnr
from disca.predictor.network import Predictor
from disca.records import Record
from disca.report.clips import Clip, Frames, write_clip, write_index
from disca.report.page import write_page
from disca.report.table import print_table
from disca.trajectories import Trajectories

STEPS, FULL_STEPS = SCHEDULES[0].steps, SCHEDULES[0].full_steps
BATCH = 20
SHOWN = 6
"""Prompts whose clips are kept."""
TITLE = "DisCa in the lab"
LEAD = (
    "A small text-to-video model, sampled from the same noise in seven ways. Its 50 guided steps become 8 steps of a "
    "Restricted MeanFlow student, and on half of those a small learned predictor stands in for the whole stack of "
    "transformer blocks."
)
NOTES = (
    "Semantics is the share of clips in which a judge, trained on other handwriting, reads the digit, the colour and "
    "the motion of the prompt. All prompts are combinations that no training saw.",
    "Evaluations are full passes through the transformer; a guided step of the base takes two.",
)


def show(output: Path, *, prompts: int = 100, seed: int = 0) -> list[Record]:
    """Sample, print one table, and write ``records.jsonl``, clips and ``index.html`` into ``output``.

    Args:
        prompts: Pairs of held-out prompt and seed; at least 2 for a Frechet distance.
        seed: Of the choice of prompts and of the noise.

    Raises:
        OSError: the folder cannot be written.
        FileNotFoundError, ValueError: the lab's weights are missing or damaged.
    """
    output = check_writable(output)
    predictor = weights.predictor()
    rows = story(predictor)
    share = predictor.parameter_share(rows[-1].trial.model.pipe.transformer)
    plan = Plan(pairs=held_out(prompts, seed), turn=BATCH, keep=SHOWN)
    table, turns = measure(rows, plan, title="sampling")
    named = {"predictor_share": share}
    table = [replace(row, extra={**row.extra, **named}) if row.name.startswith("disca") else row for row in table]
    files.write(output / "records.jsonl", table)
    clips, paths = _write_clips(output, rows, turns), [_features(rows, plan)]
    trajectories.write(output, paths)
    write_page(output / "index.html", table, clips, title=TITLE, lead=LEAD, notes=NOTES, trajectories=paths)
    _say(table, output, share)
    return table


def measure(rows: Sequence[Row], plan: Plan, *, title: str) -> tuple[list[Record], Turns]:
    """Sample some rows side by side, with a progress bar, and measure each.

    Raises:
        RuntimeError: a row failed.
    """
    turns = Turns(plan, Store())
    trials = [row.trial for row in rows]
    with Progress() as bar:
        line = bar.add_task(title, total=len(trials) * len(list(plan.turns())))
        turns.progress = lambda trial: bar.advance(line)
        turns.run(trials)
        if turns.failed:
            raise RuntimeError(f"Some rows failed: {turns.failed}")
        bar.update(line, description="measuring")
        table = Table(turns)
        whole = {row.trial.name: counted(row.trial, plan.pairs, turns.store) for row in rows if row.policy == "none"}
        return [table.record(row, whole.get(row.reference or "")) for row in rows], turns


def story(predictor: Predictor) -> list[Row]:
    """What the quickstart compares."""
    base, distilled, student = (model(stage) for stage in weights.PARTS)
    cached = f"{STEPS} steps, {len(FULL_STEPS)} full"
    return [
        _plain("base", base, 50, "base, 50 steps, guided"),
        _plain("distilled", distilled, 50, "guidance-distilled, 50 steps"),
        _plain("base", base, STEPS, f"base, {STEPS} steps, guided"),
        _plain("student", student, STEPS, f"student, {STEPS} steps"),
        _cached(student, "disca", f"student + DisCa, {cached}", disca(predictor, full_steps=FULL_STEPS)),
        _cached(student, "reuse", f"student + reuse, {cached}", reuse(full_steps=FULL_STEPS)),
        _cached(student, "taylor", f"student + Taylor, {cached}", taylor(full_steps=FULL_STEPS)),
    ]


REFERENCE = f"student_{STEPS}"
OVER = "base_50"


def _plain(stage: str, of: Model, steps: int, label: str) -> Row:
    return _row(f"{stage}_{steps}", label, Trial(name=f"{stage}_{steps}", model=of, steps=steps, batch=BATCH))


def _cached(of: Model, method: str, label: str, policy: Policy) -> Row:
    name = f"{method}_{STEPS}_{len(FULL_STEPS)}"
    trial = Trial(name=name, model=of, steps=STEPS, policy=policy, batch=BATCH)
    return _row(name, label, trial, policy=f"{method}(full_steps={FULL_STEPS})")


def _row(name: str, label: str, trial: Trial, policy: str = "none") -> Row:
    reference = None if name == REFERENCE else REFERENCE
    trial = replace(trial, references=(reference,) if reference else ())
    return Row(name=name, label=label, trial=trial, policy=policy, reference=reference, over=OVER)


def _write_clips(output: Path, rows: Sequence[Row], turns: Turns) -> list[Clip]:
    """The first few pairs of every row, with their PSNR to the student's full run."""
    first = next(iter(turns.plan.turns()))[0]
    sampled = {row.name: turns.store.frames(row.trial.name, first) for row in rows}
    pairs, clips = turns.plan.pairs, []
    for index, (prompt, seed) in enumerate(zip(pairs.prompts[:SHOWN], pairs.seeds[:SHOWN], strict=True)):
        for row in rows:
            frames, reference = sampled[row.name], sampled[REFERENCE]
            assert frames is not None and reference is not None
            path = output / "clips" / f"{index}_{row.name}.gif"
            path.parent.mkdir(exist_ok=True)
            write_clip(path, pixels(frames[index].movedim(0, 1)))
            note = _note(frames[index], reference[index])
            clips.append(Clip(prompt=prompt, name=row.name, path=path, seed=seed, note=note))
    write_index(output, clips)
    return clips


def _features(rows: Sequence[Row], plan: Plan) -> Trajectories:
    """Where the student's features go for the first pair, with every step full and with each cache."""
    cached = {row.name: row.trial.policy for row in rows if isinstance(row.trial.policy, tuple) and row.trial.policy}
    prompt, seed = plan.pairs.prompts[0], plan.pairs.seeds[0]
    return record(rows[-1].trial.model, cached, reference=REFERENCE, prompt=prompt, seed=seed, steps=STEPS)


def _note(clip: Tensor, reference: Tensor) -> str:
    value = psnr(clip[None], reference[None]).item()
    return "the reference" if value == float("inf") else f"{value:.1f} dB"


def pixels(clip: Tensor) -> Frames:
    """A clip ``[3, frames, height, width]`` in [0, 1] as bytes ``[frames, height, width, 3]``."""
    return clip.permute(1, 2, 3, 0).mul(255).round().byte().numpy()


def _say(rows: Sequence[Record], output: Path, share: float) -> None:
    console = rich.get_console()
    print_table(rows, title=f"{len(rows[0].seeds)} held-out prompts, seconds for one clip", console=console)
    by_name = {row.name: row for row in rows}
    full, cached = by_name[f"student_{STEPS}"], by_name[f"disca_{STEPS}_{len(FULL_STEPS)}"]
    assert full.flops and cached.flops
    console.print(
        f"The predictor has {share:.1%} of the transformer's parameters; with it a clip takes "
        f"{cached.flops / full.flops:.2f} of the student's operations."
    )
    console.print(f"Look: {output / 'index.html'}  Records: {output / 'records.jsonl'}")
