"""`disca calibrate schedule`: which steps are best full, for the forecast that will be used on your model."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from disca.cli.printing import Printing, say, show

if TYPE_CHECKING:
    from disca.bench.schedule import Budget, ScheduleCalibration, Search
    from disca.bundle import Bundle


@dataclass(frozen=True, kw_only=True)
class CalibrateSchedule:
    """Compute which steps are best full, for every number of them, from what a method's forecast errs on a model.

    disca calibrate schedule disca --model lab --steps 20 --full 8 --output schedule_20.json

    disca calibrate schedule taylor --model lab-base --steps 50 --speedup 4 --output taylor_50.json

    disca calibrate schedule disca --model lab-distilled --bundle my-bundle --steps 20 --full 8

    Use it with disca.from_calibration("schedule_20.json", predictor=...), or bundle.attach(pipe, full_steps=8). The
    same command goes on where it was interrupted.
    """

    method: Positional[str]
    """disca, taylor, reuse or another method whose full steps are known beforehand."""
    output: Path | None = None
    """The file to write; may be left out with --bundle."""
    model: str = "lab"
    """A folder with a pipeline of diffusers, or one of the lab's (lab, lab-base, lab-distilled)."""
    bundle: Path | None = None
    """A bundle to sample with; with disca, its predictor is calibrated, and the result goes into it."""
    predictor: Path | None = None
    """disca: the folder of a predictor; that of the bundle, or of the lab's student, when left out."""
    steps: int = 20
    """Sampling steps."""
    full: int | None = None
    """The budget: at most so many full steps; or"""
    speedup: float | None = None
    """so many times fewer operations of the transformer; or"""
    within: float | None = None
    """runs that end so near to full ones, in relative L2 of the last latents."""
    size: str | None = None
    """A clip, as WIDTHxHEIGHTxFRAMES in pixels; the pipeline's own when left out."""
    prompts: Path | None = None
    """A file with a prompt on each line; training prompts of the lab when left out."""
    guidance_scale: float | None = None
    """How strongly clips follow their prompts; the pipeline's own choice when left out."""
    seed: int = 0
    """Seed of the first prompt's noise; the others count up from it."""
    quantile: float = 0.8
    """Share of the prompts that the errors in the table are not exceeded by."""
    cost: Literal["drift", "squared", "linear"] = "drift"
    """What a gap costs: squared distances that its forecasts move the latents by, the distances themselves, or the
    square of the distance that they move them together."""
    inclusive: bool = False
    """Count the error at the next full step too, which speaks against long gaps."""
    longest: int | None = None
    """No two full steps are farther apart; measuring takes less with it."""
    force_last: bool = False
    """The last step is full in any case."""
    doubt: Literal["input", "disagreement"] | None = None
    """Measure this too, for plans that are refreshed where a forecast is in doubt: the error of forecasting the input,
    or the disagreement of two forecasts."""
    doubted: float = 0.9
    """Share of the prompts whose doubt is nothing out of the ordinary."""
    candidates: int = 24
    """Plans that are sampled for the budget."""
    growth: bool = True
    """Count what each step's error comes to at the end of the run, which takes two runs more for each step."""
    only_budget: bool = False
    """Sample no plans for other budgets."""
    order: int | None = None
    """Degree of a polynomial forecast."""
    form: str | None = None
    """taylor: published, or newton."""
    variable: str | None = None
    """taylor: what the polynomial is in, step or time."""
    sigma: float | None = None
    """hicache, freqca: how much the polynomial is contracted."""
    cut: float | None = None
    """freqca: share of the largest frequency up to which frequencies are low."""
    ratio: float | None = None
    """toca, duca: share of tokens computed afresh."""
    printing: Printing = Printing()


OF_METHODS = ("order", "form", "variable", "sigma", "cut", "ratio")


