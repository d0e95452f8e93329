"""Every command and block of README and docs does what its page says: each page is followed in an empty folder."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import disca
from tests.pages import PAGES, ROOT, RUN, SAVED, SHOWN, Block, blocks, follow

DOCS = ROOT / "docs"
METHODS = DOCS / "methods"
"""Their blocks are run by ``test_methods_pages.py``, in one process."""
FOLLOWED = [page for page in PAGES if page.parent != METHODS and any(block.is_run for block in blocks(page))]


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_block_escapes(page: Path) -> None:
    """Each is in a language that is run, saved or shown, and what is saved has a name."""
    assert page.read_text().count("```") == 2 * len(blocks(page))
    for block in blocks(page):
        assert block.language in (*RUN, *SAVED, *SHOWN)
        assert block.language not in SAVED or block.file


@pytest.mark.long
@pytest.mark.parametrize("page", FOLLOWED, ids=named)
def test_a_page_can_be_followed(page: Path, tmp_path: Path) -> None:
    follow(page, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("```python\nraise RuntimeError('no such thing')\n```", "no such thing"),
        ("```bash\ncat nothing\n```", "nothing"),
        ("```bash\ntrue\ndisca schedule fora --every 0 --steps 8\n```", "every"),
    ],
)
def test_what_fails_on_a_page_fails_here(block: str, said: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# A page\n\n{block}\n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AssertionError, match=rf"(?s)page\.md, block 1 ended with .*{said}"):
        follow(page, tmp_path / "empty")


def test_what_a_block_asks_of_the_tests() -> None:
    said = "Text.\n\n*The tests add `--set a=1`.*"
    block = Block("bash", "FEW=1 torchrun -m disca.cli train x.toml \\\n  --resume  # on\n\nls\n", said)
    assert block.is_run
    assert block.lines == ["FEW=1 torchrun -m disca.cli train x.toml    --resume --set a=1", "ls"]
    assert not Block("bash", "ls\n", "*Not run by the tests: it needs real weights.*").is_run
    assert Block("toml", "# mine.toml\nx = 1\n", "").file == "mine.toml"


def test_figures_are_those_of_the_records() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "figures.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_reference_has_every_public_name() -> None:
    pages = "\n".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    listed = {name.rpartition(".")[2] for name in re.findall(r"^::: (disca\.\S+)$", pages, re.MULTILINE)}
    assert {*disca.__all__} - {"__version__"} <= listed


@pytest.mark.long
def test_the_site_builds_without_a_warning_and_asks_no_server(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = sorted(tmp_path.rglob("*.html"))
    sources = [page.relative_to(DOCS) for page in PAGES if page.is_relative_to(DOCS)]
    wanted = {source.with_name(source.name.replace("README", "index")).with_suffix(".html") for source in sources}
    assert wanted <= {page.relative_to(tmp_path) for page in pages}
    for page in pages:
        fetched = re.findall(r"""<(?:script|link|img|iframe)[^>]*(?:src|href)="?(https?://[^" >]+)""", page.read_text())
        assert not fetched, f"{page.name}: {fetched}"
