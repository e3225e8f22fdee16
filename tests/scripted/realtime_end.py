"""A Realtime API that does what a test tells it: a real WebSocket server without a model and without opinions.

    async with RealtimeEnd() as realtime:
        ...                                         # a call is placed with the key "sk-one"
        session = await realtime.session("sk-one")
        await session.request(1)                    # the worker's first response.create
        session.begin_response().failed("server_error")
        await session.request(2)

The simulator shares the assumptions of the service; this server has none. By itself it does the routine parts
only: it opens the session, acknowledges `session.update` and changes of the conversation, and greets. A `Script`
turns these off. `openai.types.realtime` checks the shape of each event that is sent, except of raw ones.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import orjson
from aiohttp import WSMsgType, web

from simulator.waiting import Waiter, settle, wait_until
from tests.scripted import events as api
from tests.scripted.events import Event
from tests.scripted.response import ScriptedResponse

# How long a test waits before it says that something does not happen at all.
PATIENCE_SECONDS = 8.0
GREETING_HZ = 400
GREETING = "Hello!"

Handler = Callable[["ScriptedSession", Event], None]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer to a handshake: HTTP status, the `error` of its body, and more headers."""

    status: int
    error: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Script:
    """The routine of one call's sessions.

    Attributes:
        greets: the first `response.create` is answered with a short tone of GREETING_HZ.
        update: answers `session.update`; None: nothing does.
        created: more fields of the session object in `session.created`.
        wire: the events that are sent in the place of an event, to play a service that differs from the API.
        refusals: answers to the first handshakes, in order.
        refuses: the answer to all further handshakes, if any.
    """

    greets: bool = True
    update: Handler | None = field(default_factory=lambda: accept_update)
    created: dict[str, Any] = field(default_factory=dict)
    wire: Callable[[Event], Iterable[Event]] = lambda event: (event,)
    refusals: list[Refusal] = field(default_factory=list)
    refuses: Refusal | None = None


def accept_update(session: ScriptedSession, update: Event) -> None:
    """Merge `session.update` into the session and echo the whole, as the API does."""
    session.configuration = _merged(session.configuration, update["session"])
    session.send(api.session_updated(session.configuration))


