from __future__ import annotations

import subprocess
import sys

import pytest


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after a statement."""
    code = f"import sys; {statement}; print(*sys.modules, sep='\\n')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in run.stdout.split()}


HEAVY = {"diffusers", "transformers", "accelerate", "gradio", "matplotlib", "sklearn", "tensorboard"}


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import disca", HEAVY | {"torch"}),
        ("import disca.records, disca.files, disca.schedules, disca.errors", HEAVY | {"torch"}),
        ("import disca.report.page, disca.report.table, disca.report.clips", HEAVY | {"torch"}),
        ("import disca.cli", HEAVY | {"torch", "jinja2", "PIL", "numpy"}),
        ("import disca.flow, disca.objectives, disca.metrics.fidelity", HEAVY),
    ],
)
def test_an_import_stays_light(statement: str, unwanted: set[str]) -> None:
    loaded = loaded_by(statement)
    assert "disca" in loaded
    assert not loaded & unwanted


def test_every_public_name_is_there_and_an_unknown_one_is_not() -> None:
    import disca

    assert {"attach", "reuse", "taylor", "disca", "Schedule"} <= set(disca.__all__)
    for name in disca.__all__:
        assert getattr(disca, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        disca.nothing  # noqa: B018
