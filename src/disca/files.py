"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

try:
    import fcntl
except ImportError:  # pragma: no cover (Windows)
    fcntl = None  # type: ignore[assignment]


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; it takes the name ``path`` when the block ends well.

    The temporary name keeps the suffix, from which writers of pictures and videos choose their format. When the
    block raises or is interrupted, the temporary file is removed and what was at ``path`` stays.
    """
    path = Path(path)
    draft = path.with_name(f".{path.stem}-{uuid4().hex[:8]}{path.suffix}")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_bytes_atomic(path: str | Path, data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all."""
    with atomic(path) as draft:
        draft.write_bytes(data)


def write_text_atomic(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, whole or not at all."""
    write_bytes_atomic(path, text.encode())


def check_writable(folder: str | Path) -> Path:
    """Create ``folder`` where it is missing and prove that files can be written into it.

    Raises:
        OSError: they cannot; to be asked before long work starts, not after it.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{uuid4().hex[:8]}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(f"Cannot write into the folder {folder}: {reason}. Choose another output folder.") from error
    return folder


@contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Inside the block, no other process is inside of its own for the same ``path``, a file that is made for this.

    A process that dies lets go of it. Where a system has no such locks (Windows), nothing is waited for.
    """
    with Path(path).open("a") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
