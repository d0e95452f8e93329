"""`disca VERB ...`: reads the options of a verb, runs it, and turns errors into a sentence and an exit code.

Exit codes: 0 done, 1 a clear error, 2 a wrong command line, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Union

import tyro

from disca.cli.bench import Bench, bench
from disca.cli.calibrate import Calibrate, calibrate
from disca.cli.calibrate_schedule import CalibrateSchedule, calibrate_schedule
from disca.cli.check import Check, check
from disca.cli.demo import Demo, demo
from disca.cli.describe import Describe, describe
from disca.cli.encode import Encode, encode
from disca.cli.import_ import Import, import_
from disca.cli.lab import Lab, lab
from disca.cli.probe import Probe, probe
from disca.cli.report import Report, report
from disca.cli.sample import Sample, sample
from disca.cli.schedule import ScheduleOptions, schedule
from disca.cli.train import Train, train

VERBS: dict[str, tuple[type, Callable[[Any], None]]] = {
    "sample": (Sample, sample),
    "encode": (Encode, encode),
    "train": (Train, train),
    "train-probe": (Probe, probe),
    "calibrate": (Calibrate, calibrate),
    "calibrate-schedule": (CalibrateSchedule, calibrate_schedule),
    "bench": (Bench, bench),
    "check": (Check, check),
    "demo": (Demo, demo),
    "describe": (Describe, describe),
    "import": (Import, import_),
    "lab": (Lab, lab),
    "report": (Report, report),
    "schedule": (ScheduleOptions, schedule),
}

TWO_WORDS = (("train", "probe"), ("calibrate", "schedule"))
"""Two words, one verb."""

DESCRIPTION = """Make video diffusion transformers cheaper to sample, and prove it.

Each verb has worked examples: `disca sample --help`. With --debug, or DISCA_DEBUG=1, an error shows where it arose."""

_STYLE = (
    tyro.conf.OmitArgPrefixes,
    tyro.conf.OmitSubcommandPrefixes,
    tyro.conf.FlagCreatePairsOff,
    tyro.conf.DisallowNone,
)

CLEAR = (ValueError, OSError)
"""Errors that the caller can do something about: they are shown as one message. Others are ours, and show where."""

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
    "gradio": "demo",
}
"""Which extra of the package brings a module."""


def main(args: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    Raises:
        SystemExit: with 2 for a command line that cannot be read, with 0 after help.
    """
    args = list(sys.argv[1:] if args is None else args)
    if tuple(args[:2]) in TWO_WORDS:
        args[:2] = ["-".join(args[:2])]
    debug = "--debug" in args or bool(os.environ.get("DISCA_DEBUG"))
    options = parse([arg for arg in args if arg != "--debug"])
    try:
        run(options)
    except KeyboardInterrupt:
        print("Interrupted. What was written before is whole.", file=sys.stderr)
        return 130
    except (*CLEAR, ModuleNotFoundError) as error:
        message = _message(error)
        if debug or message is None:
            raise
        print(f"disca: {message}", file=sys.stderr)
        return 1
    return 0


def parse(args: Sequence[str]) -> Any:
    """The options of the verb that a command line names."""
    verbs = tuple(
        Annotated[options, tyro.conf.subcommand(name=name, description=None if name in args else _summary(options))]
        for name, (options, _) in VERBS.items()
    )
    choice: Any = Union[verbs]  # noqa: UP007 (built from a table)
    return tyro.cli(choice, prog="disca", description=DESCRIPTION, args=args or ["--help"], config=_STYLE)


def run(options: Any) -> None:
    """Run the verb that some options belong to."""
    next(verb for kind, verb in VERBS.values() if isinstance(options, kind))(options)


def _summary(options: type) -> str:
    """What a verb does, without its examples; its own help shows those."""
    return (options.__doc__ or "").partition("\n")[0]


def _message(error: BaseException) -> str | None:
    """What an error says, in one line; None for a missing module that no extra brings."""
    if isinstance(error, ModuleNotFoundError):
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        return extra and f"This needs {error.name}, which is not installed. Run: pip install 'disca[{extra}]'"
    return " ".join(str(error).split()) or type(error).__name__