class ScriptedSession:
    """One connection.

    Attributes:
        headers: of the handshake, in lower case.
        configuration: the session object in force.
        events: received events, in order, except the caller's audio.
        times: when each of these events came, by `time.monotonic()`.
        appended: the caller's audio as it was sent: PCM at 24 kHz, or G.711.
        items: ids of the conversation's items, in order.
        closed: set when the connection is gone.
    """

    def __init__(
        self,
        number: int,
        socket: web.WebSocketResponse,
        transport: asyncio.BaseTransport | None,
        script: Script,
        headers: dict[str, str],
    ) -> None:
        self.number = number
        self.script = script
        self.headers = headers
        self.configuration: dict[str, Any] = {
            "type": "realtime",
            "object": "realtime.session",
            "id": f"sess_{number}",
            **script.created,
        }
        self.events: list[Event] = []
        self.times: list[float] = []
        self.appended = bytearray()
        self.items: list[str] = []
        self.closed = asyncio.Event()
        self._socket = socket
        self._transport = transport
        self._outgoing: asyncio.Queue[str | None] = asyncio.Queue()
        self._waiters: list[Waiter[ScriptedSession]] = []
        self._numbers: defaultdict[str, int] = defaultdict(int)
        self._greeted = not script.greets

    # What the service has sent

    def received(self, kind: str) -> list[Event]:
        """Events of this type so far."""
        return [event for event in self.events if event["type"] == kind]

    @property
    def requests(self) -> list[Event]:
        """`response.create` events so far."""
        return self.received("response.create")

    @property
    def kinds(self) -> list[str]:
        """Types of the events so far, in order."""
        return [event["type"] for event in self.events]

    @property
    def created_items(self) -> list[dict[str, Any]]:
        """Items of `conversation.item.create` events so far."""
        return [event["item"] for event in self.received("conversation.item.create")]

    @property
    def notes(self) -> list[str]:
        """Texts that the service has put into the conversation as the user."""
        users = [item for item in self.created_items if item.get("role") == "user"]
        return [part.get("text", "") for item in users for part in item["content"]]

    @property
    def outputs(self) -> list[tuple[str, str]]:
        """Outputs of function calls: (call_id, output)."""
        items = self.created_items
        return [(item["call_id"], item["output"]) for item in items if item["type"] == "function_call_output"]

    @property
    def deleted(self) -> list[str]:
        """Ids of `conversation.item.delete` events."""
        return [event["item_id"] for event in self.received("conversation.item.delete")]

    def seconds(self, event: Event) -> float:
        """When this event came, by `time.monotonic()`."""
        return next(at for known, at in zip(self.events, self.times, strict=True) if known is event)

    @property
    def appended_ms(self) -> int:
        """How much of the caller's audio there is."""
        return len(self.appended) // self._bytes_per_ms("input")

    async def wait_for(
        self, predicate: Callable[[ScriptedSession], object], *, timeout_seconds: float = PATIENCE_SECONDS
    ) -> None:
        """Wait until `predicate(session)` is true; it is asked after each event.

        Raises:
            AssertionError: it was not true in time.
        """
        try:
            await wait_until(self._waiters, predicate, self, timeout_seconds)
        except TimeoutError:
            raise AssertionError(f"not within {timeout_seconds:g} s; the service sent {self.kinds}") from None

    async def event(self, kind: str, number: int = 1, *, timeout_seconds: float = PATIENCE_SECONDS) -> Event:
        """Wait for the first (second, ...) event of this type and return it."""
        await self.wait_for(lambda s: len(s.received(kind)) >= number, timeout_seconds=timeout_seconds)
        return self.received(kind)[number - 1]

    async def request(self, number: int, *, timeout_seconds: float = PATIENCE_SECONDS) -> Event:
        """Wait for the first (second, ...) `response.create` and return it."""
        return await self.event("response.create", number, timeout_seconds=timeout_seconds)

    # What the API does

    def send(self, *events: Event) -> None:
        """Send events, in order; they are gone when the service can have them."""
        for event in events:
            for sent in self.script.wire(event):
                # Unlike `orjson`, this writes a lone surrogate, and as an escape.
                self.send_raw(json.dumps(sent))

    def send_raw(self, text: str) -> None:
        """Send a text message that need not be an event, nor JSON."""
        self._outgoing.put_nowait(text)

    def new_id(self, kind: str) -> str:
        """Return an id such as `item_3`, unique in the session."""
        self._numbers[kind] += 1
        return f"{kind}_{self.number}_{self._numbers[kind]}"

    def add_item(self, item_id: str) -> str | None:
        """Append an item to the conversation; returns the id of the item before."""
        previous = self.items[-1] if self.items else None
        if item_id not in self.items:
            self.items.append(item_id)
        return previous

    def begin_response(self, *, created: bool = True) -> ScriptedResponse:
        """Start a response; `created`: send its `response.created`."""
        response = ScriptedResponse(self, self.new_id("resp"), self._encode)
        if created:
            self.send(api.response_created(response.id))
        return response

    def reply(self, hz: float, text: str = "Yes.", milliseconds: int = 300) -> ScriptedResponse:
        """Return a complete response: a tone of this frequency."""
        response = self.begin_response()
        response.audio(hz, milliseconds, text=text)
        response.done()
        return response

    def start_speech(self) -> str:
        """`speech_started`; returns the id of the caller's item."""
        item_id = self.new_id("caller")
        self.send(api.speech_started(item_id, self.appended_ms))
        return item_id

    def end_speech(self, item_id: str, text: str | None = "Well?") -> str:
        """`speech_stopped`, `committed`, the item, and its transcript, if there is one."""
        self.send(api.speech_stopped(item_id, self.appended_ms))
        self.commit(item_id)
        if text is not None:
            self.send(api.transcribed(item_id, text))
        return item_id

    def commit(self, item_id: str) -> None:
        """`committed`, and the caller's item."""
        previous = self.add_item(item_id)
        self.send(api.committed(item_id, previous), api.caller_item_added(item_id, previous))

    def turn(self, text: str | None = "Well?") -> str:
        """Send the events of a caller's turn, as the API's turn detection finds it; return the id of the item."""
        return self.end_speech(self.start_speech(), text)

    def drop(self) -> None:
        """Lose the connection: no close frame, and events that the service has not read are lost, too."""
        assert isinstance(self._transport, asyncio.WriteTransport)
        self._transport.abort()

    # The connection

    async def run(self) -> None:
        """Serve the connection to its end."""
        writing = asyncio.create_task(self._write())
        self.send(api.event("session.created", session=copy.deepcopy(self.configuration)))
        try:
            async for message in self._socket:
                if message.type is WSMsgType.TEXT:
                    self._receive(orjson.loads(message.data))
                    settle(self._waiters, self)
        finally:
            self.closed.set()
            self._outgoing.put_nowait(None)
            await writing
            settle(self._waiters, self)

    async def _write(self) -> None:
        while (text := await self._outgoing.get()) is not None:
            try:
                await self._socket.send_str(text)
            except ConnectionError:
                return

    def _receive(self, event: Event) -> None:
        if event["type"] == "input_audio_buffer.append":
            self.appended += base64.b64decode(event["audio"], validate=True)
            return
        self.events.append(event)
        self.times.append(time.monotonic())
        match event["type"]:
            case "session.update":
                if self.script.update is not None:
                    self.script.update(self, event)
            case "conversation.item.create":
                self._create_item(event)
            case "conversation.item.delete":
                if event["item_id"] in self.items:
                    self.items.remove(event["item_id"])
                self.send(api.event("conversation.item.deleted", item_id=event["item_id"]))
            case "conversation.item.truncate":
                fields = {name: event[name] for name in ("item_id", "content_index", "audio_end_ms")}
                self.send(api.event("conversation.item.truncated", **fields))
            case "response.create" if not self._greeted:
                self._greeted = True
                self.reply(GREETING_HZ, GREETING, 200)

    def _create_item(self, event: Event) -> None:
        item = {"status": "completed", "object": "realtime.item", **event["item"]}
        item.setdefault("id", self.new_id("made"))
        if item["type"].startswith("mcp_"):
            # These types have neither field.
            item = {name: value for name, value in item.items() if name not in ("status", "object")}
        previous = self.add_item(item["id"])
        self.send(
            api.event("conversation.item.added", item=item, previous_item_id=previous),
            api.event("conversation.item.done", item=item, previous_item_id=previous),
        )

    def _bytes_per_ms(self, side: str) -> int:
        return 48 if self._format(side) == "audio/pcm" else 8

    def _format(self, side: str) -> str:
        chosen = self.configuration.get("audio", {}).get(side, {}).get("format", {})
        return str(chosen.get("type", "audio/pcm"))

    def _encode(self, hz: float, milliseconds: int) -> bytes:
        return api.tone(self._format("output"), hz, milliseconds)


