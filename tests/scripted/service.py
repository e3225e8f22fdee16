"""The service's real processes before a scripted Realtime end, and the calls that a test places there."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import redis

from common.audio.wav import read_wav
from simulator.avr.ami import AmiDouble
from simulator.avr.core import SimulatedCall, place_call
from tests.helpers import eventually
from tests.scenarios.processes import Cluster
from tests.scenarios.tones import loudest
from tests.scripted.realtime_end import GREETING_HZ, PATIENCE_SECONDS, RealtimeEnd, Script, ScriptedSession

# Calls of the test that runs: several may run in one loop.
_calls: ContextVar[list[SimulatedCall]] = ContextVar("calls")

FRAME_BYTES = 320
FRAME_MS = 20
# Tones of tests are multiples of this, which a frame is long enough to tell apart.
TONE_STEP_HZ = 100
# A frame below this is silence: -40 dBFS.
SILENCE_RMS = 328
# Frames at the edges of a tone sound like anything.
SHORTEST_TONE_FRAMES = 3

# A minute of a caller who speaks, with no pause of 3 s.
_SPEECH = read_wav(Path(__file__).resolve().parents[2] / "simulator" / "speech" / "caller.wav")
_TIMES_SPOKEN = 7

ANSWER_FAILED_TEXT = "That did not work, please say it again."

# It counts its runs for each call: a second run would show.
LOOK_UP = """
name = "look_up"
description = "Looks something up."
input_schema = {"type": "object", "properties": {"name": {"type": "string"}}}
runs = {}


async def handler(uuid, args, metadata):
    runs[uuid] = runs.get(uuid, 0) + 1
    return f"{args.get('name', 'it')}: run {runs[uuid]}"
