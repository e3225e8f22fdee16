"""Checks of what a screen shows, in light and in dark: contrast, width, buttons, full stops, and axe's rules."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page

SCHEMES: Final = ("light", "dark")

CONTRASTS: Final = Path(__file__).with_name("contrasts.js").read_text("utf-8")

BROKEN: Final = """
() => [...document.querySelectorAll("button, #close")]
  .filter((element) => element.checkVisibility() && element.getClientRects().length > 0)
  .filter((element) => {
    const range = document.createRange();
    range.selectNodeContents(element);
    return new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size > 1;
  })
  .map((element) => element.textContent)
"""

_WRONG_STOPS: Final = re.compile(r"(?<!\.)\.\.(?!\.)|[…!?]\.|\.\s+\.")


async def assert_looks_right(page: Page) -> None:
    """Check the present state of the page in light and in dark."""
    text = await page.evaluate("document.body.innerText")
    assert not _WRONG_STOPS.search(text), text
    assert await page.evaluate(BROKEN) == []
    await assert_no_sideways_scrolling(page)
    for scheme in SCHEMES:
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        contrasts: dict[str, Any] = await page.evaluate(CONTRASTS)
        assert contrasts["found"] == [], (scheme, contrasts["found"])
        assert contrasts["texts"] > 1
        found = await Axe().run(page)
        assert found.violations_count == 0, (scheme, found.generate_report())


async def assert_no_sideways_scrolling(page: Page) -> None:
    """Check that nothing is wider than the screen."""
    root = "document.documentElement"
    width, screen = await page.evaluate(f"[{root}.scrollWidth, {root}.clientWidth]")
    assert width <= screen
