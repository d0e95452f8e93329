"""What the site does to pages that also read well as plain files: links out of docs/, and figures.

A link to a file of the repository outside of docs/, such as a record, becomes a link to a copy that the site carries. A
figure is put into the page itself, so that it takes the page's colours, light or dark.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
LINK = re.compile(r"(\]\()(?!\w+:|#)([^)#\s]+)((?:#[^)]*)?\))")
FIGURE = re.compile(r'<img alt="([^"]*)" src="[^"]*?figures/(\w+)\.svg" ?/?>')
ROLE = re.compile(r":(?:func|class|meth|data|attr|mod|exc):(?=<code>)")
"""What docstrings mark names with."""
COPIES = "repository"
"""Folder of the site with the files outside of docs/ that pages link to."""
TEXT = {".py", ".toml", ".jsonl", ".md"}
"""What a browser would offer to save instead of showing."""


def on_files(files: Any, config: Any) -> Any:
    """Add the files that pages link to."""
    for page in [file for file in files if file.is_documentation_page()]:
        for match in LINK.finditer(page.content_string):
            target = _outside(page.src_uri, match[2])
            if target is not None and files.get_file_from_path(_copy(target)) is None:
                files.append(File.generated(config, _copy(target), abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Lead links out of docs/ to the copies."""
    here = page.file.src_uri

    def lead(match: re.Match[str]) -> str:
        target = _outside(here, match[2])
        if target is None:
            return match[0]
        return match[1] + posixpath.relpath(_copy(target), posixpath.dirname(here) or ".") + match[3]

    return LINK.sub(lead, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Put figures into the page, and leave names without their roles."""

    def figure(match: re.Match[str]) -> str:
        return f'<figure class="drawn">{(DOCS / "figures" / f"{match[2]}.svg").read_text()}</figure>'

    return ROLE.sub("", FIGURE.sub(figure, html))


def _outside(page: str, link: str) -> str | None:
    """The path in the repository that a page links to, where it is a file outside of docs/."""
    path = os.path.normpath(DOCS / posixpath.dirname(page) / link)
    outside = Path(path).is_file() and Path(path).is_relative_to(ROOT) and not Path(path).is_relative_to(DOCS)
    return Path(path).relative_to(ROOT).as_posix() if outside else None


def _copy(target: str) -> str:
    ending = ".txt" if Path(target).suffix in TEXT else ""
    return f"{COPIES}/{target}{ending}"
