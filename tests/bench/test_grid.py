from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from disca.bench.grid import Grid, MethodEntry, ModelEntry, PeerEntry, load, parse_method, tag, write_method
from disca.bench.models import Model
from disca.bench.plan import cells_of, pairs_of
from tests.bench.conftest import make_grid

GRIDS = Path(__file__).parents[2] / "benchmarks" / "grids"


@pytest.mark.parametrize("path", sorted(GRIDS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_packaged_grids_can_be_read(path: Path) -> None:
    assert load(path).models


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nmae = 'x'", "Did you mean 'name'"),
        ("models = [{name='a', source='lab-base', stpes=[4]}]", "Did you mean 'steps'"),
        ("models = [{name='a', source='lab-base', steps=[4]}]\nbatch = 'two'", "int is expected"),
        ("models = [{name='a', source='lab-base', steps=4}]", "a list is expected"),
        ("models = []", "no rows"),
        ("models = [{name='a', source='s', steps=[4]}]\nmethods = [{method='reuse', models=['aa']}]", "model 'aa'"),
        ("models = [{name='a', source='s', steps=[4]}]\nrivals = ['eulr']", "Did you mean 'euler'"),
        ("models = [{name='a', source='s', steps=[4]}]\nbatch = 0", "batch is 0"),
        ("models = [{name='a', source='s', steps=[0]}]", "at least 1"),
        ("models = [{name='a', source='s', steps=[4]}]\nprompts = ['p']\nseeds = []", "no seeds"),
    ],
)
def test_a_mistake_in_a_grid_is_named(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "grid.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        load(file)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("tailor", {"every": 2}, "Did you mean 'taylor'"),
        ("taylor", {"evry": 2}, "Did you mean 'every'"),
        ("reuse", {"every": 9}, "every below 4"),
        ("reuse", {"full_steps": [0, 7]}, "Full step 7"),
        ("disca", {"every": 2}, "predictor"),
    ],
)
def test_a_method_that_cannot_be_is_refused_before_sampling(
    method: str, options: dict[str, Any], message: str, model: Model
) -> None:
    grid = make_grid(methods=(MethodEntry(method=method, settings=(options,)),))
    with pytest.raises(ValueError, match=message):
        cells_of(grid, {"tiny": model})


@pytest.mark.parametrize(
    ("peer", "options", "message"),
    [
        ("diffusers.first_block_cach", {}, "Did you mean 'diffusers.first_block_cache'"),
        ("diffusers.first_block_cache", {"treshold": 0.1}, "Did you mean 'threshold'"),
    ],
)
def test_so_is_a_peer(peer: str, options: dict[str, Any], message: str, model: Model) -> None:
    grid = make_grid(peers=(PeerEntry(peer=peer, settings=(options,)),))
    with pytest.raises(ValueError, match=message):
        cells_of(grid, {"tiny": model})


def test_a_grid_without_prompts_is_refused_where_the_model_has_none(model: Model) -> None:
    with pytest.raises(ValueError, match="give prompts and seeds"):
        pairs_of(make_grid(prompts=(), pairs=3), [model])


def test_every_prompt_meets_every_seed(model: Model) -> None:
    pairs = pairs_of(make_grid(prompts=("a", "b"), seeds=(3, 4)), [model])
    assert list(zip(pairs.prompts, pairs.seeds, strict=True)) == [("a", 3), ("a", 4), ("b", 3), ("b", 4)]


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("taylor(every=4, order=1)", "taylor", {"every": 4, "order": 1}),
        ("reuse(full_steps=(0, 2))", "reuse", {"full_steps": (0, 2)}),
        ("fora", "fora", {}),
        ("cache_dit.dbcache(residual_diff_threshold=0.1)", "cache_dit.dbcache", {"residual_diff_threshold": 0.1}),
    ],
)
def test_methods_are_written_as_in_records(text: str, name: str, options: dict[str, Any]) -> None:
    assert parse_method(text) == (name, options)
    assert write_method(name, options) == (text if options else "fora()")


@pytest.mark.parametrize("text", ["taylor(4)", "taylor every=4", "taylor(every=print())", ""])
def test_what_is_no_method_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="named options"):
        parse_method(text)


def test_rows_have_names_of_their_own() -> None:
    settings = [{"every": 2}, {"every": 2, "order": 2}, {"full_steps": (0, 2)}, {"full_steps": (0, 2, 4, 6)}]
    assert [tag(one) for one in settings] == ["every2", "every2_order2", "full_steps0-2", "full_steps4"]


def test_lists_of_as_many_full_steps_are_rows_of_their_own(model: Model) -> None:
    """The second one took the first one's name, and its row was left out without a word."""
    lists = ((0, 1, 2, 4), (0, 2, 3, 5), (0, 2, 4, 5))
    settings = tuple({"full_steps": one} for one in (*lists, lists[1]))
    entry = ModelEntry(name="tiny", source="tiny", steps=(6,))
    grid = make_grid(models=(entry,), methods=(MethodEntry(method="reuse", settings=settings),))
    rows = [row for row in cells_of(grid, {"tiny": model}).rows if row.extra["kind"] == "cached"]
    assert [row.extra["options"]["full_steps"] for row in rows] == list(lists)
    assert [row.name for row in rows] == ["reuse_tiny_6_full_steps4", *(
        f"reuse_tiny_6_full_steps{'-'.join(map(str, one))}" for one in lists[1:])]  # fmt: skip


def test_rivals_are_shared_and_students_get_euler_steps_only(model: Model) -> None:
    entries = (
        MethodEntry(method="reuse", settings=({"every": 2},)),
        MethodEntry(method="taylor", settings=({"every": 2},)),
    )
    grid = make_grid(methods=entries, rivals=("euler", "ab2", "unipc"))

    def rivals(student: bool) -> list[str]:
        cells = cells_of(grid, {"tiny": Model(pipe=model.pipe, student=student)})
        return [row.name for row in cells.rows if row.extra["kind"] == "rival"]

    assert rivals(student=False) == ["tiny_4_plain_2", "tiny_4_plain_2_ab2", "tiny_4_plain_2_unipc"]
    assert rivals(student=True) == ["tiny_4_plain_2"]


def test_a_full_run_that_is_another_ones_rival_is_sampled_once(model: Model) -> None:
    entry = ModelEntry(name="tiny", source="tiny", steps=(2, 4))
    grid = Grid(models=(entry,), prompts=("a",), methods=(MethodEntry(method="reuse", settings=({"every": 2},)),))
    trials = {trial.name: trial for trial in cells_of(grid, {"tiny": Model(pipe=model.pipe, student=True)}).trials}
    assert set(trials) == {"tiny_2", "tiny_4", "reuse_tiny_2_every2", "reuse_tiny_4_every2", "tiny_1"}
    assert trials["tiny_2"].references == ("tiny_4",)
