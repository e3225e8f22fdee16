"""Calls from the page in a real browser with a fake microphone, through a real `serve`."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
from aiohttp import web
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, WebSocket, expect

from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.settings import SimulatorSettings, ToolCall, Voice
from simulator.realtime.voice import SAMPLE_RATE_HZ, ToneVoice, WordVoice
from tests.helpers import eventually
from tests.page.browser import DESKTOP, PATIENCE_MS, PHONE, PageRecord, browsing
from tests.scenarios.processes import KEY, PATIENCE_SECONDS, ServiceProcess

pytestmark = pytest.mark.system
expect.set_options(timeout=PATIENCE_MS)

TOKEN = "a-token-of-this-very-test"
WORD_MS = 400
GREETING_HZ = 440.0
DARK: Final[dict[str, Any]] = DESKTOP | {"color_scheme": "dark"}

# Notes the strongest frequency and the level of what the page gives to the speaker, 50 times a second.
TAP_SPEAKER: Final = """
    window.heard = [];
    const connect = AudioNode.prototype.connect;
    AudioNode.prototype.connect = function (target, ...rest) {
        if (target instanceof AudioDestinationNode) {
            const analyser = new AnalyserNode(target.context, { fftSize: 2048, smoothingTimeConstant: 0 });
            const bins = new Float32Array(analyser.frequencyBinCount);
            connect.call(this, analyser);
            const listening = setInterval(() => {
                if (target.context.state === "closed") return clearInterval(listening);
                analyser.getFloatFrequencyData(bins);
                const dbfs = Math.max(...bins);
                const hz = (bins.indexOf(dbfs) * target.context.sampleRate) / analyser.fftSize;
                if (window.heard.length < 10_000) window.heard.push({ hz, dbfs, at: target.context.currentTime });
            }, 20);
        }
        return connect.call(this, target, ...rest);
    };
"""


def microphone(path: Path, *parts: bytes) -> tuple[str, ...]:
    """Write what the fake microphone says again and again, and return the browser's flags.

    It begins when the page gets the microphone. On a slow machine, that may be long before the call begins.
    """
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(b"".join(parts))
    return (
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={path}",
    )


def words(count: int) -> bytes:
    names = [f"word{number}" for number in range(count)]
    return WordVoice(names, WORD_MS).pcm(0, count * WORD_MS)


def silence(seconds: float) -> bytes:
    return bytes(2 * round(SAMPLE_RATE_HZ * seconds))


@asynccontextmanager
async def serving(
    simulated: SimulatorSettings, **settings: object
) -> AsyncIterator[tuple[RealtimeSimulator, str]]:
    """Run `serve` with one worker; yield the Realtime API, and the address of the page."""
    async with RealtimeSimulator(simulated) as simulator:
        serve = await ServiceProcess.start(
            "serve",
            **{
                "PORT": 0,
                "ADMIN_PORT": 0,
                "WORKERS": 1,
                "OPENAI_API_KEY": KEY,
                "OPENAI_BASE_URL": simulator.url,
                **settings,
            },
        )
        try:
            line = await serve.line("serving")
            yield simulator, f"http://127.0.0.1:{line['admin_port']}"
        finally:
            await serve.kill()


class Call:
    """The panel of a call, as people see it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        # The page may have more than one.
        self.opener = page.locator("header [data-call-agent]")
        self.panel = page.locator("#agent-call")
        self.words = self.panel.get_by_role("log").locator("p")
        self.status = self.panel.get_by_role("status").first
        self.received: list[str] = []
        self.sends_silence = True
        page.on("websocket", self._opened)

    def _opened(self, socket: WebSocket) -> None:
        socket.on("framereceived", lambda frame: self.received.append(str(frame)))
        socket.on("framesent", lambda frame: self._sent(str(frame)))

    def _sent(self, frame: str) -> None:
        message = json.loads(frame)
        if message["type"] == "audio":
            self.sends_silence = not any(base64.b64decode(message["audio"]))

    def button(self, name: str) -> Any:
        return self.panel.get_by_role("button", name=name, exact=True)

    async def open(self, url: str) -> None:
        """Open the page and the panel."""
        await self.page.goto(url)
        await self.opener.click()
        await expect(self.panel).to_be_visible()

    async def begin(self) -> None:
        await self.button("Call").click()
        await expect(self.status).to_have_text("You are connected. Speak, or press keys.")

    async def said(self, text: str) -> None:
        """Wait until the conversation has an entry with exactly this text."""
        await expect(self.words.locator("bdi").get_by_text(text, exact=True).first).to_be_visible()

    async def heard(self) -> list[dict[str, float]]:
        """Return what the speaker got so far."""
        heard: list[dict[str, float]] = await self.page.evaluate("heard")
        return heard

    async def is_heard(self, hz: float) -> bool:
        """Return whether the speaker got a tone, to the accuracy of the spectrum's lines."""
        return any(abs(each["hz"] - hz) < 25 and each["dbfs"] > -40 for each in await self.heard())


