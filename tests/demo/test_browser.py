"""The page in a real browser: Debian's Chromium, without a window.

Pictures of what it looked like go into `build/screenshots`, or where DISCA_SCREENSHOTS says.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
PICTURES = Path(os.environ.get("DISCA_SCREENSHOTS", ROOT / "build" / "screenshots"))
NAMES = ("chromium", "chromium-browser", "google-chrome")
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
STEPS = {"lab-base": 50}
SOON, LATER = 15_000, 120_000
"""Milliseconds after which something that should have come is missing."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A page of the command line's, in a process of its own."""
    output = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "disca.cli", "demo", "--port", "0", "--output", str(output / "clips")]
    with (output / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    assert server.stdout is not None
    line = server.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+/", line)
    assert found, (output / "log").read_text()
    yield found[0]
    server.terminate()
    server.wait()
    assert "Traceback" not in (output / "log").read_text(), (output / "log").read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, NAMES)), None)
    assert program, f"There is none of {', '.join(NAMES)}: make check-long installs Chromium where it can."
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


class Visit:
    """A tab, what it asked for, and what its console said."""

    def __init__(self, browser: Any, address: str, size: dict[str, int]) -> None:
        self.context = browser.new_context(viewport=size, color_scheme="light")
        self.tab = self.context.new_page()
        self.asked: list[str] = []
        self.errors: list[str] = []
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab.set_default_timeout(SOON)
        self.tab.goto(address)
        self.tab.locator("#run").wait_for()

    def choose(self, what: str, value: str) -> None:
        """A value of a list."""
        box = self.tab.locator(f"#{what} input")
        box.click()
        self.tab.get_by_role("option", name=value, exact=True).click()
        if what == "model":
            self.tab.locator("#timeline-note", has_text=f"of {STEPS[value]} steps").wait_for()

    def write(self, what: str, value: str) -> None:
        """Words, or a number, in a field; then leave it."""
        field = self.tab.locator(f"#{what} textarea, #{what} input").first
        field.fill(value)
        field.blur()

    def press(self, step: int) -> None:
        """A step of the timeline."""
        self.tab.locator("#timeline label", has_text=re.compile(rf"^\s*{step}\s*$")).click()

    def run(self) -> None:
        """Run to the end."""
        before = self.fact("fast", "seconds")
        self.tab.locator("#run").click()
        self.tab.wait_for_function(
            "before => { const now = document.querySelector('[data-fact=\"fast-seconds\"]');"
            " return now && now.textContent !== before && !document.querySelector('#run').disabled; }",
            arg=before,
            timeout=LATER,
        )

    def fact(self, side: str, name: str) -> str:
        found = self.tab.locator(f'[data-fact="{side}-{name}"]')
        return found.inner_text() if found.count() else ""

    def said(self, words: str) -> None:
        """Wait until the page says something."""
        self.tab.locator("#status", has_text=words).wait_for(timeout=LATER)

    def picture(self, name: str) -> None:
        PICTURES.mkdir(parents=True, exist_ok=True)
        self.tab.screenshot(path=PICTURES / f"{name}.png", full_page=True)

    def close(self) -> None:
        self.context.close()


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Visit]:
    made = Visit(browser, address, WIDE)
    yield made
    assert not made.errors
    assert all(url.startswith((address, "data:", "blob:")) for url in made.asked), made.asked
    made.close()


def plays(visit: Visit) -> None:
    """All clips move, and stay together."""
    moments = "[...document.querySelectorAll('.player video')].map(video => video.currentTime)"
    visit.tab.wait_for_function(f"{moments}.length === 3 && {moments}.every(moment => moment > 0)")
    before = visit.tab.evaluate(moments)
    visit.tab.wait_for_function(
        f"before => {moments}.every((moment, at) => Math.abs(moment - before[at]) > 0.05)", arg=before
    )
    visit.tab.wait_for_function(
        "() => { const [a, b] = [...document.querySelectorAll('.player video')];"
        " const off = Math.abs(a.currentTime - b.currentTime); return Math.min(off, a.duration - off) < 0.15; }"
    )


def test_two_methods_on_one_prompt(visit: Visit) -> None:
    visit.picture("1_opened")
    visit.run()
    plays(visit)
    assert visit.fact("full", "passes") == "8" and visit.fact("fast", "passes") == "4"
    first = {name: visit.fact("apart", name) for name in ("PSNR", "relative L2")}
    visit.picture("2_disca")
    visit.choose("method", "taylor")
    visit.press(1)
    visit.tab.locator("#timeline-note", has_text="5 of 8").wait_for()
    visit.run()
    plays(visit)
    assert visit.fact("fast", "passes") == "5"
    assert {name: visit.fact("apart", name) for name in first} != first
    assert visit.tab.locator("#picture .this").count() == 1
    visit.picture("3_taylor")


def test_clips_can_be_stopped(visit: Visit) -> None:
    visit.run()
    visit.tab.get_by_role("button", name="Pause").click()
    visit.tab.wait_for_function("[...document.querySelectorAll('.player video')].every(video => video.paused)")
    visit.tab.get_by_role("button", name="Play").click()
    plays(visit)


def test_a_run_can_be_cancelled_and_the_next_one_runs(visit: Visit) -> None:
    visit.choose("model", "lab-base")
    visit.write("steps", "200")
    visit.tab.locator("#run").click()
    visit.said("step 3")
    visit.picture("4_running")
    visit.tab.locator("#cancel").click()
    visit.said("Cancelled after step")
    visit.picture("5_cancelled")
    visit.write("steps", "4")
    visit.run()
    plays(visit)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("prompt", "", "There is no prompt"),
        ("prompt", "a" * 10_000, "10,000 characters"),
        ("prompt", "a red seven drifting left 🙂", "The lab does not know '🙂'"),
        ("prompt", "a purple seven drifting left", "It knows colours"),
        ("steps", "0", "from 1 to 200; given 0"),
        ("steps", "1000", "from 1 to 200; given 1000"),
        ("seed", "-1", "The seed"),
    ],
)
def test_bad_input_is_said_on_the_page(visit: Visit, field: str, value: str, words: str) -> None:
    visit.write(field, value)
    visit.tab.locator("#run").click()
    visit.said(words)
    if "purple" in value:
        visit.picture("6_unknown_word")
    visit.write(field, {"prompt": "a red seven drifting left", "steps": "4", "seed": "0"}[field])
    visit.run()


def test_a_phone(browser: Any, address: str) -> None:
    visit = Visit(browser, address, NARROW)
    visit.picture("7_narrow_opened")
    visit.run()
    plays(visit)
    visit.press(3)
    visit.tab.locator("#timeline-note", has_text="5 of 8").wait_for()
    assert visit.tab.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    visit.picture("8_narrow")
    visit.close()


def test_two_tabs_and_one_that_leaves(browser: Any, address: str) -> None:
    """One runs, the other waits for it; when the first is closed in the middle, the second has its turn."""
    first, second = (Visit(browser, address, WIDE) for _ in range(2))
    first.choose("model", "lab-base")
    first.write("steps", "200")
    first.tab.locator("#run").click()
    first.said("step 2")
    second.tab.locator("#run").click()
    second.said("Waiting for another run to end")
    second.picture("9_waiting")
    first.close()
    second.tab.locator('[data-fact="fast-seconds"]').wait_for(timeout=LATER)
    second.close()
