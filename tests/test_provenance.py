"""What a record says of how it was made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PRINTS = "from disca.provenance import command_line\nprint(command_line())\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["-m", "some.tool"], "python -m some.tool"),
        (["some/script.py"], "script.py"),
    ],
)
def test_the_command_can_be_typed_again(given: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "some/tool").mkdir(parents=True)
    for file in ("tool/__main__.py", "script.py"):
        (tmp_path / "some" / file).write_text(PRINTS)
    command = [sys.executable, *given, "--of", "two words"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == f"{said} --of 'two words'"
