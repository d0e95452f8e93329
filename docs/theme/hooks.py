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
    """Add the files that pages link to; of a folder, each file in it and a list of them."""
    for page in [file for file in files if file.is_documentation_page()]:
        for match in LINK.finditer(page.content_string):
            target = _outside(page.src_uri, match[2])
            if target is None or files.get_file_from_path(_copy(target)) is not None:
                continue
            path = ROOT / target
            if path.is_dir():
                inside = sorted(f"{target}/{file.name}" for file in path.iterdir() if file.is_file())
                files.append(File.generated(config, _copy(target), content=_listed(target, inside)))
            else:
                inside = [target]
            for name in inside:
                files.append(File.generated(config, _copy(name), abs_src_path=str(ROOT / name)))
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
    """The path in the repository that a page links to, where it is outside of docs/."""
    path = Path(os.path.normpath(DOCS / posixpath.dirname(page) / link))
    outside = path.exists() and path.is_relative_to(ROOT) and not path.is_relative_to(DOCS)
    return path.relative_to(ROOT).as_posix() if outside else None


def _copy(target: str) -> str:
    if (ROOT / target).is_dir():
        return f"{COPIES}/{target}/list.html"
    ending = ".txt" if Path(target).suffix in TEXT else ""
    return f"{COPIES}/{target}{ending}"


def _listed(folder: str, names: list[str]) -> str:
    """A bare page of links."""
    rows = "\n".join(f'<li><a href="{Path(_copy(name)).name}">{Path(name).name}</a></li>' for name in names)
    return f"<!doctype html><title>{folder}</title><h1>{folder}</h1><ul>\n{rows}\n</ul>\n"
