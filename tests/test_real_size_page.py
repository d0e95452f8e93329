"""The derived tables are those of their record."""

from __future__ import annotations

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_page_says_what_its_record_says() -> None:
    spec = spec_from_file_location("real_size_derived", ROOT / "benchmarks" / "real_size_derived.py")
    assert spec is not None and spec.loader is not None
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    page, found = script.PAGE.read_text(), json.loads(script.FILE.read_text())
    assert found["derived"]
    assert script.fill(page, found) == page
    assert script.fill(page, {**found, "rows": found["rows"][:-1]}) != page
