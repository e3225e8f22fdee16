"""The page with 1,000 live calls: a bounded list, a search at the dispatcher, and little work each second."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import expect

from common.store.leases import CallLease
from common.store.registry import Registry
from tests.page.browser import DESKTOP, PATIENCE_MS, PHONE, browsing
from tests.page.looks import assert_looks_right, assert_no_sideways_scrolling
from tests.page.serving import serving

pytestmark = pytest.mark.system

CALLS: Final = 1_000
FIRST_ROWS: Final = 100
FIRST_ROWS_OF_A_PHONE: Final = 20
MOST_ROWS: Final = 200
LONG_SECONDS: Final = 3_600
COUNT_CHANGES: Final = """
() => {
  const began = performance.now();
  window.changed = { added: 0, texts: 0, get seconds() { return (performance.now() - began) / 1000; } };
  new MutationObserver((changes) => {
    for (const { type, addedNodes, target } of changes) {
      // A text is set by a node in its place.
      const isText = type === "characterData" || [...addedNodes].every((node) => node.nodeType === Node.TEXT_NODE);
      if (isText) window.changed.texts += 1;
      else window.changed.added += 1;
    }
  }).observe(document.getElementById("calls"), { childList: true, characterData: true, subtree: true });
}
"""
expect.set_options(timeout=PATIENCE_MS)


async def publish(redis_url: str) -> None:
    """Publish the calls, as dispatchers of other hosts do."""
    registry = Registry.from_url(redis_url, timeout_seconds=30)
    leases = [
        CallLease(f"call-{number}", "w-9", 1, "live", number, 1, {"from": f"+39 02 555 {number:04}", "to": "600"})
        for number in range(1, CALLS + 1)
    ]
    await registry.renew("d-of-another-host", leases, lease_seconds=LONG_SECONDS)
    await registry.aclose()


async def test_a_thousand_calls_are_a_bounded_list(chromium: str, tmp_path: Path, real_redis_url: str) -> None:
    await publish(real_redis_url)
    async with (
        serving(REDIS_URL=real_redis_url, WORKERS=1) as running,
        browsing(chromium, tmp_path, DESKTOP) as (page, record),
    ):
        await page.goto(running.url)
        await expect(page.locator("#summary")).to_have_text("1,000 live calls, 1 worker")
        rows = page.locator("#calls li")
        await expect(rows).to_have_count(FIRST_ROWS)
        await expect(rows.first.locator(".who")).to_have_text("+39 02 555 1000 → 600")
        await expect(page.locator("#no-calls")).to_have_text("These are 100 of 1,000. Find others above.")

        # Between two answers of the dispatcher, at most each row's age changes, and no row is made.
        await page.evaluate(COUNT_CHANGES)
        for _ in range(3):
            async with page.expect_response("**/calls?*"):
                pass
        changed = await page.evaluate("changed")
        assert changed["added"] == 0
        # A list may correct each age once, too.
        assert changed["texts"] <= FIRST_ROWS * (changed["seconds"] + 4)

        # Each of the others is found, by number or uuid.
        await page.get_by_role("searchbox").fill("5550007")
        await expect(rows).to_have_count(1)
        await expect(rows.locator(".who")).to_have_text("+39 02 555 0007 → 600")
        await page.get_by_role("searchbox").fill("CALL-12")
        await expect(rows).to_have_count(11)
        await expect(page.locator("#no-calls")).to_be_hidden()
        await page.get_by_role("searchbox").fill("555")
        await expect(page.locator("#no-calls")).to_have_text("These are 100 of 1,000. Find others above.")
        assert not record.errors


async def test_a_thousand_calls_fit_on_a_phone(chromium: str, tmp_path: Path, real_redis_url: str) -> None:
    await publish(real_redis_url)
    async with (
        serving(REDIS_URL=real_redis_url, WORKERS=1) as running,
        browsing(chromium, tmp_path, PHONE) as (page, record),
    ):
        await page.goto(running.url)
        await expect(page.locator("#calls li")).to_have_count(FIRST_ROWS_OF_A_PHONE)
        await expect(page.locator("#no-calls")).to_have_text("These are 20 of 1,000. Find others above.")
        await page.locator("#more-calls").tap()
        await expect(page.locator("#calls li")).to_have_count(MOST_ROWS)
        await expect(page.locator("#more-calls")).to_be_hidden()
        await assert_no_sideways_scrolling(page)
        await page.get_by_role("searchbox").fill("5550007")
        await expect(page.locator("#calls li")).to_have_count(1)
        await assert_looks_right(page)
        assert not record.errors
