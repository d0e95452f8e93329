"""What was measured so far, in memory or in a folder, so that an interrupted grid goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from disca.files import atomic, write_text_atomic


@dataclass(frozen=True)
class Part:
    """What one turn of a trial gave."""

    calls: tuple[Mapping[str, Any], ...]
    """Facts of each call of the pipeline, as plain data."""
    values: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensors ``[clips, ...]`` by name."""


class Store:
    """Parts by trial and turn. With a folder each is a file, written whole or not at all."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._parts: dict[tuple[str, str], Part] = {}
        self._frames: dict[tuple[str, str], Tensor] = {}
        self._notes: dict[str, Any] = {}

    def get(self, trial: str, turn: str) -> Part | None:
        """A part, or None where it was not measured yet."""
        if self.folder is None:
            return self._parts.get((trial, turn))
        path = self._path(trial, turn)
        if not path.is_file():
            return None
        with safe_open(path, "pt") as file:
            values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            return Part(tuple(json.loads(file.metadata()["calls"])), values)

    def has(self, trial: str, turn: str) -> bool:
        """Whether a part was measured."""
        return (trial, turn) in self._parts if self.folder is None else self._path(trial, turn).is_file()

    def put(self, trial: str, turn: str, part: Part) -> None:
        """Keep a part."""
        if self.folder is None:
            self._parts[trial, turn] = part
            return
        values = {name: value.detach().cpu().contiguous() for name, value in part.values.items()}
        self._save(self._path(trial, turn), values, {"calls": json.dumps(list(part.calls))})

    def frames(self, trial: str, turn: str) -> Tensor | None:
        """Clips of a part that were kept."""
        if self.folder is None:
            return self._frames.get((trial, turn))
        path = self._path(trial, turn, ".frames")
        if not path.is_file():
            return None
        with safe_open(path, "pt") as file:
            return file.get_tensor("frames")

    def put_frames(self, trial: str, turn: str, frames: Tensor) -> None:
        """Keep clips ``[clips, frames, 3, height, width]`` of a part."""
        if self.folder is None:
            self._frames[trial, turn] = frames.cpu()
            return
        self._save(self._path(trial, turn, ".frames"), {"frames": frames.detach().cpu().contiguous()}, {})

    def note(self, name: str, value: Any) -> None:
        """Keep plain data under a name."""
        if self.folder is None:
            self._notes[name] = value
            return
        path = self.folder / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomic(path, json.dumps(value, indent=1) + "\n")

    def noted(self, name: str) -> Any:
        """Plain data that was kept, or None."""
        if self.folder is None:
            return self._notes.get(name)
        path = self.folder / f"{name}.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def _path(self, trial: str, turn: str, kind: str = "") -> Path:
        assert self.folder is not None
        return self.folder / trial / f"{turn}{kind}.safetensors"

    def _save(self, path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as draft:
            save_file(tensors, draft, metadata)