async def calls_of(url: str) -> list[dict[str, Any]]:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/calls") as response:
        calls: list[dict[str, Any]] = await response.json()
        return calls


async def only_call_of(url: str) -> dict[str, Any]:
    """Return the only call of the cluster, once Redis knows it."""

    async def is_listed() -> bool:
        return len(await calls_of(url)) == 1

    await eventually(is_listed, PATIENCE_SECONDS)
    (listed,) = await calls_of(url)
    return listed


async def assert_accessible(page: Page) -> None:
    found = await Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def assert_quiet(record: PageRecord) -> None:
    """No script failed, and the policy refused nothing."""
    assert not record.errors
    assert not record.dialogs


async def test_words_go_in_and_the_reply_reaches_the_speaker(chromium: str, tmp_path: Path) -> None:
    flags = microphone(tmp_path / "microphone.wav", silence(4), words(5), silence(6))
    simulated = SimulatorSettings(
        voice=Voice.TONE, tone_hz=GREETING_HZ, greeting_words=3, words=4, word_ms=WORD_MS
    )
    async with (
        serving(simulated) as (simulator, url),
        browsing(chromium, tmp_path / "profile", DESKTOP, *flags) as (page, record),
    ):
        await page.add_init_script(TAP_SPEAKER)
        call = Call(page)
        await call.open(url)
        await assert_accessible(page)
        await call.begin()

        # 1. The agent greets, the caller speaks, the agent answers.
        await call.said("greeting one alpha")
        await call.said("heard one two three four five")
        await call.said("reply two turn one")
        await expect(call.words.filter(has_text="reply two turn one")).to_contain_text("Agent · after ")
        await eventually(lambda: call.is_heard(GREETING_HZ), PATIENCE_SECONDS)
        # The answer comes after the API's 0.5 s of silence and 0.3 s of thought, whatever else it took.
        answer = float((await call.panel.locator("dd").nth(1).inner_text()).removesuffix(" s"))
        assert answer >= 0.7

        # 2. Keys arrive, by mouse and by keyboard.
        await call.button("4").click()
        await page.keyboard.press("2")
        await call.button("Hash").click()

        async def has_keys() -> bool:
            items = (await simulator.wait_for_session()).items
            return any("42" in (part.text or "") for item in items for part in item.parts)

        await eventually(has_keys, PATIENCE_SECONDS)

        # 3. The list of calls shows the call; hanging up ends it in the cluster.
        listed = await only_call_of(url)
        assert (listed["tenant"], listed["metadata"]) == ("page", {"from": "page"})
        await assert_accessible(page)
        await call.button("Hang up").click()
        await expect(call.status).to_have_text("You hung up.")

        async def is_over() -> bool:
            return await calls_of(url) == []

        await eventually(is_over, PATIENCE_SECONDS)
        await assert_accessible(page)
        assert_quiet(record)
        assert record.origins == {url}
        # No address had a ticket or a token in it.
        addresses: list[str] = await page.evaluate("performance.getEntries().map((each) => each.name)")
        asked = [each for each in addresses if "page-call" in each]
        assert asked
        assert not any("?" in each for each in asked)


