"""Take the pictures of docs/page.md, of a real `serve` in Debian's Chromium.

python -m tests.page.pictures FOLDER
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
from playwright.async_api import Page, expect

from simulator.avr.core import SimulatedCall, place_call
from tests.helpers import eventually, needed_program
from tests.page.browser import DESKTOP, PHONE, browsing
from tests.page.serving import SPEECH, TWO_WORDS, Serving, serving, turn
from tests.scenarios.processes import PATIENCE_SECONDS

TOKEN: Final = "a-token-of-the-pictures"
PROMPT: Final = (
    "You are Sofia, the receptionist of the dental practice Bianchi in Milan. Greet callers warmly, ask one "
    "question at a time, and keep each answer under two sentences. Offer appointments from the calendar tool "
    "alone, and never give medical advice. If a caller is in pain, offer the next free appointment of today."
)
TOOL: Final = """
import time
name = "free_appointments"
description = "Return the free appointments of a week."

def handler(uuid, args):
    time.sleep(0.3)
    return "Thursday 10:00, Friday 15:00"
"""
OTHER_TOOL: Final = """
name = "patient_file"
description = "Return a patient's file."

def handler(uuid, args):
    raise RuntimeError("the patient system is away")
"""
SCREENS: Final = {
    "desktop-light": DESKTOP,
    "desktop-dark": DESKTOP | {"color_scheme": "dark"},
    "phone-light": PHONE | {"color_scheme": "light"},
    "phone-dark": PHONE,
}


def directed(**behaviour: Any) -> dict[str, str]:
    """Return instructions for a call whose simulated model behaves so."""
    return {"instructions": f"{PROMPT}\nsimulator: {orjson.dumps(behaviour).decode()}"}


async def dental(running: Serving) -> SimulatedCall:
    """Hold a call with tools, an interruption and several turns."""
    tools = [
        {"turn": 2, "name": "free_appointments", "arguments": {"week": 49}},
        {"turn": 3, "name": "patient_file", "arguments": {"name": "Rossi"}},
    ]
    call = await running.place(
        {"from": "+39 02 5550 0117", "to": "600", "practice": "bianchi"},
        directed(say="Practice Bianchi, good morning. How can I help?", tool_calls=tools, word_ms=250),
    )
    lines = [
        ("I have lost a filling since yesterday.", "I am sorry to hear that. Does it hurt?"),
        ("Only when I drink something cold.", "I can offer you Thursday at ten, or Friday at three."),
        ("Thursday at ten, please. The name is Rossi.", "I have noted Thursday at ten for you, Mr Rossi."),
    ]
    for caller, agent in lines:
        await tell(running, call, say=agent, transcript=caller, tool_calls=tools, word_ms=250)
        await turn(call)
    return call


async def tell(running: Serving, call: SimulatedCall, **behaviour: Any) -> None:
    """Change what the simulated model does next."""
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{running.url}/calls/{call.uuid}/session", json=directed(**behaviour)) as answer,
    ):
        assert answer.status == 200, await answer.text()


async def interrupted(running: Serving, call: SimulatedCall) -> None:
    """Have the caller interrupt a long reply."""
    long = "On Saturday we are closed. We have a place on Thursday at ten, on Friday at three, or next Monday."
    await tell(running, call, say=long, transcript="And on Saturday?", word_ms=400)
    known = len(call.interruptions)
    heard = call.heard_ms
    await call.say(SPEECH)
    await eventually(lambda: call.heard_ms > heard + 2500, PATIENCE_SECONDS)
    await tell(running, call, say="You are welcome. Goodbye!", transcript="Thank you, that is all.", word_ms=250)
    await call.say(SPEECH)
    await eventually(lambda: len(call.interruptions) > known, PATIENCE_SECONDS)
    await eventually(lambda: call.transcripts[-1].text.startswith("You are welcome"), PATIENCE_SECONDS)


VERDI: Final = {"to": "700", "practice": "verdi"}
OTHERS: Final = {
    "+39 06 5550 0144": "On Saturdays we are open from nine to one.",
    "+39 011 5550 0122": "Gern. Auf welchen Tag?",
    "+39 02 5550 0183": "I have noted your number, and a colleague calls you back.",
}


async def shoot(page: Page, path: str) -> None:
    """Take one picture of what the screen shows."""
    await page.screenshot(path=path, animations="disabled")


async def pictures(running: Serving, folder: Path, chromium: str) -> None:
    """Take the pictures of each state on each screen."""
    async with asyncio.TaskGroup() as group:
        for number, words in OTHERS.items():
            group.create_task(
                running.place({"from": number, "to": "600", "practice": "verdi"}, directed(say=words))
            )
    for number in ("+39 02 5550 0171", "+39 02 5550 0172"):
        await (await running.place(VERDI | {"from": number})).hang_up()
    done = await dental(running)
    await interrupted(running, done)
    await done.hang_up()
    await running.recorded(3)
    live = await dental(running)
    await interrupted(running, live)
    for screen, options in SCREENS.items():
        with tempfile.TemporaryDirectory() as profile:
            async with browsing(chromium, Path(profile), options) as (page, record):
                await states(page, running, f"{folder}/{{}}-{screen}.png", live.uuid, done.uuid)
                assert not record.errors, record.errors


async def states(page: Page, running: Serving, name: str, live: str, done: str) -> None:
    """Take the pictures of each state on one screen; `name` has `{}` for the state."""
    await page.goto(running.url)
    await expect(page.locator("#calls .words:not(:empty)")).to_have_count(len(OTHERS) + 1)
    await expect(page.locator("#ended li")).to_have_count(3)
    await shoot(page, name.format("list"))
    await page.goto(f"{running.url}#{live}")
    await expect(page.locator("#conversation .entry")).to_have_count(13)
    await shoot(page, name.format("call"))
    await page.get_by_text("More about this call").click()
    await shoot(page, name.format("facts"))
    await page.get_by_role("button", name="Hang up").click()
    await shoot(page, name.format("hang-up"))
    await page.get_by_role("button", name="Keep").click()
    await page.goto(f"{running.url}#{done}")
    await expect(page.locator("#glance")).to_contain_text("completed")
    await shoot(page, name.format("ended"))
    await page.goto(f"{running.url}#nobody")
    await expect(page.locator("#glance")).to_contain_text("not found")
    await shoot(page, name.format("not-found"))
    await page.goto(f"{running.url}#")
    await page.get_by_role("searchbox").fill("0171")
    await expect(page.locator("#no-calls")).to_be_visible()
    await shoot(page, name.format("search"))
    await page.get_by_role("searchbox").fill("")
    await expect(page.locator("#calls li")).to_have_count(len(OTHERS) + 1)
    await page.route("**/calls*", lambda route: route.abort())
    await expect(page.get_by_role("alert")).to_be_visible()
    await shoot(page, name.format("down"))
    await page.goto("about:blank")
    await page.goto(running.url)
    await expect(page.get_by_role("alert")).to_be_visible()
    await shoot(page, name.format("never"))


async def empty(folder: Path, chromium: str) -> None:
    """Take the pictures of a service without calls, before and after its workers' key was refused."""
    simulated = dataclasses.replace(TWO_WORDS, api_key="sk-another")
    async with serving(simulated=simulated, ADMIN_TOKEN=TOKEN) as running:
        for state in ("empty", "ill"):
            for screen, options in SCREENS.items():
                with tempfile.TemporaryDirectory() as profile:
                    name = f"{folder}/{{}}-{screen}.png"
                    async with browsing(chromium, Path(profile), options) as (page, _):
                        await page.goto(running.url)
                        await expect(page.get_by_label("ADMIN_TOKEN")).to_be_focused()
                        await shoot(page, name.format("token"))
                        await page.keyboard.type(TOKEN)
                        await page.keyboard.press("Enter")
                        await expect(page.locator("#welcome")).to_be_visible()
                        if state == "ill":
                            await expect(page.locator("#workers")).to_be_visible()
                        await shoot(page, name.format(state))
            refused = await place_call(running.calls_url)
            await asyncio.wait_for(refused.closed.wait(), PATIENCE_SECONDS)


async def main(folder: Path) -> None:
    """Take all pictures."""
    chromium = needed_program("chromium")
    Path.mkdir(folder, parents=True, exist_ok=True)
    await empty(folder, chromium)
    with tempfile.TemporaryDirectory() as tools:
        (Path(tools) / "free_appointments.py").write_text(TOOL, "utf-8")
        (Path(tools) / "patient_file.py").write_text(OTHER_TOOL, "utf-8")
        async with serving(
            TOOLS_DIR=tools,
            CALL_RECORDS_KEEP_SECONDS=3600,
            CALL_RECORDS_TEXT="true",
            TENANT_KEY="practice",
            TENANTS="bianchi,verdi",
        ) as running:
            await pictures(running, folder, chromium)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