class RealtimeEnd:
    """The server. A call is known by its API key, so that each test has its own.

    Attributes:
        scripts: the routine for each key, to be set before its call is placed.
        handshakes: when handshakes came with each key, refused ones included, by `time.monotonic()`.
    """

    def __init__(self) -> None:
        self.scripts: defaultdict[str, Script] = defaultdict(Script)
        self.handshakes: defaultdict[str, list[float]] = defaultdict(list)
        self._sessions: defaultdict[str, list[ScriptedSession]] = defaultdict(list)
        self._waiters: list[Waiter[RealtimeEnd]] = []
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/v1/realtime", self._connected)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """`ws://127.0.0.1:PORT/v1/realtime`, for OPENAI_BASE_URL."""
        assert self._runner is not None
        return f"ws://127.0.0.1:{self._runner.addresses[0][1]}/v1/realtime"

    async def session(
        self, key: str, number: int = 1, *, timeout_seconds: float = PATIENCE_SECONDS
    ) -> ScriptedSession:
        """Wait for the first (second, ...) session with this key.

        Raises:
            AssertionError: there was none in time.
        """
        try:
            await wait_until(self._waiters, lambda end: len(end._sessions[key]) >= number, self, timeout_seconds)
        except TimeoutError:
            raise AssertionError(f"no session {number} within {timeout_seconds:g} s") from None
        return self._sessions[key][number - 1]

    def sessions(self, key: str) -> list[ScriptedSession]:
        """Return all sessions with this key so far."""
        return self._sessions[key]

    async def _connected(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        key = headers.get("authorization", "").removeprefix("Bearer ")
        self.handshakes[key].append(time.monotonic())
        settle(self._waiters, self)
        script = self.scripts[key]
        refusal = script.refusals.pop(0) if script.refusals else script.refuses
        if refusal is not None:
            body = {"error": refusal.error}
            return web.json_response(body, status=refusal.status, headers=refusal.headers)
        socket = web.WebSocketResponse(max_msg_size=32 * 1024 * 1024)
        try:
            await socket.prepare(request)
        except ConnectionError:
            return web.Response()  # to a client that has disconnected
        session = ScriptedSession(len(self._sessions[key]) + 1, socket, request.transport, script, headers)
        self._sessions[key].append(session)
        settle(self._waiters, self)
        await session.run()
        return socket


def _merged(into: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return the session object with these changes: objects are merged, all else is replaced."""
    merged = dict(into)
    for name, value in changes.items():
        known = merged.get(name)
        merged[name] = _merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged
