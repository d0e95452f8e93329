"""The page in a real browser."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser import NARROW, WIDE, Tab, browser

pytestmark = pytest.mark.long
__all__ = ["browser"]

STEPS = {"lab-base": 50}
SOON, LATER = 15_000, 120_000
"""Milliseconds after which something that should have come is missing."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A page of the command line's, in a process of its own."""
    output = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "disca.cli", "demo", "--port", "0", "--json", "--output", str(output / "clips")]
    with (output / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    assert server.stdout is not None
    line = server.stdout.readline()
    assert line, (output / "log").read_text()
    yield json.loads(line)["address"]
    server.terminate()
    server.wait()
    assert "Traceback" not in (output / "log").read_text(), (output / "log").read_text()


class Visit(Tab):
    """A tab with the page, and a visitor's hands."""

    def __init__(self, browser: Any, address: str, size: dict[str, int], scheme: str = "light") -> None:
        super().__init__(browser, address, size, color_scheme=scheme)
        self.page.set_default_timeout(SOON)
        self.page.locator("#run").wait_for()

    def choose(self, what: str, value: str) -> None:
        """A value of a list."""
        box = self.page.locator(f"#{what} input")
        box.click()
        self.page.get_by_role("option", name=value, exact=True).click()
        if what == "model":
            self.page.locator("#timeline-note", has_text=f"of {STEPS[value]} steps").wait_for()

    def write(self, what: str, value: str) -> None:
        """Words, or a number, in a field; then leave it."""
        field = self.page.locator(f"#{what} textarea, #{what} input").first
        field.fill(value)
        field.blur()

    def press(self, step: int) -> None:
        """A step of the timeline."""
        self.page.locator("#timeline label", has_text=re.compile(rf"^\s*{step}\s*$")).click()

    def run(self) -> None:
        """Run to the end."""
        before = self.fact("fast", "seconds")
        self.page.locator("#run").click()
        self.page.wait_for_function(
            "before => { const now = document.querySelector('[data-fact=\"fast-seconds\"]');"
            " return now && now.textContent !== before && !document.querySelector('#run').disabled; }",
            arg=before,
            timeout=LATER,
        )

    def fact(self, side: str, name: str) -> str:
        found = self.page.locator(f'[data-fact="{side}-{name}"]')
        return found.inner_text() if found.count() else ""

    def said(self, words: str) -> None:
        """Wait until the page says something."""
        self.page.locator("#status", has_text=words).wait_for(timeout=LATER)


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Visit]:
    made = Visit(browser, address, WIDE)
    yield made
    assert not made.complaints
    assert all(url.startswith((address, "data:", "blob:")) for url in made.asked), made.asked
    made.close()


def plays(visit: Visit) -> None:
    """All clips move, and stay together."""
    moments = "[...document.querySelectorAll('.player video')].map(video => video.currentTime)"
    visit.page.wait_for_function(f"{moments}.length === 3 && {moments}.every(moment => moment > 0)")
    before = visit.page.evaluate(moments)
    visit.page.wait_for_function(
        f"before => {moments}.every((moment, at) => Math.abs(moment - before[at]) > 0.05)", arg=before
    )
    visit.page.wait_for_function(
        "() => { const [a, b] = [...document.querySelectorAll('.player video')];"
        " const off = Math.abs(a.currentTime - b.currentTime); return Math.min(off, a.duration - off) < 0.15; }"
    )


def test_two_methods_on_one_prompt(visit: Visit) -> None:
    visit.picture("demo_1_opened")
    visit.run()
    plays(visit)
    assert visit.fact("full", "passes") == "8" and visit.fact("fast", "passes") == "4"
    first = {name: visit.fact("apart", name) for name in ("PSNR", "relative L2")}
    visit.picture("demo_2_disca")
    visit.choose("method", "taylor")
    visit.press(1)
    visit.page.locator("#timeline-note", has_text="5 of 8").wait_for()
    visit.run()
    plays(visit)
    assert visit.fact("fast", "passes") == "5"
    assert {name: visit.fact("apart", name) for name in first} != first
    assert visit.page.locator("#picture .this").count() == 1
    visit.picture("demo_3_taylor")


def test_clips_can_be_stopped(visit: Visit) -> None:
    visit.run()
    visit.page.get_by_role("button", name="Pause").click()
    visit.page.wait_for_function("[...document.querySelectorAll('.player video')].every(video => video.paused)")
    visit.page.get_by_role("button", name="Play").click()
    plays(visit)


def test_a_run_can_be_cancelled_and_the_next_one_runs(visit: Visit) -> None:
    visit.choose("model", "lab-base")
    visit.write("steps", "200")
    visit.page.locator("#run").click()
    visit.said("step 3")
    visit.page.locator("#cancel").click()  # at once: a picture takes longer than a quick machine's run
    visit.said("Cancelled after step")
    visit.picture("demo_4_cancelled")
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
    visit.page.locator("#run").click()
    visit.said(words)
    if "purple" in value:
        visit.picture("demo_6_unknown_word")
    visit.write(field, {"prompt": "a red seven drifting left", "steps": "4", "seed": "0"}[field])
    visit.run()


def test_a_phone(browser: Any, address: str) -> None:
    visit = Visit(browser, address, NARROW)
    visit.picture("demo_7_narrow_opened")
    visit.run()
    plays(visit)
    visit.press(3)
    visit.page.locator("#timeline-note", has_text="5 of 8").wait_for()
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    visit.picture("demo_8_narrow")
    visit.close()


def test_at_night(browser: Any, address: str) -> None:
    visit = Visit(browser, address, WIDE, "dark")
    visit.choose("method", "teacache")
    visit.page.locator("#timeline-note", has_text="decides while it runs").wait_for()
    visit.run()
    ground = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(22, 24, 27)"
    visit.picture("demo_10_dark")
    visit.close()


def test_two_tabs_and_one_that_leaves(browser: Any, address: str) -> None:
    """One runs, the other waits for it; when the first is closed in the middle, the second has its turn."""
    first, second = (Visit(browser, address, WIDE) for _ in range(2))
    first.choose("model", "lab-base")
    first.write("steps", "200")
    first.page.locator("#run").click()
    first.said("step 2")
    second.page.locator("#run").click()
    second.said("Waiting for another run to end")
    second.picture("demo_9_waiting")
    first.close()
    second.page.locator('[data-fact="fast-seconds"]').wait_for(timeout=LATER)
    second.close()