async def test_an_interruption_silences_the_speaker(chromium: str, tmp_path: Path) -> None:
    flags = microphone(tmp_path / "microphone.wav", silence(4), words(3), silence(6))
    simulated = SimulatorSettings(
        voice=Voice.TONE, tone_hz=GREETING_HZ, greeting_words=150, words=1, word_ms=WORD_MS, speed=20.0
    )
    async with (
        serving(simulated) as (_, url),
        browsing(chromium, tmp_path / "profile", DESKTOP, *flags) as (page, record),
    ):
        await page.add_init_script(TAP_SPEAKER)
        call = Call(page)
        await call.open(url)
        await call.begin()
        # The caller interrupts a greeting of a minute.
        await expect(call.panel.locator("dd").nth(3)).to_have_text("1")
        assert '{"type":"interruption"}' in call.received
        await expect(call.words.filter(has_text="interrupted")).to_have_count(1)
        await call.said("heard one two three")
        await call.said("reply")

        # Without the interruption the greeting would be audible for longer than this test waits.
        async def is_silent() -> bool:
            return all(each["dbfs"] < -40 for each in (await call.heard())[-25:])

        await eventually(is_silent, PATIENCE_SECONDS)
        heard = await call.heard()
        greeting_seconds = sum(
            later["at"] - earlier["at"]
            for earlier, later in itertools.pairwise(heard)
            if earlier["dbfs"] > -40 and later["dbfs"] > -40
        )
        sent = sum('"audio"' in frame for frame in call.received) * 0.02
        # Seconds of the greeting were in the page already, and have never reached the speaker.
        assert sent > greeting_seconds + 5
        await expect(call.panel.locator("svg path.cut-mark")).to_have_count(1)
        await call.button("Hang up").click()
        await expect(call.status).to_have_text("You hung up.")
        assert_quiet(record)


async def test_the_end_is_told_in_words(chromium: str, tmp_path: Path) -> None:
    flags = microphone(tmp_path / "microphone.wav", silence(3), words(2), silence(6))
    transfer = ToolCall(1, "avr_transfer", '{"transfer_extension": "600"}')
    simulated = SimulatorSettings(greeting_words=2, words=2, word_ms=WORD_MS, tool_calls=(transfer,))
    async with (
        serving(simulated) as (simulator, url),
        browsing(chromium, tmp_path / "profile", DESKTOP, *flags) as (page, record),
        aiohttp.ClientSession() as http,
    ):
        call = Call(page)
        await call.open(url)
        await call.begin()
        listed = await only_call_of(url)

        # 1. A second call is refused.
        second = await page.context.new_page()
        other = Call(second)
        await other.open(url)
        await other.button("Call").click()
        await expect(other.status).to_have_text(
            "Another call from the page is under way at this dispatcher: one at a time."
        )
        await assert_accessible(second)
        await second.close()

        # 2. A transfer is refused, and the model is told why.
        async def is_refused() -> bool:
            session = await simulator.wait_for_session()
            outputs = [item.output or "" for item in session.items]
            return any("has no telephone line" in each for each in outputs)

        await eventually(is_refused, PATIENCE_SECONDS)

        # 3. Somebody else hangs up.
        async with http.delete(f"{url}/calls/{listed['uuid']}") as response:
            assert response.status == 200
        await expect(call.status).to_have_text("The call was hung up at the service.")

        # 4. The next call begins anew.
        await call.button("Call again").click()
        await expect(call.status).to_have_text("You are connected. Speak, or press keys.")
        await call.said("greeting one")
        # The key that closes the panel ends no call.
        await page.keyboard.press("Escape")
        await expect(call.status).to_have_text("You are connected. Speak, or press keys.")
        await call.button("Hang up").click()
        await expect(call.status).to_have_text("You hung up.")
        await page.keyboard.press("Escape")
        await expect(call.panel).to_be_hidden()
        await expect(call.opener).to_be_focused()

        async def is_over() -> bool:
            return await calls_of(url) == []

        await eventually(is_over, PATIENCE_SECONDS)
        assert_quiet(record)


