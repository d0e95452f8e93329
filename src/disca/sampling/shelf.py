"""The folder of many clips: each whole or not there, with what made it, and a manifest of all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disca.files import check_writable, locked, write_text_atomic
from disca.provenance import command_line, hardware, now, versions
from disca.sampling.wishes import Wish

MANIFEST, SETTINGS, STATE = "manifest.jsonl", "settings.json", "state"


@dataclass(frozen=True)
class Shelf:
    """Several processes may use one folder at the same time, as long as their wishes differ.

    A clip is done when ``state/NAME.json`` says so, which is written after it, and the file has the size noted there.
    What is done is never made again or overwritten; what failed is tried again.
    """

    folder: Path
    settings: Mapping[str, Any]
    """What all clips of the folder have in common, as plain data."""
    suffix: str = ".mp4"

    def open(self, wishes: Iterable[Wish]) -> None:
        """Begin, or go on.

        Raises:
            ValueError: the folder was begun with other settings, or holds another clip under a name that is wished for.
            OSError: it cannot be written.
        """
        begun = _read(self.folder / SETTINGS)
        wanted = json.loads(json.dumps(self.settings))
        if begun is not None and begun.get("settings") != wanted:
            there = begun.get("settings", {})
            changed = sorted(key for key in {**there, **wanted} if there.get(key) != wanted.get(key))
            raise ValueError(
                f"{self.folder} holds clips that were sampled with other settings ({', '.join(changed)}). Choose "
                "another folder, or go on with the same settings."
            )
        for wish in wishes:
            self._check(wish, begun=begun is not None)
        check_writable(self.folder / STATE)
        if begun is None:
            about = {"versions": versions(), "hardware": hardware(), "command": command_line(), "date": now()}
            write_text_atomic(self.folder / SETTINGS, json.dumps({"settings": wanted, **about}, indent=1) + "\n")

    def path(self, wish: Wish) -> Path:
        """Where the clip of a wish is, or will be."""
        return self.folder / f"{wish.name}{self.suffix}"

    def has(self, wish: Wish) -> bool:
        """Whether its clip is there and whole."""
        state, path = self._state(wish), self.path(wish)
        return (
            state is not None and "error" not in state and path.is_file() and path.stat().st_size == state.get("bytes")
        )

    def put(self, wish: Wish, write: Callable[[Path], None], facts: Mapping[str, Any]) -> None:
        """Keep a clip: ``write(path)`` writes the file, whole or not at all."""
        self.sweep(wish)
        write(self.path(wish))
        self._note(wish, {"bytes": self.path(wish).stat().st_size, **facts})

    def fail(self, wish: Wish, error: BaseException) -> None:
        """Note why there is no clip."""
        self._note(wish, {"error": f"{type(error).__name__}: {error}"})

    def sweep(self, wish: Wish) -> None:
        """Remove what a process that was killed while it wrote this clip has left."""
        for draft in self.folder.glob(f".{wish.name}-????????{self.suffix}"):
            draft.unlink(missing_ok=True)

    def write_manifest(self, wishes: Iterable[Wish]) -> tuple[int, dict[str, str]]:
        """Write ``manifest.jsonl``, a line for every wish that was tried by any process, in their order.

        Returns how many were not tried yet, and why others failed, by name.
        """
        with locked(self.folder / STATE / ".lock"):
            states = [self._state(wish) for wish in wishes]
            lines = [json.dumps(state, ensure_ascii=False) for state in states if state is not None]
            write_text_atomic(self.folder / MANIFEST, "".join(line + "\n" for line in lines))
        failed = {state["name"]: state["error"] for state in states if state is not None and "error" in state}
        return states.count(None), failed

    def _note(self, wish: Wish, facts: Mapping[str, Any]) -> None:
        about = {"name": wish.name, "prompt": wish.prompt, "seed": wish.seed}
        about |= {} if wish.image is None else {"image": wish.image.name}
        about |= {"file": self.path(wish).name} if "error" not in facts else {}
        values = {**about, **facts, "settings": dict(self.settings), "date": now()}
        write_text_atomic(self._place(wish), json.dumps(values, ensure_ascii=False) + "\n")

    def _check(self, wish: Wish, *, begun: bool) -> None:
        state = self._state(wish)
        if state is not None and "error" not in state and (state["prompt"], state["seed"]) != (wish.prompt, wish.seed):
            raise ValueError(
                f"{self.folder} holds a clip {wish.name} of another prompt or seed ({state['prompt']!r}, seed "
                f"{state['seed']}). Give the clips names, or choose another folder."
            )
        if not begun and self.path(wish).exists():
            raise ValueError(f"{self.path(wish)} is there already, and was not sampled here. Choose another folder.")

    def _state(self, wish: Wish) -> dict[str, Any] | None:
        return _read(self._place(wish))

    def _place(self, wish: Wish) -> Path:
        return self.folder / STATE / f"{wish.name}.json"


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is none that can be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return value if isinstance(value, dict) else None