def calibrate_schedule(options: CalibrateSchedule) -> dict[str, Any]:
    """Measure, compute, refine, and write what was found.

    Raises:
        ValueError: a method, a budget or prompts that cannot be; nowhere to write.
    """
    from disca.bench.schedule import Budget, Search, check_method
    from disca.bundle import Bundle
    from disca.files import check_writable

    budget = Budget(full_steps=options.full, speedup=options.speedup, error=options.within)
    search = Search(
        quantile=options.quantile,
        form=options.cost,
        inclusive=options.inclusive,
        growth=options.growth,
        longest=options.longest,
        force_last=options.force_last,
        doubt=options.doubt,
        doubted=options.doubted,
        candidates=options.candidates,
        others=not options.only_budget,
    )
    if options.steps < 2:
        raise ValueError(f"--steps is the number of sampling steps, at least 2, not {options.steps}.")
    if options.output is None and (options.bundle is None or options.method != "disca"):
        raise ValueError(
            "Say where to write with --output. Only a bundle's own predictor is calibrated into the bundle."
        )
    bundle = None if options.bundle is None else Bundle.from_pretrained(options.bundle)
    given = {name: getattr(options, name) for name in OF_METHODS if getattr(options, name) is not None}
    given |= {"predictor": _predictor(options, bundle)} if options.method == "disca" else {}
    check_method(options.method, given)
    place = options.output or Path(f"{options.bundle}.calibration.json")
    check_writable(place.parent)
    found = _measure(options, given, bundle, budget, search, place.with_name(f".{place.name}.partial"))
    if options.output is not None:
        found.save(options.output)
    if bundle is not None and options.bundle is not None and options.method == "disca" and options.predictor is None:
        bundle.calibrated(found.frontier, found.schedule).update(options.bundle)
    _say(options, found)
    points = [asdict(point) for point in found.frontier.points]
    return {"method": found.method, "steps": options.steps, "full_steps": list(found.chosen), "frontier": points}


def _measure(
    options: CalibrateSchedule,
    given: dict[str, Any],
    bundle: Bundle | None,
    budget: Budget,
    search: Search,
    draft: Path,
) -> ScheduleCalibration:
    """With a bar, and a journal beside the file to come."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from disca.bench.journal import Journal
    from disca.bench.schedule import calibrate_schedule as measure
    from disca.cli.calibrate import prompts_of, sampler
    from disca.cli.models import open_pipeline
    from disca.provenance import versions

    prompts = prompts_of(options)
    pipe = open_pipeline(options.model)
    pipe.set_progress_bar_config(disable=True)
    asked = {name: value for name, value in asdict(options).items() if name != "printing"}
    journal = Journal(draft, {**asked, "prompts": prompts, "versions": versions()})
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as bar, bundle.joined(pipe) if bundle else nullcontext():
        line = bar.add_task("measuring", total=None)
        found = measure(
            pipe,
            options.method,
            sampler(pipe, prompts, options),
            prompts,
            budget=budget,
            options=given,
            search=search,
            journal=journal,
            tell=lambda what, done, of: bar.update(line, description=what, completed=done, total=of),
        )
    journal.close()
    return found


def _predictor(options: CalibrateSchedule, bundle: Bundle | None) -> Any:
    from disca.lab import weights
    from disca.lab.sample import MODELS
    from disca.predictor.network import Predictor

    if options.predictor is not None:
        return Predictor.from_pretrained(options.predictor).eval().requires_grad_(False)
    if bundle is not None and bundle.predictor is not None:
        return bundle.predictor
    if bundle is None and MODELS.get(options.model) == "student":
        return weights.predictor()
    raise ValueError("disca needs a predictor: give --predictor, a folder, or --bundle, one with a predictor.")


def _say(options: CalibrateSchedule, found: ScheduleCalibration) -> None:
    """The frontier as a table."""
    from rich.table import Table

    table = Table(
        "full", "full steps", "cost", "relative L2", "operations", title=f"{found.method}, {options.steps} steps"
    )
    for point in found.frontier.points:
        chosen = " *" if point.full_steps == found.chosen else ""
        error = "" if point.error is None else f"{point.error:.4f}"
        share = "" if point.flops is None else f"{point.flops:.3f}"
        steps = " ".join(map(str, point.full_steps))
        table.add_row(f"{len(point.full_steps)}{chosen}", steps, f"{point.cost:.4g}", error, share)
    show(table)
    places = [place for place in (options.output, options.bundle if options.method == "disca" else None) if place]
    say(f"Wrote {' and '.join(map(str, places))}: full at {' '.join(map(str, found.chosen))}.")