async def test_a_ticket_is_for_this_page_and_once(chromium: str, tmp_path: Path) -> None:
    async def elsewhere(_: web.Request) -> web.Response:
        return web.Response(text="<p>another site</p>", content_type="text/html")

    app = web.Application()
    app.add_routes([web.get("/", elsewhere)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    close_code = """([url, ticket]) => new Promise((resolve) => {
        const socket = new WebSocket(url);
        socket.onopen = () => socket.send(JSON.stringify({ type: "ticket", ticket }));
        socket.onmessage = () => socket.close(1000);
        socket.onclose = ({ code }) => resolve(code);
    })"""
    try:
        async with (
            serving(SimulatorSettings(greeting_words=1)) as (_, url),
            browsing(chromium, tmp_path, DESKTOP) as (page, _),
        ):
            await page.goto(url)
            ticket = await page.evaluate("fetch('page-call', {method: 'POST'}).then((a) => a.json())")
            address = f"{url.replace('http', 'ws')}/page-call/line"
            await page.goto(f"http://127.0.0.1:{runner.addresses[0][1]}/")
            assert await page.evaluate(close_code, [address, ticket["ticket"]]) == 1006
            await page.goto(url)
            assert await page.evaluate(close_code, [address, ticket["ticket"]]) == 1000
            assert await page.evaluate(close_code, [address, ticket["ticket"]]) == 4401
    finally:
        await runner.cleanup()


async def test_without_a_secure_context_the_page_says_what_to_do(chromium: str, tmp_path: Path) -> None:
    async with (
        serving(SimulatorSettings(), ADMIN_TOKEN=TOKEN, PAGE_CALLS="true") as (_, near),
        browsing(chromium, tmp_path, DARK, "--host-resolver-rules=MAP calls.example 127.0.0.1") as (page, record),
    ):
        url = near.replace("127.0.0.1", "calls.example")
        await page.goto(url)
        # Before the token, nobody can call.
        call = Call(page)
        await expect(call.opener).to_be_hidden()
        await page.get_by_label("ADMIN_TOKEN").fill(TOKEN)
        await page.keyboard.press("Enter")
        await call.opener.click()
        await expect(call.status).to_contain_text("only to pages with HTTPS, or of localhost")
        await expect(call.status).to_contain_text(url)
        await expect(call.panel.locator("code")).to_contain_text("ssh -L ")
        await expect(call.button("Call")).to_be_hidden()
        await assert_accessible(page)
        # Browsers say that a header of the page has no effect without HTTPS.
        assert [each for each in record.errors if "Cross-Origin-Opener-Policy" not in each] == []


async def test_a_page_without_permission_offers_no_call(chromium: str, tmp_path: Path) -> None:
    async with (
        serving(SimulatorSettings(), ADMIN_TOKEN=TOKEN) as (_, url),
        browsing(chromium, tmp_path, DESKTOP) as (page, _),
    ):
        await page.goto(url)
        await page.get_by_label("ADMIN_TOKEN").fill(TOKEN)
        async with page.expect_response("**/page-call") as response:
            await page.keyboard.press("Enter")
        assert not (await (await response.value).json())["enabled"]
        await expect(page.get_by_label("ADMIN_TOKEN")).to_be_hidden()
        for button in await page.locator("[data-call-agent]").all():
            await expect(button).to_be_hidden()


async def test_a_refused_microphone_is_told_in_words(chromium: str, tmp_path: Path) -> None:
    async with (
        serving(SimulatorSettings()) as (_, url),
        browsing(chromium, tmp_path, DESKTOP, "--use-fake-device-for-media-stream") as (page, record),
    ):
        call = Call(page)
        await page.add_init_script(
            "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotAllowedError'));"
        )
        await call.open(url)
        await call.button("Call").click()
        await expect(call.status).to_contain_text("does not give the microphone to this page")
        await expect(call.button("Try again")).to_be_focused()
        assert await calls_of(url) == []
        assert_quiet(record)


async def test_a_call_on_a_phone_in_the_dark(chromium: str, tmp_path: Path) -> None:
    flags = microphone(tmp_path / "microphone.wav", silence(1), words(2), silence(60))
    async with (
        serving(SimulatorSettings(greeting_words=2, words=2)) as (_, url),
        browsing(chromium, tmp_path / "profile", PHONE, *flags) as (page, record),
    ):
        call = Call(page)
        await call.open(url)
        await call.begin()
        await expect(call.words).not_to_have_count(0)
        await assert_accessible(page)
        assert await page.evaluate("document.documentElement.scrollWidth") == PHONE["viewport"]["width"]
        for each in await call.panel.locator("button:visible").all():
            box = await each.bounding_box()
            assert box is not None
            assert min(box["height"], box["width"]) >= 44
        await expect(call.button("Hang up")).to_be_in_viewport(ratio=1)
        assert_quiet(record)


async def test_a_refused_key_is_told_in_words(chromium: str, tmp_path: Path) -> None:
    flags = microphone(tmp_path / "microphone.wav", silence(10))
    async with (
        serving(SimulatorSettings(api_key="sk-another")) as (_, url),
        browsing(chromium, tmp_path / "profile", DESKTOP, *flags) as (page, record),
    ):
        call = Call(page)
        await call.open(url)
        await call.button("Call").click()
        await expect(call.status).to_contain_text("The service could not go on with the call.")
        await expect(call.status).to_contain_text("refused the API key")
        await expect(call.button("Call again")).to_be_visible()
        assert_quiet(record)


async def test_muting_sends_silence_and_the_end_has_words(chromium: str, tmp_path: Path) -> None:
    flags = microphone(tmp_path / "microphone.wav", ToneVoice(700).pcm(0, 10_000))
    async with RealtimeSimulator(SimulatorSettings(greeting_words=2)) as simulator:
        settings = {"PORT": 0, "ADMIN_PORT": 0, "WORKERS": 1, "OPENAI_API_KEY": KEY}
        serve = await ServiceProcess.start("serve", OPENAI_BASE_URL=simulator.url, **settings)
        try:
            url = f"http://127.0.0.1:{(await serve.line('serving'))['admin_port']}"
            async with browsing(chromium, tmp_path / "profile", DESKTOP, *flags) as (page, _):
                call = Call(page)
                await call.open(url)
                await call.begin()
                await eventually(lambda: not call.sends_silence, PATIENCE_SECONDS)
                await call.button("Mute").click()
                await eventually(lambda: call.sends_silence, PATIENCE_SECONDS)
                await call.button("Mute").click()
                await eventually(lambda: not call.sends_silence, PATIENCE_SECONDS)
                # The dispatcher dies.
                await serve.kill()
                await expect(call.status).to_have_text("The connection to the dispatcher was lost.")
        finally:
            await serve.kill()


async def test_without_a_key_serve_starts_no_agent() -> None:
    """No simulator takes the place of the Realtime API, whatever PAGE_CALLS permits."""
    serve = await ServiceProcess.start("serve", PORT=0, ADMIN_PORT=0, PAGE_CALLS="true")
    assert await asyncio.wait_for(serve.ended(), PATIENCE_MS / 1000) == 78
    assert "OPENAI_API_KEY is not set" in serve.raw
