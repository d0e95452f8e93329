"""Where a number comes from: versions, hardware, command and date for records."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("disca", "torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "scikit-learn", "av")


def versions() -> dict[str, str]:
    """Versions of Python and the installed packages that decide a result, and the git revision where there is one."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    revision = git_revision()
    return found | ({"git": revision} if revision else {})


def git_revision() -> str | None:
    """Revision of the checkout this package runs from, with ``-dirty`` where its code differs; None outside a checkout.

    Records and docs do not count: a run that writes its own records is no other run.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        revision = _git(root, "rev-parse", "--short=12", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "src", "recipes", "benchmarks/*.py")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{revision}-dirty" if changed else revision or None


def _git(root: Path, *command: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def hardware() -> dict[str, Any]:
    """Processor, cores, memory in GiB, and, when torch is loaded, its threads and the accelerator."""
    found: dict[str, Any] = {"cpu": _cpu_model(), "cores": _cores(), "system": platform.system()}
    memory = _memory_gib()
    if memory is not None:
        found["memory_gib"] = memory
    torch = sys.modules.get("torch")  # a report must not load torch to say where it runs
    if torch is not None:
        found["threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            found["gpu"] = torch.cuda.get_device_name()
    return found


def command_line() -> str:
    """The command of this process, without the folder of the program; of a package, ``python -m PACKAGE``."""
    program, package = Path(sys.argv[0]).name, getattr(sys.modules["__main__"], "__package__", None)
    begun = ["python", "-m", package] if package and program == "__main__.py" else [program]
    return shlex.join([*begun, *sys.argv[1:]])


def now() -> str:
    """The present moment in ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu_model() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None