"""


def tones(pcm: bytes) -> list[int]:
    """Frequencies of the tones in this audio, in order; one for each tone, however long."""
    found: list[int] = []
    current, length = 0, 0
    for start in range(0, len(pcm) - FRAME_BYTES + 1, FRAME_BYTES):
        hz = _tone_of(pcm[start : start + FRAME_BYTES])
        length = length + 1 if hz == current else 1
        current = hz
        if hz and length == SHORTEST_TONE_FRAMES and (not found or found[-1] != hz):
            found.append(hz)
    return found


def _tone_of(frame: bytes) -> int:
    samples = np.frombuffer(frame, "<i2").astype(np.float64)
    if np.sqrt(np.mean(samples**2)) < SILENCE_RMS:
        return 0
    return round(loudest(frame) / TONE_STEP_HZ) * TONE_STEP_HZ


class ScriptedCall:
    """A call, and its session at the scripted end.

    Attributes:
        call: as AVR Core has it.
        session: its Realtime session; of several, the first one.
        key: its API key, which no other call has.
    """

    def __init__(self, service: ScriptedService, call: SimulatedCall, session: ScriptedSession, key: str) -> None:
        self.service = service
        self.call = call
        self.session = session
        self.key = key

    @property
    def tones(self) -> list[int]:
        """Tones that AVR Core has received, the greeting's first."""
        return tones(self.call.received_pcm)

    @property
    def transcripts(self) -> list[tuple[str, str]]:
        """Transcripts that AVR Core has received: (role, text)."""
        return [(transcript.role, transcript.text) for transcript in self.call.transcripts]

    async def hears(self, *hz: int) -> None:
        """Wait until the caller has got the last of these tones, and check that these are all."""
        await self.call.wait_for(lambda _: self.tones[-1:] == [hz[-1]], timeout_seconds=PATIENCE_SECONDS)
        assert self.tones == list(hz)

    def start_speech(self) -> str:
        """Have the caller speak, and the API hear it begin; returns the id of the caller's item.

        The caller goes on speaking: the service ends a turn by itself if the caller is silent in it for 3 s, and a
        test on a busy machine may need longer to end it.
        """
        self.call.microphone.say(_SPEECH * _TIMES_SPOKEN)
        return self.session.start_speech()

    async def greeted(self) -> None:
        """Wait for the greeting's transcript, which follows its sound."""
        await self.hears(GREETING_HZ)
        await self.call.wait_for(lambda _: self.transcripts, timeout_seconds=PATIENCE_SECONDS)

    async def told(self, *expected: tuple[str, str]) -> None:
        """Wait for so many transcripts, and check that they are these."""
        await self.call.wait_for(
            lambda _: len(self.transcripts) >= len(expected), timeout_seconds=PATIENCE_SECONDS
        )
        assert self.transcripts == list(expected)

    async def passes(self, seconds: float) -> None:
        """Continue the call for this time, by AVR Core's frames, to check that a message does not come."""
        until = self.call.record.frames_sent + round(seconds * 1000 / FRAME_MS)
        await self.call.wait_for(
            lambda call: call.record.frames_sent >= until, timeout_seconds=seconds + PATIENCE_SECONDS
        )

    async def ends(self) -> str:
        """Wait for the end; returns the message that AVR Core got."""
        await eventually(self.call.closed.is_set, PATIENCE_SECONDS)
        assert self.call.close_code == 1011
        (error,) = self.call.errors
        return error.message

    async def say(self, text: str) -> None:
        """`POST /calls/{uuid}/say`."""
        status, body = await self.service.post(f"calls/{self.call.uuid}/say", {"text": text})
        assert status == 200, body

    async def update(self, session: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """`POST /calls/{uuid}/session`: HTTP status and body."""
        return await self.service.post(f"calls/{self.call.uuid}/session", session)


class ScriptedService:
    """One dispatcher and one worker before a scripted Realtime end.

    Attributes:
        realtime: the scripted end.
        cluster: the processes.
        ami: avr-ami.
    """

    def __init__(
        self, realtime: RealtimeEnd, cluster: Cluster, ami: AmiDouble, http: aiohttp.ClientSession
    ) -> None:
        self.realtime = realtime
        self.cluster = cluster
        self.ami = ami
        self._http = http
        self._numbers = itertools.count(1)

    def new_key(self) -> str:
        """Return a key, which makes a call independent of the others: waiting times are shared by key."""
        return f"sk-test-{next(self._numbers):016}"

    async def place(self, key: str, **options: Any) -> SimulatedCall:
        """Place a call with this key."""
        call = await place_call(await self.cluster.url(), provider_config={"api_key": key}, **options)
        _calls.get().append(call)
        return call

    async def call(
        self, script: Script | None = None, *, beside: ScriptedCall | None = None, **options: Any
    ) -> ScriptedCall:
        """Place a call and wait for its session; where the script greets, for the greeting, too.

        Args:
            script: the routine of its sessions.
            beside: the call has the key, and the script, of this one.
            options: of `place_call`.
        """
        key = self.new_key() if beside is None else beside.key
        if script is not None:
            self.realtime.scripts[key] = script
        number = 1 + len(self.realtime.sessions(key))
        call = await self.place(key, **options)
        session = await self.realtime.session(key, number)
        made = ScriptedCall(self, call, session, key)
        if self.realtime.scripts[key].greets:
            await made.greeted()
        return made

    @asynccontextmanager
    async def own_calls(self) -> AsyncIterator[None]:
        """Hang up the calls that are placed within it."""
        token = _calls.set([])
        try:
            yield
        finally:
            for call in _calls.get():
                await call.hang_up()
            _calls.reset(token)

    async def post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Send a request to the calls API."""
        async with self._http.post(f"{await self.cluster.admin_url()}/{path}", json=body) as response:
            return response.status, await response.json()

    async def metric(self, name: str) -> float:
        """Return the value of a series of the worker."""
        worker = await self.cluster.workers[0].line("worker listening")
        async with self._http.get(f"http://127.0.0.1:{worker['admin_port']}/metrics") as response:
            lines = (await response.text()).splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)

    async def lines(self, call: ScriptedCall, *words: str) -> list[dict[str, Any]]:
        """Wait for a log line as `worker_lines` finds it; returns all of them."""
        await eventually(lambda: self.worker_lines(call, *words), PATIENCE_SECONDS)
        return self.worker_lines(call, *words)

    def worker_lines(self, call: ScriptedCall, *words: str) -> list[dict[str, Any]]:
        """Return the worker's log lines of this call that contain all these words."""
        lines = [line for line in self.cluster.workers[0].lines if line.get("uuid") == call.call.uuid]
        return [line for line in lines if all(word in str(line) for word in words)]


@asynccontextmanager
async def scripted_service(redis_url: str, tools: Path, **settings: object) -> AsyncIterator[ScriptedService]:
    """Yield the processes, with the tool `look_up`.

    Args:
        redis_url: a Redis, which is emptied.
        tools: a folder for tools.
        settings: of the processes.
    """
    (tools / "look_up.py").write_text(LOOK_UP)
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    async with AsyncExitStack() as stack:
        realtime = await stack.enter_async_context(RealtimeEnd())
        ami = await stack.enter_async_context(AmiDouble())
        http = await stack.enter_async_context(aiohttp.ClientSession())
        fields = {
            "AMI_URL": ami.url,
            "TOOLS_DIR": tools,
            "ANSWER_FAILED_TEXT": ANSWER_FAILED_TEXT,
            # The way out has tests of its own: here a call that fails ends at once, with its reason.
            "FALLBACK_WAV": "none",
            **settings,
        }
        cluster = await stack.enter_async_context(Cluster(redis_url, realtime.url, **fields))
        await cluster.start(workers=1)
        yield ScriptedService(realtime, cluster, ami, http)
