"""What a long measurement has found so far, in a file, so that it goes on where it was interrupted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from disca.files import write_text_atomic


class Journal:
    """Values by name, each written as a line when it is put. One of other settings is begun anew.

    Without a file it remembers only.
    """

    def __init__(self, path: Path | None = None, settings: Mapping[str, Any] | None = None) -> None:
        self._path, self._values = path, dict[str, Any]()
        head = json.dumps(dict(settings or {}), sort_keys=True, default=str)
        if path is None:
            return
        lines = path.read_text().splitlines() if path.is_file() else []
        if lines and lines[0] == head:
            for line in lines[1:]:
                self._read(line)
        kept = [json.dumps([name, value]) for name, value in self._values.items()]
        write_text_atomic(path, "".join(f"{line}\n" for line in (head, *kept)))

    def get(self, name: str) -> Any:
        """The value of that name, or None."""
        return self._values.get(name)

    def put(self, name: str, value: Any) -> None:
        """Keep a value that JSON can hold."""
        self._values[name] = value
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps([name, value]) + "\n")

    def close(self) -> None:
        """All is done: the file is not needed any more."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _read(self, line: str) -> None:
        try:
            name, value = json.loads(line)
        except ValueError:  # the last line of a process that was killed while it wrote
            return
        self._values[name] = value
