"""diffusers' caches as drivers, on a tiny guided pipeline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from disca.bench.bench import bench, bench_cell
from disca.bench.grid import PeerEntry
from disca.bench.models import Model, Pairs
from disca.bench.peers import PEERS, PeerDriver
from disca.bench.sampling import Call, Trial, sample
from disca.errors import unknown
from tests.bench.conftest import PROMPTS, make_grid
from tests.bench.test_bench import Loader, by_name

PAIR = Pairs(PROMPTS[:1], (0,))
SAVING: dict[str, dict[str, Any]] = {
    "diffusers.first_block_cache": {"threshold": 10.0},
    "diffusers.taylor_seer_cache": {"cache_interval": 3, "disable_cache_before_step": 2, "use_lite_mode": True},
    "diffusers.mag_cache": {"threshold": 1.0, "retention_ratio": 0.25, "mag_ratios": [1.0] * 8},
    "diffusers.pyramid_attention_broadcast": {"spatial_attention_block_skip_range": 2},
    "diffusers.sea_cache": {"threshold": 10.0},
}
"""Options under which something is left out."""
IDLE: dict[str, dict[str, Any]] = {
    "diffusers.first_block_cache": {"threshold": 0.0},
    "diffusers.taylor_seer_cache": {"cache_interval": 1},
    "diffusers.mag_cache": {"threshold": 0.0, "mag_ratios": [0.5] * 8},
    "diffusers.pyramid_attention_broadcast": {"spatial_attention_block_skip_range": 1},
    "diffusers.sea_cache": {"threshold": 0.0},
}
"""Options under which everything is computed."""


@pytest.fixture
def guided(model: Model) -> Model:
    return replace(model, call={"guidance_scale": 3.0})


def run(model: Model, peer: str = "", options: dict[str, Any] | None = None) -> Call:
    policy: Any = PeerDriver(peer, options or {}) if peer else ()
    return sample(Trial(name="t", model=model, steps=8, policy=policy), PAIR)


def test_every_cache_of_diffusers_is_here() -> None:
    assert {name for name in PEERS if name.startswith("diffusers.")} == set(SAVING) == set(IDLE)
    assert "Did you mean" in unknown("peer", "diffusers.magcache", PEERS)


@pytest.mark.parametrize("peer", IDLE)
def test_a_peer_that_leaves_nothing_out_changes_nothing_and_counts_every_step(peer: str, guided: Model) -> None:
    plain, found = run(guided), run(guided, peer, IDLE[peer])
    assert found.facts["full"] == list(range(8)) and found.facts["evaluations"] == 16
    torch.testing.assert_close(found.latents, plain.latents)
    assert found.facts["bytes_held"] is None


@pytest.mark.parametrize("peer", SAVING)
def test_what_is_left_out_is_counted_and_nothing_stays_behind(peer: str, guided: Model) -> None:
    plain = run(guided).latents
    found = run(guided, peer, SAVING[peer])
    assert found.facts["evaluations"] < 16 and 0 in found.facts["full"]
    assert not torch.equal(found.latents, plain)
    again = run(guided, peer, SAVING[peer])
    assert torch.equal(again.latents, found.latents) and again.facts["full"] == found.facts["full"]
    after: Tensor = run(guided).latents
    assert torch.equal(after, plain)


def test_the_full_steps_of_diffusers_taylorseer_are_those_of_its_rule(guided: Model) -> None:
    assert run(guided, "diffusers.taylor_seer_cache", SAVING["diffusers.taylor_seer_cache"]).facts["full"] == [
        0,
        1,
        3,
        6,
    ]


def test_a_row_that_its_process_could_not_load_fails_and_is_measured_when_it_can(tmp_path: Path) -> None:
    """The process of its own knows no source called 'tiny'; in this process it is known."""
    entry = PeerEntry(peer="diffusers.first_block_cache", settings=({"threshold": 10.0},))
    grid, loader = make_grid(peers=(entry,)), Loader()
    name = "diffusers_first_block_cache_tiny_4_threshold10.0"
    failed = by_name(bench(grid, tmp_path, loader).records)[name]
    assert "Unknown model of the lab 'tiny'" in failed.extra["error"] and failed.seconds is None
    bench_cell(tmp_path, name, loader)
    rows = by_name(bench(grid, tmp_path, loader).records)
    row = rows[name]
    assert "error" not in row.extra and row.full_steps == (0,) and row.transformer_evaluations == 1
    assert row.reference == row.speedup_over == "tiny_4_batch1" and row.speedup and row.latent_l2
    assert row.flops and row.flops < 0.6 * (rows["tiny_4"].flops or 0)
    assert row.extra["rivals"] == ["tiny_4_plain_1"]
    with pytest.raises(ValueError, match="row of a peer"):
        bench_cell(tmp_path, "tiny_4", loader)
    with pytest.raises(ValueError, match="No grid was begun"):
        bench_cell(tmp_path / "other", name, loader)


@pytest.mark.long
def test_the_smoke_grid_measures_everything_including_a_peer_in_its_own_process(tmp_path: Path) -> None:
    from disca.cli import main
    from disca.records import read

    smoke = Path(__file__).parents[2] / "benchmarks" / "grids" / "smoke.toml"
    assert main(["bench", "--grid", str(smoke), "--output", str(tmp_path)]) == 0
    rows = read(tmp_path / "records.jsonl")
    assert not [row.name for row in rows if "error" in row.extra]
    assert all(row.seconds and row.flops and row.frechet and row.semantic_accuracy is not None for row in rows)
    assert (tmp_path / "index.html").is_file() and list((tmp_path / "clips").glob("*.gif"))
