"""A real `serve` with calls, for the page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from simulator.avr.core import SimulatedCall, place_call
from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.settings import SimulatorSettings
from tests.helpers import eventually
from tests.scenarios.processes import KEY, PATIENCE_SECONDS, ServiceProcess
from tests.scenarios.tones import tone

SPEECH: Final = tone(700, 0.8)
TWO_WORDS: Final = SimulatorSettings(words=2, greeting_words=2)


@dataclass
class Serving:
    """A running `serve`.

    Attributes:
        serve: the process.
        url: of the page.
        calls_url: for AVR Core.
        calls: the live calls that were placed at the start.
    """

    serve: ServiceProcess
    url: str
    calls_url: str
    stack: AsyncExitStack
    calls: list[SimulatedCall] = field(default_factory=list)

    async def place(self, metadata: Mapping[str, str], provider_config: Any = None) -> SimulatedCall:
        """Place a call, which ends with the test, and return after the greeting."""
        call = await place_call(self.calls_url, metadata=dict(metadata), provider_config=provider_config)
        self.stack.push_async_callback(call.hang_up)
        await call.wait_for(lambda c: c.transcripts, timeout_seconds=PATIENCE_SECONDS)
        return call

    async def ask(self, path: str) -> Any:
        """Return the API's JSON answer."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/{path}") as response:
            return await response.json()

    async def recorded(self, number: int) -> None:
        """Wait until so many ended calls have records."""

        async def is_so() -> bool:
            return len(await self.ask("calls?ended")) == number

        await eventually(is_so, PATIENCE_SECONDS)


async def turn(call: SimulatedCall) -> None:
    """Let the caller say something, and wait for the answer."""
    known = len(call.transcripts)
    await call.say(SPEECH)
    await eventually(lambda: len(call.transcripts) >= known + 2, PATIENCE_SECONDS)


@asynccontextmanager
async def serving(
    calls: Sequence[Mapping[str, str]] = (), simulated: SimulatorSettings = TWO_WORDS, **settings: object
) -> AsyncIterator[Serving]:
    """Run `serve` with greeted calls, which have this metadata."""
    async with RealtimeSimulator(simulated) as simulator, AsyncExitStack() as stack:
        defaults = {"PORT": 0, "ADMIN_PORT": 0, "WORKERS": 2, "OPENAI_API_KEY": KEY}
        serve = await ServiceProcess.start("serve", OPENAI_BASE_URL=simulator.url, **(defaults | settings))
        stack.push_async_callback(serve.kill)
        line = await serve.line("serving")
        calls_url = f"ws://127.0.0.1:{line['port']}/"
        running = Serving(serve, f"http://127.0.0.1:{line['admin_port']}", calls_url, stack)
        for metadata in calls:
            running.calls.append(await running.place(metadata))
        yield running
