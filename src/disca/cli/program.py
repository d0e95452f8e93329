"""`disca VERB ...`: reads the options of a verb, runs it, prints what it found, and turns errors into an exit code."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Union

import tyro

from disca.cli.bench import Bench, bench
from disca.cli.calibrate import Calibrate, calibrate
from disca.cli.calibrate_schedule import CalibrateSchedule, calibrate_schedule
from disca.cli.card import Card, card
from disca.cli.check import Check, check
from disca.cli.completion import completion
from disca.cli.describe import Describe, describe
from disca.cli.encode import Encode, encode
from disca.cli.import_ import Import, import_
from disca.cli.lab import Lab, lab
from disca.cli.printing import Printing
from disca.cli.probe import Probe, probe
from disca.cli.report import Report, report
from disca.cli.sample import Sample, sample
from disca.cli.schedule import ScheduleOptions, schedule
from disca.cli.train import Train, train
from disca.errors import FailedError

Result = Mapping[str, Any]
"""What a verb found, as plain data: the object of ``--json``."""

VERBS: dict[str, tuple[type, Callable[[Any], Result | None]]] = {
    "sample": (Sample, sample),
    "encode": (Encode, encode),
    "train": (Train, train),
    "train-probe": (Probe, probe),
    "calibrate": (Calibrate, calibrate),
    "calibrate-schedule": (CalibrateSchedule, calibrate_schedule),
    "bench": (Bench, bench),
    "check": (Check, check),
    "describe": (Describe, describe),
    "import": (Import, import_),
    "card": (Card, card),
    "lab": (Lab, lab),
    "report": (Report, report),
    "schedule": (ScheduleOptions, schedule),
}

TWO_WORDS = (("train", "probe"), ("calibrate", "schedule"))
"""Two words, one verb."""

DESCRIPTION = """Make video diffusion transformers cheaper to sample, and prove it.

Each verb has worked examples: `disca sample --help`. All of them take --quiet and --json. With --debug, or
DISCA_DEBUG=1, an error shows where it arose.

Exit codes: 0 done; 1 the work failed; 2 a wrong command line or input, and nothing was done; 130 interrupted.

Completion of verbs and options: `eval "$(disca --completion bash)"`, or zsh, or fish."""

STYLE = (
    tyro.conf.OmitArgPrefixes,
    tyro.conf.OmitSubcommandPrefixes,
    tyro.conf.FlagCreatePairsOff,
    tyro.conf.DisallowNone,
)

INPUT = (ValueError, FileNotFoundError, NotADirectoryError, IsADirectoryError)
"""What was asked for cannot be: exit code 2."""
FAILED = (FailedError, OSError, ModuleNotFoundError)
"""It could have been, but was not done: exit code 1. Other errors are ours, and show where they arose."""

EXTRAS = {
    "transformers": "lab",
    "sklearn": "lab",
    "PIL": "report",
    "jinja2": "report",
    "imageio_ffmpeg": "report",
    "accelerate": "train",
    "tensorboard": "train",
    "peft": "train",
    "av": "train",
    "ftfy": "train",
    "lpips": "metrics",
}
"""Which extra of the package brings a module."""


def main(args: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    Raises:
        SystemExit: with 2 for a command line that cannot be read, with 0 after help.
    """
    args = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in args or bool(os.environ.get("DISCA_DEBUG"))
    try:
        run([arg for arg in args if arg != "--debug"])
    except KeyboardInterrupt:
        print("Interrupted. What was written before is whole.", file=sys.stderr)
        return 130
    except (*INPUT, *FAILED) as error:
        message = _message(error)
        if message is None or (debug and not isinstance(error, FailedError)):
            raise
        print(f"disca: {message}", file=sys.stderr)
        return 2 if isinstance(error, INPUT) else 1
    return 0


def run(args: Sequence[str]) -> None:
    """Run the verb that a command line names, and print its result where JSON was asked for."""
    if args[:1] == ["--completion"]:
        completion(args[1:], _verbs(args), STYLE)
        return
    options = parse(args)
    verb = next(verb for kind, verb in VERBS.values() if isinstance(options, kind))
    try:
        with _printing(options).at_work():
            result = verb(options)
    except FailedError as error:
        _print(error.result, options)
        raise
    _print(result, options)


def parse(args: Sequence[str]) -> Any:
    """The options of the verb that a command line names."""
    args = ["-".join(args[:2]), *args[2:]] if tuple(args[:2]) in TWO_WORDS else list(args)
    return tyro.cli(_verbs(args), prog="disca", description=DESCRIPTION, args=args or ["--help"], config=STYLE)


def _verbs(args: Sequence[str]) -> Any:
    """The choice between all verbs, each with its summary; the one that is named shows its examples too."""
    verbs = tuple(
        Annotated[options, tyro.conf.subcommand(name=name, description=None if name in args else _summary(options))]
        for name, (options, _) in VERBS.items()
    )
    return Union[verbs]  # noqa: UP007 (built from a table)


def _print(result: Result | None, options: Any) -> None:
    if _printing(options).json and result is not None:
        print(json.dumps(result, ensure_ascii=False))


def _printing(options: Any) -> Printing:
    return getattr(options, "printing", Printing())


def _summary(options: type) -> str:
    """What a verb does, without its examples; its own help shows those."""
    return " ".join((options.__doc__ or "").partition("\n\n")[0].split())


def _message(error: BaseException) -> str | None:
    """What an error says, in one line; None for a missing module that no extra brings."""
    if isinstance(error, ModuleNotFoundError):
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        return extra and f"This needs {error.name}, which is not installed. Run: pip install 'disca[{extra}]'"
    return " ".join(str(error).split()) or type(error).__name__
