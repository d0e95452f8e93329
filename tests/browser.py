"""Debian's Chromium without a window, for tests of pages: a fixture, and a tab that notes requests and complaints.

Pictures of what pages looked like go into `build/screenshots`, or where DISCA_SCREENSHOTS says.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PICTURES = Path(os.environ.get("DISCA_SCREENSHOTS", Path(__file__).parents[1] / "build" / "screenshots"))
NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDE, NARROW = {"width": 1200, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, NAMES)), None)
    assert program, f"There is none of {', '.join(NAMES)}. On Debian: apt-get install chromium."
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


class Tab:
    """A page that is open."""

    def __init__(self, browser: Any, address: str, size: dict[str, int], **options: Any) -> None:
        self.context = browser.new_context(viewport=size, **options)
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda said: said.type in ("error", "warning") and self.complaints.append(said.text))
        self.page.goto(address)

    def picture(self, name: str) -> None:
        """Keep how it looks."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=PICTURES / f"{name}.png", full_page=True)

    def close(self) -> None:
        self.context.close()
