"""Shards as endless batches: shuffled, shared by processes and workers without overlap, and the same for each seed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from disca.data.index import SHARED, Index
from disca.data.shards import Flat, OpenShard, group

OPEN = 16
"""Shards that a stream keeps open."""

Batch = dict[str, Any]
"""``latents`` ``[batch, channels, frames, height, width]``, ``texts``, ``names``, and ``prompt`` and ``condition``:
tensors ``[batch, ...]`` by argument of the transformer; see :mod:`disca.data.conditions`."""


@dataclass(frozen=True)
class Shards:
    """A folder that ``disca encode`` made."""

    folder: Path
    index: Index

    @classmethod
    def open(cls, folder: str | Path) -> Shards:
        """Read the index of a folder.

        Raises:
            FileNotFoundError: it has none.
            ValueError: it cannot be read, or holds no clips.
        """
        index = Index.read(Path(folder))
        if not index.clips:
            raise ValueError(f"There are no clips in {folder}. Run disca encode to its end.")
        return cls(Path(folder), index)

    def __len__(self) -> int:
        return self.index.clips

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """``(channels, frames, height, width)``."""
        return self.index.latent_shape

    @property
    def boundary(self) -> float | None:
        """The time at which the experts of the pipeline change, where it has two."""
        return self.index.boundary

    def check(self, pipe: Any) -> None:
        """Make sure that these are of this pipeline's encoders; see :meth:`disca.data.index.Index.check_host`."""
        self.index.check_host(pipe)

    def unconditional(self, batch: int, *, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """The negative prompt as arguments of the transformer, ``[batch, ...]``."""
        return _spread(group(self._shared(), "unconditional"), batch, dtype)

    def stream(
        self, batch: int, *, seed: int = 0, rank: int = 0, ranks: int = 1, dtype: torch.dtype = torch.float32
    ) -> Stream:
        """Endless batches for one of ``ranks`` processes; floats in ``dtype``.

        Raises:
            ValueError: fewer clips than processes, or a rank that is none of them.
        """
        if not 0 <= rank < ranks or batch < 1:
            raise ValueError(f"A rank lies in 0 to {ranks - 1} and a batch has clips, not rank {rank}, batch {batch}.")
        if len(self) < ranks:
            raise ValueError(f"{len(self)} clips cannot be shared by {ranks} processes. Encode more, or use fewer.")
        shared = group(self._shared(), "condition")
        return Stream(self.folder, self.index, batch, seed, rank, ranks, dtype, shared)

    def _shared(self) -> Flat:
        return load_file(self.folder / SHARED)


@dataclass
class Stream(IterableDataset[Batch]):
    """Batches of one process. Batch ``j`` depends on the shards, the seed, the process and ``j`` alone.

    An epoch orders the shards anew, and the clips within each; consecutive equal parts of that order go to the
    processes, so that each reads few shards. Where clips do not divide among processes, some sit out an epoch, another
    few in each.
    """

    folder: Path
    index: Index
    batch: int
    seed: int
    rank: int
    ranks: int
    dtype: torch.dtype
    shared: Flat
    position: int = 0
    """Batches that were taken."""
    _files: OrderedDict[int, OpenShard] = field(default_factory=OrderedDict, repr=False)
    _order: tuple[int, list[tuple[int, int]]] | None = field(default=None, repr=False)

    def at(self, position: int) -> Batch:
        """The batch of that number."""
        first = position * self.batch
        places = [self._place(number) for number in range(first, first + self.batch)]
        rows = [self._row(shard, row) for shard, row in places]
        tensors = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        tensors = {name: _cast(value, self.dtype) for name, value in tensors.items()}
        condition = {**_spread(self.shared, self.batch, self.dtype), **group(tensors, "condition")}
        about = [(self._open(shard).listing, row) for shard, row in places]
        return {
            "latents": tensors["latents"],
            "prompt": group(tensors, "prompt"),
            "condition": condition,
            "texts": [listing.texts[row] for listing, row in about],
            "names": [listing.names[row] for listing, row in about],
        }

    def __next__(self) -> Batch:
        batch = self.at(self.position)
        self.position += 1
        return batch

    def __iter__(self) -> Iterator[Batch]:
        """From the position on; in a worker of a loader every so many-th, so that the loader gives all in order."""
        worker = get_worker_info()
        if worker is None:
            while True:
                yield next(self)
        position = self.position + worker.id
        while True:
            yield self.at(position)
            position += worker.num_workers

    def loader(self, workers: int = 0, **options: Any) -> Iterator[Batch]:
        """The same batches, read ahead by worker processes; the position counts those that were taken."""
        for batch in DataLoader(self, batch_size=None, num_workers=workers, **options):
            if workers:
                self.position += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Where the stream is, to go on from."""
        return {"position": self.position, **self._making()}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from where a stream was.

        Raises:
            ValueError: of other clips, or shared in another way.
        """
        differing = [name for name, value in self._making().items() if state.get(name) != value]
        if differing:
            raise ValueError(
                f"The position is of another stream: {', '.join(differing)} differ ({dict(state)} there, "
                f"{self._making()} here). Continue with what it was started with."
            )
        self.position = state["position"]

    def _making(self) -> dict[str, int]:
        values = {"clips": self.index.clips, "batch": self.batch, "seed": self.seed}
        return {**values, "rank": self.rank, "ranks": self.ranks}

    def _place(self, number: int) -> tuple[int, int]:
        """Shard and row of the clip that this process takes as its ``number``-th."""
        share = self.index.clips // self.ranks
        epoch, offset = divmod(number, share)
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, order([shard.clips for shard in self.index.shards], self.seed, epoch)
        return self._order[1][self.rank * share + offset]

    def _row(self, shard: int, row: int) -> Flat:
        return self._open(shard).row(row)

    def _open(self, shard: int) -> OpenShard:
        if shard not in self._files:
            self._files[shard] = OpenShard(self.folder / self.index.shards[shard].file)
            if len(self._files) > OPEN:
                self._files.popitem(last=False)
        self._files.move_to_end(shard)
        return self._files[shard]

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes: open files stay here."""
        return {**self.__dict__, "_files": OrderedDict()}


def order(sizes: list[int], seed: int, epoch: int) -> list[tuple[int, int]]:
    """Shard and row of every clip, in the order of an epoch: shards shuffled, and the clips within each."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    chosen = torch.randperm(len(sizes), generator=generator).tolist()
    rows = {shard: torch.randperm(sizes[shard], generator=generator).tolist() for shard in chosen}
    return [(shard, row) for shard in chosen for row in rows[shard]]


def _cast(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value


def _spread(tensors: Flat, batch: int, dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: _cast(value, dtype)[None].expand(batch, *value.shape) for name, value in tensors.items()}
