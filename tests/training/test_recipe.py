"""Recipes are strict values."""

from __future__ import annotations

from pathlib import Path

import pytest

from disca.training.recipe import load
from disca.training.train import train

MINIMAL = 'name = "x"\nstage = "flow_matching"\nsource = "disca.lab.source:LabSource"\niterations = 3\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(MINIMAL + "[optimiser]\nlr = 1e-3\nbetas = [0.8, 0.9]\n")
    return path


def test_tables_become_values_and_defaults_fill_in(file: Path) -> None:
    recipe = load(file)
    assert (recipe.iterations, recipe.optimiser.lr, recipe.optimiser.betas) == (3, 1e-3, (0.8, 0.9))
    assert recipe.optimiser.clip == 1.0


def test_changes_reach_nested_keys(file: Path) -> None:
    recipe = load(file, ["optimiser.lr=1", "seed=7", "objective.dropped=0.2", "name=other", "compile=true"])
    assert (recipe.optimiser.lr, recipe.seed, recipe.name, recipe.compile) == (1.0, 7, "other", True)
    assert recipe.objective == {"dropped": 0.2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("itertions=4", "Did you mean 'iterations'"),
        ("optimiser.lrr=4", "Did you mean 'lr'"),
        ("iterations=4.5", "int is expected"),
        ("compile=1", "bool is expected"),
        ("seed", "key=value"),
    ],
)
def test_a_bad_change_is_explained(file: Path, change: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(file, [change])


def test_a_missing_recipe_and_a_missing_key_are_explained(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no recipe at"):
        load(tmp_path / "none.toml")
    (tmp_path / "r.toml").write_text('name = "x"\n')
    with pytest.raises(ValueError, match="iterations"):
        load(tmp_path / "r.toml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stage=flow_maching", "Did you mean 'flow_matching'"),
        ("stage=disca.nowhere:Thing", "cannot be found"),
        ("objective.droped=0.1", "Did you mean 'dropped'"),
        ("source=disca.lab.source:Nothing", "cannot be found"),
    ],
)
def test_a_bad_stage_or_source_is_refused_before_any_work(
    file: Path, tmp_path: Path, change: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        train(file, overrides=[change], output=tmp_path / "run")


def test_the_lab_recipes_are_valid() -> None:
    recipes = sorted((Path(__file__).parents[2] / "recipes").glob("lab_*.toml"))
    assert [load(path).name for path in recipes] == [path.stem for path in recipes]
    assert len(recipes) >= 5
