"""The page of a report, opened from disk in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from disca.cli import main
from tests.browser import NARROW, WIDE, Tab, browser

pytestmark = pytest.mark.long
__all__ = ["browser"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart's, of few clips."""
    folder = tmp_path_factory.mktemp("quickstart")
    assert main(["lab", "show", "--prompts", "6", "--output", str(folder), "--quiet"]) == 0
    return folder / "index.html"


@pytest.fixture(params=[("light", WIDE), ("dark", WIDE), ("light", NARROW)], ids=["light", "dark", "narrow"])
def tab(request: pytest.FixtureRequest, browser: Any, page: Path) -> Iterator[Tab]:
    scheme, size = request.param
    opened = Tab(browser, page.as_uri(), size, color_scheme=scheme)
    yield opened
    opened.picture(f"report_{scheme}_{size['width']}")
    opened.close()


def rows(tab: Tab) -> list[str]:
    return tab.page.eval_on_selector_all("#rows tbody tr", "rows => rows.map(row => row.dataset.row)")


def ground(tab: Tab) -> int:
    """Brightness of the page's ground, from 0 to 765."""
    colour = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))


def test_it_needs_no_network_and_does_what_it_should(tab: Tab, page: Path) -> None:
    assert [url for url in tab.asked if not url.startswith("data:")] == [page.as_uri()]
    assert page.stat().st_size < 20_000_000

    # Nothing reaches over the edge; at 1200 pixels the table needs no scrolling, and on a phone it scrolls by itself.
    assert tab.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    fits = tab.page.evaluate("(t => t.scrollWidth <= t.parentElement.clientWidth)(document.getElementById('rows'))")
    assert fits or tab.page.viewport_size == NARROW

    # The button shows the other columns, and hides them again.
    button, held = tab.page.locator("#columns button"), tab.page.locator("th", has_text="held")
    assert not held.is_visible()
    button.click()
    assert held.is_visible()
    button.click()
    assert not held.is_visible()

    # A click on a heading sorts, another one turns round.
    head = tab.page.locator("#rows thead button", has_text="evaluations")
    head.click()
    first = rows(tab)
    head.click()
    assert first[-1] == rows(tab)[0] == "base_50" and first[0] in ("disca_8_4", "reuse_8_4", "taylor_8_4")

    # A point tells its values to the pointer and to the keyboard.
    tip = tab.page.locator("#tip")
    assert not tip.is_visible()
    tab.page.locator(".frontier [data-row=disca_8_4]").first.hover()
    assert "student + DisCa" in tip.inner_text() and "times faster, relative L2 0." in tip.inner_text()
    tab.page.locator(".path .step.forecast").first.focus()
    assert "step 1, forecast: 0." in tip.inner_text()
    box = tip.bounding_box()
    assert box and box["x"] >= 0 and box["x"] + box["width"] <= tab.page.viewport_size["width"]

    # The clips play, in step, and stop.
    seek, play = tab.page.locator("#seek"), tab.page.locator("#play")
    before = seek.input_value()
    tab.page.wait_for_function("before => document.getElementById('seek').value !== before", arg=before)
    play.click()
    moments = "[...new Set(document.getAnimations().map(one => Math.round(one.currentTime)))].length"
    assert play.inner_text() == "Play" and tab.page.evaluate(moments) == 1

    # Light and dark change places.
    light = ground(tab)
    tab.page.locator("#theme").click()
    assert (ground(tab) > 500) != (light > 500)
    tab.page.locator("#theme").click()
    assert ground(tab) == light
    assert tab.complaints == []


def test_it_prints_with_light_paper(browser: Any, page: Path) -> None:
    tab = Tab(browser, page.as_uri(), WIDE, color_scheme="dark")
    assert ground(tab) < 200
    tab.page.emulate_media(media="print")
    assert ground(tab) == 765
    assert not tab.page.locator("#theme").is_visible() and not tab.page.locator("#play").is_visible()
    assert tab.page.pdf().startswith(b"%PDF")
    tab.close()
