"""What the page shows of one call: waits, tools, interruptions, moves, prompt, and how it ended."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.async_api import expect

from simulator.realtime.settings import ToolCall
from tests.helpers import eventually
from tests.page.browser import DESKTOP, PATIENCE_MS, PHONE, browsing
from tests.page.looks import assert_looks_right
from tests.page.serving import SPEECH, TWO_WORDS, serving, turn
from tests.scenarios.processes import PATIENCE_SECONDS

pytestmark = pytest.mark.system

CALLER: Final = {"from": "+39 02 555 0100", "to": "600"}
TOOL: Final = """
name = "weather"

def handler(uuid, args):
    return "sunny"
"""
BROKEN_TOOL: Final = """
name = "patient_file"

def handler(uuid, args):
    raise RuntimeError("away")
"""
TOOL_CALLS: Final = (ToolCall(1, "weather", '{"city": "Rome"}'), ToolCall(2, "patient_file"))
COUNT_ENTRIES: Final = """
() => {
  const log = document.getElementById("conversation");
  window.entries = [log.children.length];
  new MutationObserver(() => entries.push(log.children.length)).observe(log, { childList: true });
}
"""
SCREENS: Final = pytest.mark.parametrize("screen", [DESKTOP, PHONE], ids=["desktop", "phone"])
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "weather.py").write_text(TOOL, "utf-8")
    (folder / "patient_file.py").write_text(BROKEN_TOOL, "utf-8")
    return folder


@SCREENS
async def test_a_call_shows_its_waits_tools_prompt_and_tenant(
    chromium: str, tmp_path: Path, tools: Path, screen: dict[str, Any]
) -> None:
    settings = {
        "TOOLS_DIR": tools,
        "OPENAI_INSTRUCTIONS": "You are Sofia, the receptionist.",
        "OPENAI_VOICE": "cedar",
        "TENANT_KEY": "to",
        "TENANTS": "600,700",
    }
    async with (
        serving([CALLER], dataclasses.replace(TWO_WORDS, tool_calls=TOOL_CALLS), **settings) as running,
        browsing(chromium, tmp_path / "profile", screen) as (page, record),
    ):
        await turn(running.calls[0])
        await turn(running.calls[0])
        await page.goto(running.url)
        await expect(page.locator("#calls .aside")).to_contain_text("600 · ")
        await page.locator("#calls a").click()

        # 1. The conversation: each reply with its wait, each tool with its result, duration and outcome.
        entries = page.locator("#conversation .entry")
        await expect(entries).to_have_count(7)
        reply = entries.filter(has_text="Agent").nth(1)
        await expect(reply.locator(".note")).to_contain_text("Wait ")
        for part in ("end of speech ", "model ", "service "):
            await expect(reply.locator(".note")).to_contain_text(part)
        weather = entries.filter(has_text="Tool weather")
        await expect(weather.locator(".text")).to_have_text('{"city": "Rome"}')
        await expect(weather.locator(".result")).to_have_text("→ sunny")
        await expect(weather.locator(".note")).to_contain_text("completed in 0.")
        await expect(entries.filter(has_text="Tool patient_file").locator(".note")).to_contain_text("failed in ")

        # 2. At a glance, and in full.
        await expect(page.locator("#glance")).to_contain_text("2 tools, 1 not completed")
        await expect(page.locator("#glance")).to_contain_text("waits ")
        await assert_looks_right(page)
        await page.get_by_text("More about this call").click()
        facts = page.locator("#facts")
        for text in (
            "OPENAI_INSTRUCTIONS, 32 characters: “You are Sofia, the receptionist.”",
            "cedar",
            "2 turns: median ",
            "weather: completed in ",
            "patient_file: failed in ",
            "Interruptions",
            "Tenant",
        ):
            await expect(facts).to_contain_text(text)
        await assert_looks_right(page)
        assert not record.errors


async def test_an_interruption_shows_how_much_was_heard(chromium: str, tmp_path: Path) -> None:
    async with (
        serving([CALLER], dataclasses.replace(TWO_WORDS, words=30)) as running,
        browsing(chromium, tmp_path, DESKTOP) as (page, _),
    ):
        (call,) = running.calls
        await page.goto(f"{running.url}#{call.uuid}")
        await call.say(SPEECH)
        heard_ms = call.heard_ms
        await eventually(lambda: call.heard_ms > heard_ms + 1500, PATIENCE_SECONDS)
        await call.say(SPEECH)
        await eventually(lambda: call.interruptions, PATIENCE_SECONDS)
        await expect(page.locator("#conversation .note").filter(has_text="Interrupted: ")).to_have_count(1)
        await expect(page.locator("#glance")).to_contain_text("1 interruption")


async def test_a_move_to_another_worker_is_shown(chromium: str, tmp_path: Path) -> None:
    async with serving([CALLER]) as running, browsing(chromium, tmp_path, DESKTOP) as (page, record):
        (call,) = running.calls
        await page.goto(f"{running.url}#{call.uuid}")
        await expect(page.locator("#glance")).to_contain_text("live")
        await expect(page.locator("#conversation .entry")).to_have_count(1)
        await page.evaluate(COUNT_ENTRIES)
        (listed,) = await running.ask("calls")
        (worker,) = (each for each in await running.ask("workers") if each["id"] == listed["worker"])
        os.kill(worker["pid"], signal.SIGKILL)
        await expect(page.locator("#glance")).to_contain_text("1 move")
        await page.get_by_text("More about this call").click()
        await expect(page.locator("#facts")).to_contain_text("1 taken over after a loss")
        await expect(page.locator("#glance li").first).to_have_text("live")
        # What was said stays, and the call was never said to have ended.
        assert await page.evaluate("Math.min(...entries)") >= 1
        assert "ended" not in await page.locator("#call").inner_text()
        assert not record.errors


async def test_a_call_that_ends_says_so_and_why(chromium: str, tmp_path: Path) -> None:
    async with serving([CALLER]) as running, browsing(chromium, tmp_path, DESKTOP) as (page, record):
        (call,) = running.calls
        await page.goto(f"{running.url}#{call.uuid}")
        await expect(page.locator("#glance li").first).to_have_text("live")
        await page.get_by_text("More about this call").click()
        await call.hang_up()
        await expect(page.locator("#glance li").first).to_have_text("ended")
        await expect(page.locator("#activity")).to_have_text(
            "The call has ended: the caller's connection closed with 1000."
        )
        await expect(page.locator("#facts")).not_to_contain_text("live")
        await expect(page.locator("#facts")).to_contain_text("the caller's connection closed with 1000.")
        await expect(page.locator("#say")).to_be_hidden()
        # What was said stays.
        await expect(page.locator("#conversation .entry")).to_have_count(1)
        await assert_looks_right(page)
        assert not record.errors


@SCREENS
async def test_ended_calls_are_listed_and_opened(
    chromium: str, tmp_path: Path, tools: Path, screen: dict[str, Any]
) -> None:
    settings = {"TOOLS_DIR": tools, "CALL_RECORDS_KEEP_SECONDS": 600, "CALL_RECORDS_TEXT": "true"}
    async with (
        serving([CALLER], dataclasses.replace(TWO_WORDS, tool_calls=TOOL_CALLS), **settings) as running,
        browsing(chromium, tmp_path / "profile", screen) as (page, record),
    ):
        (call,) = running.calls
        await page.goto(running.url)
        await expect(page.locator("#no-ended")).to_have_text("No call has ended yet.")
        await turn(running.calls[0])
        await page.locator("#calls a").click()
        await expect(page.locator("#conversation .entry")).to_have_count(4)
        await call.hang_up()
        # 1. The call that is open gets its record.
        await expect(page.locator("#glance")).to_contain_text("completed")
        await expect(page.locator("#conversation .entry")).to_have_count(4)
        await page.locator("#close").click()

        # 2. It is in the list, with its ending, reason, duration and cost.
        row = page.locator("#ended li")
        await expect(row).to_have_count(1)
        await expect(row.locator(".who")).to_have_text("+39 02 555 0100 → 600")
        await expect(row.locator(".state")).to_have_text("completed")
        await expect(row.locator(".words")).to_have_text("The caller hung up")
        await expect(row.locator(".aside")).to_contain_text("$")
        await expect(page.locator("#today div").filter(has_text="Completed").locator("dd")).to_have_text("1")
        await assert_looks_right(page)
        await page.get_by_label("Show ended calls").select_option("failed")
        await expect(page.locator("#no-ended")).to_have_text("No kept call has this ending.")
        await page.get_by_label("Show ended calls").select_option("")
        await page.get_by_role("searchbox").fill("0199")
        await expect(page.locator("#no-ended")).to_have_text("No ended call matches “0199”.")
        await page.get_by_role("searchbox").fill("0100")
        await expect(row).to_have_count(1)

        # 3. Opened later, it shows its record.
        await page.goto("about:blank")
        await page.goto(f"{running.url}#{call.uuid}")
        await expect(page.locator("#glance li").nth(1)).to_have_text("completed")
        await expect(page.locator("#conversation .entry")).to_have_count(3)
        await page.get_by_text("More about this call").click()
        await expect(page.locator("#facts")).to_contain_text("weather: completed in ")
        await expect(page.locator("#facts")).to_contain_text("1 turn: median ")
        await expect(page.locator("#say")).to_be_hidden()
        await assert_looks_right(page)
        assert not record.errors
