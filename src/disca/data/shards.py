"""Shards on disk: safetensors files of some clips each, every tensor with a first dimension of clips.

Their entries are ``latents``, ``prompt.ARGUMENT`` and ``condition.NAME``; names and texts are in their metadata.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from disca.data.index import Index, Shard
from disca.files import write_bytes_atomic

Flat = Mapping[str, Tensor]
"""Tensors of one clip by their entry, without the dimension of clips."""


@dataclass(frozen=True)
class Listing:
    """Names and texts of the clips of a shard."""

    names: tuple[str, ...]
    texts: tuple[str, ...]


def flatten(**groups: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``prompt={"a": x}`` as ``{"prompt.a": x}``."""
    return {f"{group}.{name}": value for group, entries in groups.items() for name, value in entries.items()}


def group(flat: Flat, name: str) -> dict[str, Tensor]:
    """The inverse of :func:`flatten`, for one group."""
    return {key.removeprefix(f"{name}."): value for key, value in flat.items() if key.startswith(f"{name}.")}


def stored(value: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor as it is stored: floats in the dtype, on the CPU."""
    return value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype).contiguous()


def write(path: Path, tensors: Flat, metadata: Mapping[str, str] | None = None) -> None:
    """Write a file whole or not at all.

    Raises:
        OSError: it cannot be written, such as on a full disk; what was there stays.
    """
    try:
        write_bytes_atomic(path, save(dict(tensors), dict(metadata) if metadata else None))
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise OSError(
            f"Cannot write {path}: {'there is no space left' if full else error.strerror or error}. Every shard before "
            "it is whole. Make room and run the same command again: it goes on after them."
        ) from error


class OpenShard:
    """A shard to read from, a file that is mapped into memory.

    Raises:
        ValueError: no such file, or a damaged one.
    """

    def __init__(self, path: Path) -> None:
        try:
            self.file: Any = safe_open(path, framework="pt")
        except (OSError, SafetensorError) as error:
            raise ValueError(
                f"The shard {path} is missing or damaged ({error}). Put it back, or encode into a new folder."
            ) from error
        metadata = self.file.metadata() or {}
        self.listing = Listing(*(tuple(json.loads(metadata.get(part, "[]"))) for part in ("names", "texts")))

    def row(self, row: int) -> dict[str, Tensor]:
        """Tensors of one clip; the others are not read."""
        return {name: self.file.get_slice(name)[row] for name in self.file.keys()}  # noqa: SIM118 (it is no mapping)


class Writer:
    """Gathers clips into shards and keeps the index; what it wrote stays whatever happens next."""

    def __init__(self, folder: Path, index: Index, *, per_shard: int) -> None:
        self.folder, self.index, self.per_shard = folder, index, per_shard
        self.waiting: list[tuple[str, str, Flat]] = []

    def done(self) -> dict[str, str]:
        """Texts by name of the clips that are there."""
        lists = [OpenShard(self.folder / shard.file).listing for shard in self.index.shards]
        return {name: text for one in lists for name, text in zip(one.names, one.texts, strict=True)}

    def add(self, name: str, text: str, tensors: Flat) -> None:
        """Take a clip; written when there are enough for a shard."""
        self.waiting.append((name, text, tensors))
        if len(self.waiting) == self.per_shard:
            self.flush()

    def skip(self, reasons: Mapping[str, str]) -> None:
        """Note files that gave no clip."""
        self.index = replace(self.index, skipped={**self.index.skipped, **reasons})

    def flush(self) -> None:
        """Write what is waiting, then the index that names it: a shard that is not in it is no part of the set."""
        if self.waiting:
            names, texts, clips = zip(*self.waiting, strict=True)
            file = f"shard-{len(self.index.shards):05d}.safetensors"
            tensors = {key: torch.stack([clip[key] for clip in clips]) for key in clips[0]}
            write(self.folder / file, tensors, {"names": json.dumps(names), "texts": json.dumps(texts)})
            self.index = self.index.with_shard(Shard(file, len(names)))
            self.waiting = []
        self._forget_made()
        self.index.write(self.folder)

    def _forget_made(self) -> None:
        """A file that gave no clip and then did, since it was mended, is no longer noted."""
        if self.index.skipped:
            made = self.done()
            kept = {name: why for name, why in self.index.skipped.items() if name not in made}
            self.index = replace(self.index, skipped=kept)


def unequal(names: Iterable[tuple[str, str]], there: Mapping[str, str]) -> list[str]:
    """Names that are there with another text."""
    return [name for name, text in names if there.get(name, text) != text]
