"""The page in a real browser, with a real `serve` and calls."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import Locator, Page, expect

from simulator.avr.core import place_call
from tests.helpers import eventually
from tests.page.browser import DESKTOP, PATIENCE_MS, PHONE, browsing
from tests.page.looks import assert_looks_right
from tests.page.serving import SPEECH, TWO_WORDS, serving
from tests.scenarios.processes import PATIENCE_SECONDS

pytestmark = pytest.mark.system

TOKEN = "a-token-of-this-very-test"
HOSTILE = "<img src=x onerror=alert(1)>"
CALLERS: Final = [{"from": f"+39 02 555 010{number}", "to": "600", "department": HOSTILE} for number in range(3)]
NOTE_ACTIVITIES = """
    window.noted = [];
    const activity = document.getElementById("activity");
    new MutationObserver(() => noted.push(activity.textContent)).observe(activity, {childList: true});
"""
expect.set_options(timeout=PATIENCE_MS)


async def _tab_to(page: Page, element: Locator) -> None:
    for _ in range(6):
        await page.keyboard.press("Tab")
        if await element.evaluate("element => element === document.activeElement"):
            return
    raise AssertionError(f"{element} is not near by keyboard")


async def _noted(page: Page, activity: str) -> bool:
    return activity in await page.evaluate("noted")


async def test_from_the_token_to_the_end_of_a_call_by_keyboard_alone(chromium: str, tmp_path: Path) -> None:
    async with (
        serving(CALLERS, ADMIN_TOKEN=TOKEN) as running,
        browsing(chromium, tmp_path, DESKTOP) as (page, record),
    ):
        url, calls = running.url, running.calls
        await page.goto(url)

        # 1. Without the token, the page shows nothing.
        await expect(page.get_by_label("ADMIN_TOKEN")).to_be_focused()
        await assert_looks_right(page)
        await page.keyboard.type("a-token-of-another-test")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("not the ADMIN_TOKEN")
        await expect(page.locator("#board")).to_be_hidden()
        await page.keyboard.type(TOKEN)
        await page.keyboard.press("Enter")

        # 2. With the token, the page shows the cluster and the last words of each call.
        await expect(page.locator("#summary")).to_have_text("3 live calls, 2 workers")
        await expect(page.locator("#workers-line")).to_have_text("All 2 are ready, 3 of 400 places taken")
        rows = page.locator("#calls li")
        await expect(rows).to_have_count(3)
        for number, call in enumerate(calls):
            # The calls were placed at the same time, so their order may differ.
            row = rows.filter(has_text=f"+39 02 555 010{number} → 600")
            await expect(row.locator(".state")).to_have_text("live")
            await expect(row.locator(".words")).to_have_text(f"Agent: {call.transcripts[0].text}")
        await assert_looks_right(page)

        # 3. Find a call, and open it.
        call = calls[1]
        await page.get_by_role("searchbox").focus()
        await page.keyboard.type("0101")
        await expect(rows).to_have_count(1)
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        title = page.get_by_role("heading", name="+39 02 555 0101 → 600")
        await expect(title).to_be_focused()
        await page.get_by_text("More about this call").focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("#facts")).to_contain_text(HOSTILE)
        entries = page.locator("#conversation .entry")
        await expect(entries).to_have_count(1)

        # 4. Follow the live conversation.
        await call.say(SPEECH)
        await expect(entries).to_have_count(3)
        assert [await entry.get_attribute("data-kind") for entry in await entries.all()] == [
            "agent",
            "user",
            "agent",
        ]
        await call.wait_for(lambda c: len(c.transcripts) == 3, timeout_seconds=PATIENCE_SECONDS)
        await page.evaluate(NOTE_ACTIVITIES)
        await call.press("12#")
        await expect(entries).to_have_count(5)
        # Only the stream of events contains this text.
        await eventually(lambda: _noted(page, "Keys pressed: 12"), PATIENCE_SECONDS)
        await _tab_to(page, page.get_by_label("Have the agent say"))
        await page.keyboard.type(f"One moment {HOSTILE}")
        await page.keyboard.press("Enter")
        await expect(entries).to_have_count(6)
        await expect(entries.nth(5).locator(".text")).to_have_text(f"One moment {HOSTILE}")
        await assert_looks_right(page)

        # 5. Hanging up needs a confirmation.
        await _tab_to(page, page.get_by_role("button", name="Hang up …"))
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("button", name="Keep the call")).to_be_focused()
        await assert_looks_right(page)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("dialog")).to_be_hidden()
        assert call.is_connected
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await asyncio.wait_for(call.closed.wait(), PATIENCE_SECONDS)
        await expect(page.locator("#activity")).to_contain_text("The call has ended: ")
        await expect(page.locator("#glance li").first).to_have_text("ended")
        # The conversation stays readable.
        await expect(entries).to_have_count(6)
        await expect(rows).to_have_count(0)
        await page.keyboard.press("Escape")
        await expect(page.locator("#call")).to_be_hidden()
        await expect(page.get_by_role("searchbox")).to_be_focused()

        # 6. Only this tab's memory holds the token, and all requests went to this origin.
        assert await page.evaluate("Object.values({...sessionStorage})") == [TOKEN]
        assert await page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
        assert TOKEN not in page.url
        assert record.origins == {url}
        assert not record.errors
        assert not record.dialogs


async def test_problems_are_in_one_line(chromium: str, tmp_path: Path) -> None:
    async with (
        serving(simulated=dataclasses.replace(TWO_WORDS, api_key="sk-another"), WORKERS=1) as running,
        browsing(chromium, tmp_path, DESKTOP) as (page, record),
    ):
        await page.goto(running.url)
        await expect(page.locator("#summary")).to_contain_text("1 worker")
        await expect(page.locator("#problems")).to_be_hidden()
        call = await place_call(running.calls_url)
        await asyncio.wait_for(call.closed.wait(), PATIENCE_SECONDS)
        await expect(page.get_by_role("status").first).to_have_text(
            "the Realtime API refused the last attempt with OPENAI_API_KEY: invalid_api_key (on 1 of 1 workers)"
        )
        await assert_looks_right(page)
        assert not record.errors


async def test_on_a_phone_in_the_dark(chromium: str, tmp_path: Path) -> None:
    async with (
        serving(CALLERS[:2], WORKERS=1) as running,
        browsing(chromium, tmp_path, PHONE) as (page, record),
    ):
        await page.goto(running.url)
        last = f"Agent: {running.calls[1].transcripts[0].text}"
        await expect(page.locator("#calls .words").first).to_have_text(last)
        await assert_looks_right(page)

        # The screen shows one part at a time: the call, and after the phone's back button the list.
        await page.locator("#calls a").first.tap()
        await expect(page.locator("#conversation .entry")).to_have_count(1)
        await expect(page.locator("#cluster")).to_be_hidden()
        await expect(page.get_by_role("button", name="Hang up …")).to_be_in_viewport(ratio=1)
        await assert_looks_right(page)
        for name in ("button:visible", "input:visible", "#close"):
            for each in await page.locator(name).all():
                box = await each.bounding_box()
                assert box is not None
                assert box["height"] >= 44
        await page.go_back()
        await expect(page.locator("#cluster")).to_be_visible()
        await expect(page.locator("#call")).to_be_hidden()
        await expect(page.locator("#calls a").first).to_be_focused()
        assert not record.errors
        assert not record.dialogs

        # When the service has ended, the page says so and marks its data as old.
        await running.serve.kill()
        await expect(page.get_by_role("alert")).to_contain_text("does not answer. What you see is from ")
        await expect(page.locator("#calls li")).to_have_count(2)
