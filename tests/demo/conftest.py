from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from disca.bench.models import Model
from disca.demo.curve import PACKAGED, read
from disca.demo.forms import Form, blank
from disca.demo.studio import Studio, View
from disca.demo.subjects import Shelf, subjects


@pytest.fixture(scope="session")
def shelf() -> Shelf:
    return Shelf(subjects(("lab",), ()))


@pytest.fixture(scope="session")
def student(shelf: Shelf) -> Model:
    """The lab's student with the weights that come with the package."""
    return shelf.load("lab-student")


@pytest.fixture(autouse=True)
def timed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are not repeated for their seconds, which no test asks for."""
    monkeypatch.setattr("disca.demo.runs.FEWEST", 1)
    monkeypatch.setattr("disca.demo.runs.BRIEF", 0.0)


@pytest.fixture
def studio(shelf: Shelf, tmp_path: Path) -> Studio:
    return Studio(shelf=shelf, records=read([PACKAGED]), output=tmp_path / "out")


@pytest.fixture
def form(shelf: Shelf) -> Form:
    return blank(shelf)


@pytest.fixture
def views(studio: Studio, form: Form) -> Callable[..., list[View]]:
    """The views of a run of the opened page's form, with changes."""

    def run(**changes: Any) -> list[View]:
        return list(studio.run("a tab", replace(form, **changes)))

    return run
