"""What README and docs say is what the code does and the records hold."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from disca.records import read

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(language: str, pages: Sequence[Path] = PAGES) -> list[str]:
    found = []
    for page in pages:
        found += re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)
    return found


def test_tables_are_those_of_the_records() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "tables.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_record_says_how_it_was_made() -> None:
    files = sorted((ROOT / "benchmarks" / "records").glob("*.jsonl"))
    assert len(files) >= 5
    for record in (record for file in files for record in read(file)):
        assert record.command and record.date and record.versions["torch"] and record.hardware["cpu"]
        assert len(record.seeds) == len(record.prompts) >= 100


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            assert link.startswith("https://") or (page.parent / link).exists(), f"{page.name}: {link}"


def test_commands_name_recipes_and_verbs_that_exist() -> None:
    for line in "\n".join(blocks("bash")).splitlines():
        for recipe in re.findall(r"recipes/\S+\.toml", line):
            assert (ROOT / recipe).is_file(), line
        verb = re.match(r"(?:.*-m disca\.cli|disca) (\w+)", line)
        if verb:
            from disca.cli.program import VERBS

            assert verb[1] in VERBS, line


@pytest.mark.long
@pytest.mark.parametrize("code", blocks("python", [page for page in PAGES if page.parent.name != "methods"]))
def test_python_blocks_run(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=300)
