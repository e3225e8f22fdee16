"""The states of the page in a real browser: no calls, no answers, ill workers, and what the page says then."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import Page, Route, expect

from common.runtime.release import RELEASE
from simulator.avr.core import place_call
from tests.page.browser import DESKTOP, PATIENCE_MS, PHONE, browsing
from tests.page.looks import assert_looks_right
from tests.page.serving import TWO_WORDS, serving
from tests.scenarios.processes import PATIENCE_SECONDS

pytestmark = pytest.mark.system

TOKEN: Final = "a-token-of-this-very-test"
CALLER: Final = {"from": "+39 02 555 0100", "to": "600"}
REFUSED: Final = dataclasses.replace(TWO_WORDS, api_key="sk-another")
SCREENS: Final = pytest.mark.parametrize("screen", [DESKTOP, PHONE], ids=["desktop", "phone"])
expect.set_options(timeout=PATIENCE_MS)


async def colour_of(page: Page, variable: str) -> str:
    """Return the value of a colour variable as computed styles have it."""
    probe = """(name) => {
        const element = document.body.appendChild(document.createElement("i"));
        element.style.setProperty("color", `var(${name})`);
        const { color } = getComputedStyle(element);
        element.remove();
        return color;
    }"""
    found: str = await page.evaluate(probe, variable)
    return found


@SCREENS
async def test_without_calls_it_shows_how_to_connect(
    chromium: str, tmp_path: Path, screen: dict[str, object]
) -> None:
    async with (
        serving(STS_TOKEN="a-token-of-avr-core") as running,
        browsing(chromium, tmp_path, screen) as (page, record),
    ):
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=running.url)
        await page.goto(running.url)
        await expect(page.locator("#welcome")).to_contain_text("No call is live.")
        port = running.calls_url.rsplit(":", 1)[1].strip("/")
        field = page.get_by_label("STS_URL of AVR Core")
        url = await field.input_value()
        assert url.startswith("ws://")
        assert url.endswith(f":{port}")
        assert "127.0.0.1" not in url
        await expect(page.locator("#sts-hint")).to_contain_text("?token=")
        await page.get_by_role("button", name="Copy").click()
        await expect(page.locator("#copy")).to_have_text("Copied")
        assert await page.evaluate("navigator.clipboard.readText()") == url
        await expect(page.locator("#no-ended")).to_contain_text("Set CALL_RECORDS_KEEP_SECONDS")
        await assert_looks_right(page)
        # Without ADMIN_TOKEN the page answers this host alone, so it may call.
        for button in await page.locator("[data-call-agent]").all():
            await expect(button).to_be_visible()
        assert await page.locator("[data-call-agent]").count() == 2
        assert not record.errors


async def test_a_page_of_another_address_names_that_address(chromium: str, tmp_path: Path) -> None:
    flags = {"args": ["--host-resolver-rules=MAP voice.example 127.0.0.1"]}
    async with serving(ADMIN_TOKEN=TOKEN) as running, browsing(chromium, tmp_path, DESKTOP | flags) as (page, _):
        await page.goto(running.url.replace("127.0.0.1", "voice.example"))
        await page.get_by_label("ADMIN_TOKEN").fill(TOKEN)
        await page.keyboard.press("Enter")
        await expect(page.locator("#welcome")).to_be_visible()
        assert (await page.locator("#sts-url").input_value()).startswith("ws://voice.example:")


@SCREENS
async def test_workers_are_one_line_until_one_is_ill(
    chromium: str, tmp_path: Path, screen: dict[str, object]
) -> None:
    async with (
        serving(simulated=REFUSED) as running,
        browsing(chromium, tmp_path, screen) as (page, record),
    ):
        await page.goto(running.url)
        await expect(page.locator("#workers-line")).to_have_text("All 2 are ready, 0 of 400 places taken")
        await expect(page.locator("#workers")).to_be_hidden()
        box = await page.locator("#workers-box summary").bounding_box()
        assert box is not None
        assert box["height"] < 80
        # People may look all the same.
        await page.locator("#workers-box summary").click()
        await expect(page.locator("#workers tbody tr")).to_have_count(2)
        await expect(page.locator("#workers tbody tr .release").first).to_have_text(RELEASE)
        await page.locator("#workers-box summary").click()
        await expect(page.locator("#workers")).to_be_hidden()

        call = await place_call(running.calls_url)
        await asyncio.wait_for(call.closed.wait(), PATIENCE_SECONDS)
        await expect(page.locator("#workers-line")).to_contain_text("1 of 2 needs attention")
        await expect(page.locator("#workers")).to_be_visible()
        ill = page.locator("#workers tbody tr").first
        await expect(ill.locator(".problem")).to_contain_text("invalid_api_key")
        bad = await colour_of(page, "--bad")
        await expect(ill.locator(".state")).to_have_css("color", bad)
        await expect(page.locator("#summary")).to_have_text("0 live calls, 1 of 2 workers needs attention")
        # The call failed today.
        await expect(page.locator("#today div").filter(has_text="Failed").locator("dd")).to_have_text("1")
        await expect(page.locator("#today-since")).to_contain_text("UTC")
        await assert_looks_right(page)
        assert not record.errors


async def test_the_table_closes_when_all_workers_are_well_again(chromium: str, tmp_path: Path) -> None:
    ill = asyncio.Event()

    async def answer(route: Route) -> None:
        workers = await (await route.fetch()).json()
        workers[1]["state"] = "draining" if ill.is_set() else "ready"
        await route.fulfill(json=workers)

    async with serving() as running, browsing(chromium, tmp_path, DESKTOP) as (page, _):
        await page.route("**/workers", answer)
        await page.goto(running.url)
        table = page.locator("#workers")
        await expect(page.locator("#workers-line")).to_contain_text("All 2 are ready")
        ill.set()
        # The ill one comes first.
        await expect(page.locator("#workers .state").first).to_have_text("draining")
        await expect(table).to_be_visible()
        await assert_looks_right(page)
        ill.clear()
        await expect(table).to_be_hidden()
        # Closed by a person, it stays closed while the same is wrong.
        ill.set()
        await expect(table).to_be_visible()
        await page.locator("#workers-box summary").click()
        for _ in range(2):
            async with page.expect_response("**/workers"):
                pass
        await expect(table).to_be_hidden()


async def test_nothing_is_green_while_the_dispatcher_is_down(chromium: str, tmp_path: Path) -> None:
    async with serving([CALLER]) as running, browsing(chromium, tmp_path, DESKTOP) as (page, record):
        await page.goto(running.url)
        await page.locator("#workers-box summary").click()
        await page.locator("#calls a").click()
        good = await colour_of(page, "--good")
        states = page.locator(".state:visible")
        # The call in the list and in its own part, and two workers.
        await expect(states).to_have_text(["live", "ready", "ready", "live"])
        for state in await states.all():
            await expect(state).to_have_css("color", good)

        await running.serve.kill()
        await expect(page.get_by_role("alert")).to_contain_text(
            "The dispatcher does not answer. What you see is from "
        )
        await expect(states).to_have_text(["was live", "was ready", "was ready", "was live"])
        for state in await states.all():
            await expect(state).not_to_have_css("color", good)
        await expect(page.locator("#summary")).to_have_text("Not connected")
        await expect(page.locator("#workers-line")).to_have_text("2 workers when last seen")
        await expect(page.locator("#facts")).to_contain_text("was live")
        age = await page.locator("#calls .age").text_content()
        # The page has asked again, and nothing has become older or live.
        async with page.expect_request("**/workers"):
            pass
        assert await page.locator("#calls .age").text_content() == age
        await assert_looks_right(page)
        assert not record.errors


async def test_the_first_answer_is_not_waited_for_in_silence(chromium: str, tmp_path: Path) -> None:
    held: list[Route] = []

    async def hold(route: Route) -> None:
        held.append(route)

    async with serving() as running, browsing(chromium, tmp_path, DESKTOP) as (page, _):
        await page.route("**/workers", hold)
        await page.goto(running.url)
        await expect(page.locator("#summary")).to_have_text("Connecting …")
        await expect(page.locator("#summary")).to_have_text("Connecting … The dispatcher is slow to answer.")
        await held[0].abort()
        await expect(page.locator("#summary")).to_have_text("Not connected yet")
        await expect(page.get_by_role("alert")).to_have_text(
            "The dispatcher does not answer. The page asks again every few seconds."
        )
        await assert_looks_right(page)
        await page.unroute("**/workers")
        for route in held[1:]:
            await route.continue_()
        await expect(page.locator("#summary")).to_have_text("0 live calls, 2 workers")
        await expect(page.get_by_role("alert")).to_be_hidden()


@pytest.mark.parametrize("reason", ["Redis is away: Connection closed by server.", "Redis is away"])
async def test_a_message_ends_with_one_full_stop(chromium: str, tmp_path: Path, reason: str) -> None:
    async with serving([CALLER]) as running, browsing(chromium, tmp_path, DESKTOP) as (page, _):
        await page.goto(running.url)
        await page.locator("#calls a").click()
        await expect(page.locator("#say")).to_be_visible()
        # The call's own part is asked for more often than the lists.
        await page.route("**/calls/*", lambda route: route.fulfill(status=503, json={"error": reason}))
        stopped = f"{reason.rstrip('.')}."
        await expect(page.locator("#activity")).to_have_text(stopped)
        await page.get_by_label("Have the agent say").fill("Hello")
        await page.route("**/say", lambda route: route.fulfill(status=409, json={"error": reason}))
        await page.get_by_role("button", name="Say", exact=True).click()
        await expect(page.locator("#activity")).to_have_text(f"Not done: {stopped}")
        await page.route("**/calls?*", lambda route: route.fulfill(status=503, json={"error": reason}))
        await expect(page.get_by_role("alert")).to_contain_text(f"{stopped} What you see is from")
        await assert_looks_right(page)


async def test_texts_are_formed_as_people_read_them(chromium: str, tmp_path: Path) -> None:
    async with serving() as running, browsing(chromium, tmp_path, DESKTOP) as (page, _):
        await page.goto(running.url)
        shown = await page.evaluate(
            """async () => {
                const text = await import("./page/text.js");
                return [
                    ["a", "a.", "a!", "a …", "", "“a.”"].map(text.sentence),
                    [5, 65, 3725].map(text.age),
                    [text.count(1, "call"), text.count(0, "call"), text.count(1000, "call")],
                    [0, 0.0123, 1.5].map(text.money),
                    [text.reason("caller_hung_up"), text.reason("of_tomorrow"), text.ending("rejected")],
                ];
            }"""
        )
        assert shown == [
            ["a.", "a.", "a!", "a …", "", "“a.”"],
            ["0:05", "1:05", "1:02:05"],
            ["1 call", "0 calls", "1,000 calls"],
            ["", "$0.0123", "$1.50"],
            ["The caller hung up", "of tomorrow", "refused"],
        ]


async def test_an_unknown_call_is_said_to_be_unknown(chromium: str, tmp_path: Path) -> None:
    async with serving() as running, browsing(chromium, tmp_path, PHONE) as (page, record):
        await page.goto(f"{running.url}#nobody")
        await expect(page.locator("#activity")).to_have_text(
            "No live call has this uuid, and no record of it is kept. "
            "Set CALL_RECORDS_KEEP_SECONDS to keep records of ended calls."
        )
        await expect(page.locator("#glance")).to_have_text("not found")
        await expect(page.locator("#say")).to_be_hidden()
        await assert_looks_right(page)
        await page.locator("#close").tap()
        await expect(page.locator("#call")).to_be_hidden()
        assert not record.errors


async def test_a_long_title_leaves_close_in_one_line(chromium: str, tmp_path: Path) -> None:
    long = {"from": "sip:customer-of-the-long-name@pbx.provider.example", "to": "reception-of-the-practice"}
    async with serving([long]) as running, browsing(chromium, tmp_path, PHONE) as (page, _):
        await page.goto(f"{running.url}#{running.calls[0].uuid}")
        await expect(page.locator("#call-title")).to_contain_text("reception-of-the-practice")
        close, title = await page.locator("#close").bounding_box(), await page.locator("h2 bdi").bounding_box()
        assert close is not None
        assert title is not None
        assert close["height"] <= 48
        assert close["width"] >= 44
        await assert_looks_right(page)


async def test_a_search_without_result_names_what_was_searched(chromium: str, tmp_path: Path) -> None:
    async with serving([CALLER]) as running, browsing(chromium, tmp_path, DESKTOP) as (page, _):
        await page.goto(running.url)
        await expect(page.locator("#calls li")).to_have_count(1)
        await page.get_by_role("searchbox").fill("nobody")
        await expect(page.locator("#no-calls")).to_have_text("No live call matches “nobody”.")
        await expect(page.locator("#calls li")).to_have_count(0)
        await expect(page.locator("#welcome")).to_be_hidden()
        await assert_looks_right(page)
        await page.get_by_role("searchbox").fill("5550100")
        await expect(page.locator("#calls li")).to_have_count(1)
        await expect(page.locator("#no-calls")).to_be_hidden()


async def test_nothing_moves_for_people_who_prefer_that(chromium: str, tmp_path: Path) -> None:
    moving = """() => [...document.querySelectorAll("*")].filter((element) => {
        const style = getComputedStyle(element);
        return style.transitionDuration !== "0s" || style.animationName !== "none";
    }).length"""
    async with serving([CALLER]) as running, browsing(chromium, tmp_path, DESKTOP) as (page, _):
        await page.goto(running.url)
        await expect(page.locator("#calls li")).to_have_count(1)
        await page.emulate_media(reduced_motion="no-preference")
        assert await page.evaluate(moving) > 0
        await page.emulate_media(reduced_motion="reduce")
        assert await page.evaluate(moving) == 0
