"""Reading shards: every clip once an epoch, nobody's twice, and the same again."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from disca.data import Shards, shards
from disca.data.index import SHARED, Index, Plan
from disca.data.reader import order
from disca.data.shards import Writer, flatten

PLAN = Plan(width=8, height=8, frames=1, dtype="float32")
EMPTY = Index(pipeline="WanPipeline", encoders={}, plan=PLAN, latent_shape=(1, 1, 1, 1), normalised={}, boundary=0.875)


def make(folder: Path, sizes: list[int]) -> Shards:
    """Clips whose latents are their number, in shards of these sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    shards.write(folder / SHARED, {"unconditional.a": torch.zeros(2), "condition.fixed": torch.ones(3)})
    writer, number = Writer(folder, EMPTY, per_shard=1000), 0
    for size in sizes:
        for _ in range(size):
            latents = torch.full((1, 1, 1, 1), float(number))
            prompt = {"a": torch.tensor([number, 1.0]), "mask": torch.tensor([True, False])}
            writer.add(f"n{number}", f"t{number}", {"latents": latents, **flatten(prompt=prompt)})
            number += 1
        writer.flush()
    return Shards.open(folder)


def numbers(stream: object, batches: int) -> list[int]:
    return [int(value) for batch in islice(stream, batches) for value in batch["latents"].flatten()]  # type: ignore[call-overload]


@given(st.lists(st.integers(1, 7), min_size=1, max_size=5), st.integers(1, 4), st.integers(0, 3), st.integers(0, 5))
def test_an_epoch_has_every_clip_once(sizes: list[int], ranks: int, seed: int, epoch: int) -> None:
    places = order(sizes, seed, epoch)
    assert sorted(places) == [(shard, row) for shard, size in enumerate(sizes) for row in range(size)]
    assert [shard for shard, _ in places] == sorted((s for s, _ in places), key=[s for s, _ in places].index)


@settings(max_examples=10)
@given(st.sampled_from([[12], [5, 7], [3, 3, 3, 4]]), st.integers(1, 3), st.integers(1, 4))
def test_processes_share_an_epoch_without_overlap(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], ranks: int, batch: int
) -> None:
    data = make(tmp_path_factory.mktemp("shards"), sizes)
    share = len(data) // ranks
    seen = [numbers(data.stream(batch, rank=rank, ranks=ranks), share) for rank in range(ranks)]
    firsts = [clips[:share] for clips in seen]
    assert len({clip for clips in firsts for clip in clips}) == share * ranks
    for clips in seen:  # and the next epoch has another order
        epochs = [clips[start : start + share] for start in range(0, len(clips) - share + 1, share)]
        assert all(len(set(epoch)) == share for epoch in epochs)


def test_the_same_seed_gives_the_same_and_another_another(tmp_path: Path) -> None:
    data = make(tmp_path, [5, 7, 4])
    assert numbers(data.stream(3, seed=1), 9) == numbers(data.stream(3, seed=1), 9)
    assert numbers(data.stream(3, seed=1), 9) != numbers(data.stream(3, seed=2), 9)
    stream = data.stream(1, seed=1)
    assert numbers(stream, 16) != numbers(stream, 16)


def test_a_batch_is_whole(tmp_path: Path) -> None:
    data = make(tmp_path, [5, 7])
    batch = data.stream(4, dtype=torch.float64).at(1)
    clips = batch["latents"].flatten().tolist()
    assert batch["latents"].shape == (4, 1, 1, 1, 1) and batch["latents"].dtype == torch.float64
    assert batch["prompt"]["a"][:, 0].tolist() == clips and batch["prompt"]["mask"].dtype == torch.bool
    assert batch["texts"] == [f"t{int(clip)}" for clip in clips]
    assert batch["condition"]["fixed"].shape == (4, 3)
    assert data.unconditional(2)["a"].shape == (2, 2)
    assert data.boundary == 0.875 and len(data) == 12 and data.latent_shape == (1, 1, 1, 1)


def test_a_stream_goes_on_where_it_was(tmp_path: Path) -> None:
    data = make(tmp_path, [5, 7])
    stream = data.stream(3, seed=4)
    numbers(stream, 5)
    state, rest = stream.state_dict(), numbers(stream, 6)
    again = data.stream(3, seed=4)
    again.load_state_dict(state)
    assert numbers(again, 6) == rest
    with pytest.raises(ValueError, match="seed differ"):
        data.stream(3, seed=5).load_state_dict(state)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_change_nothing(tmp_path: Path, workers: int) -> None:
    data = make(tmp_path, [5, 7])
    stream = data.stream(3, seed=4)
    stream.position = 2
    assert numbers(stream.loader(workers), 5) == [
        int(value) for at in range(2, 7) for value in data.stream(3, seed=4).at(at)["latents"].flatten()
    ]
    assert stream.position == 7


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no index.json.*disca encode"):
        Shards.open(tmp_path)
    data = make(tmp_path, [3, 3])
    with pytest.raises(ValueError, match="6 clips cannot be shared by 7 processes"):
        data.stream(1, ranks=7)
    with pytest.raises(ValueError, match="rank 2"):
        data.stream(1, rank=2, ranks=2)
    (tmp_path / "shard-00001.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"shard-00001.* is missing or damaged"):
        numbers(data.stream(2), 3)
    (tmp_path / "index.json").write_text('{"schema": 7}')
    with pytest.raises(ValueError, match="schema"):
        Shards.open(tmp_path)
    EMPTY.write(tmp_path)
    with pytest.raises(ValueError, match="no clips"):
        Shards.open(tmp_path)
