"""`make bench BENCH=outage`: many calls, and a Realtime API that is down for a while.

`serve` runs with a real Redis and the Realtime simulator, which counts connection attempts, requests and tokens by
the second. Half of the sessions lose their connection; the other half stay and have responses that fail. Callers
speak once, and again only after an answer, as people do. One message of a caller is 100 ms of audio, instead of
five of 20 ms, so that the outage and not the audio uses the machine.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
import time
import uuid
from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, field

import aiohttp
import orjson

from dispatcher.avr import protocol
from tests.bench.service import BenchError, serving
from tests.chaos.realtime import RealtimeProcess
from tests.chaos.speech import spoken
from tests.scenarios.processes import KEY

# A call gives up on the API after this time: longer than the outage, so that all calls can still be served.
RETRY_SECONDS = 120
WORKERS = 2
CALLS_PER_SECOND = 20.0
MESSAGE_SECONDS = 0.1
MESSAGE_BYTES = 1600
WORDS = 2
# Pause between a reply and the caller's next words.
PAUSE_SECONDS = (3.0, 9.0)
# Time without an audio message after which a reply has ended.
QUIET_SECONDS = 1.0
# Time before the outage, in which the usual rate of requests is measured.
USUAL_SECONDS = 20.0
# Time after the outage; a caller not served by then counts as never served.
AFTER_SECONDS = 30.0

_CALLER = re.compile(r"caller (\d+)\.")
_SILENCE = protocol.audio(bytes(MESSAGE_BYTES))


@dataclass(slots=True)
class OutageCaller:
    """One caller that speaks, waits for an answer, pauses, and speaks again.

    Attributes:
        asked_seconds: end of the words that have no answer yet; None: no answer is owed.
        answers: start of each answer, and the wait for it.
        heard_seconds: time at which audio was last received.
        closed: close code, if the service ended the call.
    """

    number: int
    asked_seconds: float | None = None
    answers: list[tuple[float, float]] = field(default_factory=list)
    heard_seconds: float = 0.0
    closed: int | None = None

    async def run(self, port: int, http: aiohttp.ClientSession, over: asyncio.Event) -> None:
        """Hold the call until it ends."""
        async with http.ws_connect(f"ws://127.0.0.1:{port}/?from={self.number}", max_msg_size=0) as socket:
            await socket.send_str(orjson.dumps({"type": "init", "uuid": str(uuid.uuid4())}).decode())
            self.asked_seconds = time.monotonic()  # the greeting is owed
            talker = asyncio.create_task(self._talk(socket, random.Random(self.number)))
            ended = asyncio.create_task(over.wait())
            listener = asyncio.create_task(self._listen(socket))
            await asyncio.wait((ended, listener), return_when=asyncio.FIRST_COMPLETED)
            for task in (talker, ended, listener):
                task.cancel()
            await asyncio.gather(talker, ended, listener, return_exceptions=True)
            if not over.is_set():
                self.closed = socket.close_code

    async def _talk(self, socket: aiohttp.ClientWebSocketResponse, rng: random.Random) -> None:
        words = _messages(spoken(WORDS).pcm)
        next_seconds, due_seconds = math.inf, time.monotonic()
        said = len(words)
        while True:
            due_seconds += MESSAGE_SECONDS
            await asyncio.sleep(max(0.0, due_seconds - time.monotonic()))
            now_seconds = time.monotonic()
            if self.asked_seconds is not None:
                next_seconds = math.inf
            elif next_seconds is math.inf and now_seconds - self.heard_seconds > QUIET_SECONDS:
                next_seconds = now_seconds + rng.uniform(*PAUSE_SECONDS)
            if now_seconds >= next_seconds and said == len(words):
                said = 0
            if said < len(words):
                await socket.send_str(words[said])
                said += 1
                if said == len(words):
                    self.asked_seconds, next_seconds = now_seconds, math.inf
            else:
                await socket.send_str(_SILENCE.decode())

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.TEXT or not message.data.startswith(_AUDIO_HEAD):
                continue
            now_seconds = self.heard_seconds = time.monotonic()
            if self.asked_seconds is not None:
                self.answers.append((now_seconds, now_seconds - self.asked_seconds))
                self.asked_seconds = None


_AUDIO_HEAD = protocol.AUDIO_HEAD.decode()


@dataclass(frozen=True, slots=True)
class Rates:
    """The load of the API in a span of seconds.

    Attributes:
        connections, requests: mean attempts to connect, and mean responses requested or begun, in a second.
        most_connections, most_requests: the same in the busiest second.
        input_tokens: input tokens of all responses.
    """

    seconds: int
    connections: float
    most_connections: int
    requests: float
    most_requests: int
    input_tokens: int

    @classmethod
    def of(cls, seconds: Iterable[dict[str, int]], begin: float, end: float) -> Rates:
        """Return the rates in the whole seconds between two times."""
        first, last = math.ceil(begin), math.floor(end)
        within = [each for each in seconds if first <= each["at_seconds"] < last]
        count = max(1, last - first)
        connections = [each.get("connections", 0) for each in within]
        requests = [each.get("responses", 0) for each in within]
        return cls(
            count,
            sum(connections) / count,
            max(connections, default=0),
            sum(requests) / count,
            max(requests, default=0),
            sum(each.get("input_tokens", 0) for each in within),
        )


@dataclass(frozen=True, slots=True)
class Served:
    """Callers who waited for an answer when the API worked again.

    Attributes:
        waiting: number of such callers.
        seconds: time from then until the answer of each, in order.
    """

    waiting: int
    seconds: tuple[float, ...]

    @classmethod
    def of(cls, callers: Sequence[OutageCaller], back_seconds: float) -> Served:
        """Return the callers who were waiting at that time."""
        firsts = (
            min((at_seconds for at_seconds, _ in caller.answers if at_seconds >= back_seconds), default=math.inf)
            for caller in callers
        )
        return cls(len(callers), tuple(sorted(first - back_seconds for first in firsts if first < math.inf)))

    def text(self) -> str:
        """Return the text for people."""
        p50, p99, most = (_at(self.seconds, share) for share in (0.5, 0.99, 1.0))
        return f"{len(self.seconds)} of {self.waiting} who waited, after p50 {p50}, p99 {p99}, most {most}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one run.

    Attributes:
        usual, down, after: the API's load before, in and after the outage.
        dropped: callers whose session was dropped, and who waited for an answer when the API worked again.
        kept: the same callers whose session stayed.
        lost: number of calls that the service ended.
    """

    calls: int
    outage_seconds: float
    usual: Rates
    down: Rates
    after: Rates
    dropped: Served
    kept: Served
    lost: int

    def table(self) -> str:
        """Return the table for people."""
        rows = [("", "connections/s", "most", "responses/s", "most", "input tokens")]
        for name, rates in (("before", self.usual), ("down", self.down), ("after", self.after)):
            rows.append(
                (
                    f"{name}, {rates.seconds} s",
                    f"{rates.connections:.1f}",
                    str(rates.most_connections),
                    f"{rates.requests:.1f}",
                    str(rates.most_requests),
                    f"{rates.input_tokens:,}",
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(map(str.rjust, row, widths)) for row in rows]
        return "\n".join(
            (
                f"outage      {self.calls} calls, the API down for {self.outage_seconds:g} s",
                *lines,
                f"served      {self.dropped.text()}: their session was cut",
                f"            {self.kept.text()}: their session stayed",
                f"lost        {self.lost} calls ended by the service",
            )
        )


def _at(ordered: Sequence[float], share: float) -> str:
    if not ordered:
        return "-"
    return f"{ordered[max(0, math.ceil(share * len(ordered)) - 1)]:.1f} s"


async def measure(calls: int = 200, outage_seconds: float = 60.0, usual_seconds: float = USUAL_SECONDS) -> Outcome:
    """Run the outage once.

    Raises:
        BenchError: no Redis is installed, or the calls did not come up.
    """
    simulator = await RealtimeProcess.start("--words", "2", "--greeting-words", "2")
    try:
        async with serving(
            WORKERS=WORKERS,
            WORKER_MAX_CALLS=max(200, calls),
            OPENAI_API_KEY=KEY,
            OPENAI_BASE_URL=simulator.url,
            OPENAI_INSTRUCTIONS="You answer caller {from}.",
            UPSTREAM_RETRY_SECONDS=RETRY_SECONDS,
            FILLER_WAV="none",
        ) as (_, port):
            return await _measure(simulator, port, calls, outage_seconds, usual_seconds)
    finally:
        await simulator.stop()


async def _measure(
    simulator: RealtimeProcess, port: int, calls: int, outage_seconds: float, usual_seconds: float
) -> Outcome:
    callers = [OutageCaller(number) for number in range(calls)]
    over = asyncio.Event()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http, asyncio.TaskGroup() as group:
        for caller in callers:
            group.create_task(caller.run(port, http, over))
            await asyncio.sleep(1 / CALLS_PER_SECOND)
        try:
            began_seconds = time.monotonic()
            await asyncio.sleep(usual_seconds)
            down_seconds = time.monotonic()
            await simulator.fault("outage", seconds=outage_seconds)
            live = await simulator.live()
            if len(live) < calls:
                raise BenchError(f"{len(live)} of {calls} calls have a session")
            cut = live[::2]
            await _all(simulator.fault("drop", session=each["id"]) for each in cut)
            numbers = {int(found[1]) for each in cut if (found := _CALLER.search(each["instructions"]))}
            await asyncio.sleep(down_seconds + outage_seconds - time.monotonic())
            back_seconds = time.monotonic()
            waiting = [caller for caller in callers if caller.asked_seconds is not None and caller.closed is None]
            await asyncio.sleep(AFTER_SECONDS)
            ended_seconds = time.monotonic()
            seconds = (await simulator.counters())["seconds"]
        finally:
            over.set()
    return Outcome(
        calls,
        outage_seconds,
        Rates.of(seconds, began_seconds, down_seconds),
        Rates.of(seconds, down_seconds, back_seconds),
        Rates.of(seconds, back_seconds, ended_seconds),
        Served.of([caller for caller in waiting if caller.number in numbers], back_seconds),
        Served.of([caller for caller in waiting if caller.number not in numbers], back_seconds),
        sum(caller.closed is not None for caller in callers),
    )


def _messages(pcm: bytes) -> list[str]:
    padded = pcm + bytes(-len(pcm) % MESSAGE_BYTES)
    return [
        protocol.audio(padded[start : start + MESSAGE_BYTES]).decode()
        for start in range(0, len(padded), MESSAGE_BYTES)
    ]


async def _all(work: Iterable[Awaitable[object]]) -> None:
    await asyncio.gather(*work)
