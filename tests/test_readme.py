"""What README and docs say is what the code does and the records hold."""

from __future__ import annotations

import re
import subprocess
import sys

from disca.records import read
from tests.pages import PAGES, ROOT, blocks


def test_tables_are_those_of_the_records() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "tables.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_record_says_how_it_was_made() -> None:
    files = sorted((ROOT / "benchmarks" / "records").glob("*.jsonl"))
    assert len(files) >= 5
    for name, record in ((file.name, record) for file in files for record in read(file)):
        assert record.command and record.date and record.versions["torch"] and record.hardware["cpu"]
        if name != "real_size.jsonl":  # random weights have no prompts
            assert len(record.seeds) == len(record.prompts) >= 100


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            assert link.startswith("https://") or (page.parent / link).exists(), f"{page.name}: {link}"


def test_commands_name_recipes_and_verbs_that_exist() -> None:
    for line in (line for page in PAGES for block in blocks(page) if block.language == "bash" for line in block.lines):
        for recipe in re.findall(r"recipes/\S+\.toml", line):
            assert (ROOT / recipe).is_file(), line
        verb = re.match(r"(?:.*-m disca\.cli|disca) (\w+)", line)
        if verb:
            from disca.cli.program import VERBS

            assert verb[1] in VERBS, line
