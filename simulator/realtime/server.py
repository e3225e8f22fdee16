"""The Realtime API simulator's server: sessions over WebSocket, control over HTTP, on one port.

WebSocket: any path that ends in `/realtime`, with `?model=` and `Authorization: Bearer`. The paths of Azure OpenAI
also take the header `api-key`: `/openai/v1/realtime?model=DEPLOYMENT`, and `/openai/realtime?api-version=...
&deployment=DEPLOYMENT`, where the beta dialect is spoken. Control:

- `GET /simulator/sessions`: live and ended sessions, with all that the model was told. `?mentions=TEXT` selects
  sessions by a text in their instructions (the uuid of a call, if OPENAI_INSTRUCTIONS holds `{uuid}`).
  `?brief=1` leaves out conversations, and `?live=1` leaves out ended sessions.
- `GET /simulator/counters`: connection attempts, client events by type (`response.create`), responses and tokens,
  in total and for each second of the monotonic clock.
- `POST /simulator/faults`: a method of `simulator.realtime.faults.Faults` and its arguments, such as
  `{"fault": "refuse", "status": 503, "times": 2}` or `{"fault": "drop", "session": "sess_..."}`. A session is
  named by its id or its number.
- `DELETE /simulator/faults`: drop all pending faults.
"""

from __future__ import annotations

import hmac
import inspect
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any

import orjson
from aiohttp import web

from simulator.realtime.counters import Counters
from simulator.realtime.faults import (
    AZURE_NOT_FOUND,
    BAD_KEY,
    BETA_DIALECT,
    MISSING_BETA_HEADER,
    MISSING_KEY,
    Faults,
    Refusal,
    unknown_model,
)
from simulator.realtime.script import Script
from simulator.realtime.session import RealtimeSession
from simulator.realtime.session_faults import SessionFaults
from simulator.realtime.settings import DialectName, SimulatorSettings
from simulator.realtime.simulated_session import CLOSE_TIMEOUT_SECONDS, SimulatedSession
from simulator.waiting import Waiter, settle, wait_until

# One `append` may carry 15 MiB of audio.
MAX_MESSAGE_BYTES = 21 * 1024 * 1024

# Number of ended sessions whose audio is kept.
MAX_AUDIO_HISTORY = 10

AZURE_PATH = "/openai/"
AZURE_BETA_PATH = "/openai/realtime"

_SECRET_HEADERS = ("authorization", "api-key")
_MODEL_PREFIXES = {DialectName.GA: "gpt-", DialectName.BETA: "gpt-", DialectName.XAI: "grok-"}


class RealtimeSimulator:
    """A server that behaves like OpenAI's Realtime API where a client depends on it.

    Args:
        settings: settings of the server.
        script: what the model says in each session; None: as the settings say.

    Attributes:
        settings: settings of the server.
        faults: commands for faults.
        sessions: live sessions, in order of opening.
        history: ended sessions, in order of ending; bounded.
        opened: number of sessions opened.
        refused: number of connections refused.
        counters: counts, second by second.
    """

    def __init__(self, settings: SimulatorSettings | None = None, *, script: Script | None = None) -> None:
        self.settings = settings or SimulatorSettings()
        self.faults = Faults()
        self.sessions: list[SimulatedSession] = []
        self.history: deque[SimulatedSession] = deque(maxlen=self.settings.history_limit)
        self.opened = 0
        self.refused = 0
        self.counters = Counters()
        self._script = script
        self._runner: web.AppRunner | None = None
        self._address: tuple[str, int] | None = None
        self._waiters: list[Waiter[RealtimeSimulator]] = []

    async def __aenter__(self) -> RealtimeSimulator:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """Return `ws://127.0.0.1:PORT/v1/realtime`."""
        if self._address is None:
            raise RuntimeError("the simulator is not started")
        host, port = self._address
        return f"ws://{f'[{host}]' if ':' in host else host}:{port}/v1/realtime"

    @property
    def control_url(self) -> str:
        """Return `http://127.0.0.1:PORT/simulator`."""
        return f"http{self.url.removeprefix('ws').removesuffix('/v1/realtime')}/simulator"

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Start to listen.

        Raises:
            OSError: the port is taken or not allowed.
        """
        app = web.Application()
        app.router.add_get("/{prefix:(?:.*/)?}realtime", self._connect)
        app.router.add_get("/simulator/sessions", self._get_sessions)
        app.router.add_get("/simulator/counters", self._get_counters)
        app.router.add_post("/simulator/faults", self._post_fault)
        app.router.add_delete("/simulator/faults", self._delete_faults)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_TIMEOUT_SECONDS)
        await runner.setup()
        site = web.TCPSite(runner, host, port, backlog=1024)
        try:
            await site.start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self._address = (host, runner.addresses[0][1])

    async def stop(self) -> None:
        """Close all sessions and stop listening. A second call does nothing."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        for site in list(runner.sites):
            await site.stop()
        for session in list(self.sessions):
            session.close(1001, "")
        try:
            await self.wait_for(lambda simulator: not simulator.sessions, timeout_seconds=CLOSE_TIMEOUT_SECONDS)
        except TimeoutError:
            for session in list(self.sessions):
                session.drop()
        await runner.cleanup()

    async def wait_for_session(self, number: int = 1, *, timeout_seconds: float = 10.0) -> SimulatedSession:
        """Return the `number`-th session since the start (from 1) when it is open; it may have ended since.

        Raises:
            TimeoutError: fewer sessions were opened.
            LookupError: the session ended long ago and is forgotten.
        """
        await self.wait_for(lambda simulator: simulator.opened >= number, timeout_seconds=timeout_seconds)
        for session in (*self.sessions, *self.history):
            if session.number == number:
                return session
        raise LookupError(f"session {number} is forgotten: history_limit is {self.settings.history_limit}")

    async def wait_for(
        self, predicate: Callable[[RealtimeSimulator], Any], *, timeout_seconds: float = 10.0
    ) -> None:
        """Wait until `predicate(simulator)` is true; the predicate is called after each event of any session.

        Raises:
            TimeoutError: the predicate stayed false.
        """
        await wait_until(self._waiters, predicate, self, timeout_seconds, self._summary)

    def _summary(self) -> str:
        return f"{len(self.sessions)} sessions, {self.opened} opened, {self.refused} refused"

    def find_session(self, name: str | int) -> SimulatedSession | None:
        """Return the live session with this id or number."""
        return next((each for each in self.sessions if name in (each.id, each.number)), None)

    # Sessions.

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        refusal = self._refusal(request)
        self.counters.count("connections")
        if refusal is not None:
            self.counters.count("connections_refused")
        if refusal is not None and refusal.status is not None:
            self.refused += 1
            self._notify()
            seconds = refusal.retry_after_seconds
            headers = {} if seconds is None else {"Retry-After": str(seconds)}
            return web.json_response({"error": refusal.error()}, status=refusal.status, headers=headers)
        socket = web.WebSocketResponse(
            timeout=CLOSE_TIMEOUT_SECONDS, max_msg_size=MAX_MESSAGE_BYTES, compress=False
        )
        try:
            await socket.prepare(request)
        except ConnectionError:
            # The client has disconnected. aiohttp discards this answer, but would log an unprepared WebSocket.
            return web.Response()
        if refusal is not None:
            self.refused += 1
            self._notify()
            await _refuse_in_band(socket, refusal)
            return socket
        session = self._open(request)
        try:
            await session.serve(request, socket)
        finally:
            self._ended(session)
        return socket

    def _refusal(self, request: web.Request) -> Refusal | None:
        refusal = self.faults.take_refusal()
        if refusal is not None:
            return refusal
        key = _key(request)
        if not key:
            return MISSING_KEY
        expected = self.settings.api_key
        if expected is not None and not hmac.compare_digest(key.encode(), expected.encode()):
            return replace(BAD_KEY, status=None) if self.settings.bad_key_in_band else BAD_KEY
        azure = request.path.startswith(AZURE_PATH)
        if request.path == AZURE_BETA_PATH and not request.query.get("api-version"):
            return AZURE_NOT_FOUND
        dialect = self._dialect(request)
        asks_for_beta = request.headers.get("OpenAI-Beta") == "realtime=v1"
        if asks_for_beta and dialect is DialectName.GA:
            return BETA_DIALECT
        if not asks_for_beta and dialect is DialectName.BETA and not azure:
            return MISSING_BETA_HEADER
        model = _model(request)
        prefix = "" if azure else _MODEL_PREFIXES[dialect]
        known = model in self.settings.models if self.settings.models else model.startswith(prefix)
        return None if model and known else unknown_model(model)

    def _dialect(self, request: web.Request) -> DialectName:
        return DialectName.BETA if request.path == AZURE_BETA_PATH else self.settings.dialect

    def _open(self, request: web.Request) -> SimulatedSession:
        self.opened += 1
        core = RealtimeSession(
            model=_model(request),
            settings=self.settings,
            faults=SessionFaults.of_new_session(self.faults.shared),
            wall_time_seconds=time.time(),
            dialect=self._dialect(request),
            counters=self.counters,
            script=self._script,
        )
        session = SimulatedSession(
            self.opened,
            core,
            path=request.path_qs,
            headers={
                name: value for name, value in request.headers.items() if name.lower() not in _SECRET_HEADERS
            },
            key_header=_key_header(request),
            on_change=self._notify,
            silent=self.faults.take_silence(),
        )
        self.sessions.append(session)
        self._notify()
        return session

    def _ended(self, session: SimulatedSession) -> None:
        self.sessions.remove(session)
        session.core.input.clear()
        self.history.append(session)
        if len(self.history) > MAX_AUDIO_HISTORY:
            self.history[-MAX_AUDIO_HISTORY - 1].core.recording.clear()
        self._notify()

    def _notify(self) -> None:
        settle(self._waiters, self)

    # Control.

    async def _get_sessions(self, request: web.Request) -> web.Response:
        text, brief = request.query.get("mentions", ""), "brief" in request.query
        live = [session for session in self.sessions if text in session.instructions]
        ended = [session for session in self.history if text in session.instructions]
        report = {
            "live": [session.report(brief=brief) for session in live],
            "ended": [] if "live" in request.query else [session.report(brief=brief) for session in ended],
            "opened": self.opened,
            "refused": self.refused,
        }
        return web.Response(body=orjson.dumps(report), content_type="application/json")

    async def _get_counters(self, _request: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps(self.counters.report()), content_type="application/json")

    async def _post_fault(self, request: web.Request) -> web.Response:
        try:
            command = orjson.loads(await request.read())
            if not isinstance(command, dict):
                raise ValueError("the body must be a JSON object")
            self._command(**command)
        except (ValueError, TypeError, LookupError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({"ok": True})

    def _command(self, *, fault: str, session: str | int | None = None, **arguments: Any) -> None:
        if fault not in FAULTS:
            raise ValueError(f"there is no fault {fault!r}; there are {', '.join(FAULTS)}")
        method = getattr(self.faults, fault)
        if session is not None:
            found = self.find_session(session)
            if found is None:
                raise LookupError(f"there is no live session {session!r}")
            arguments["session"] = found
        inspect.signature(method).bind(**arguments)
        method(**arguments)

    async def _delete_faults(self, _request: web.Request) -> web.Response:
        self.faults.clear()
        return web.json_response({"ok": True})


FAULTS = (
    "refuse",
    "limit_connections",
    "silence",
    "ignore",
    "refuse_event",
    "delay",
    "end_response",
    "silent_response",
    "late_response",
    "late_deltas",
    "lose",
    "garble",
    "endless_speech",
    "false_speech",
    "overlap",
    "rate_limit",
    "leave_unread",
    "leave_out",
    "limit_context",
    "outage",
    "drop",
    "stall",
    "resume",
    "expire",
    "error",
    "send",
)


def _key_header(request: web.Request) -> str:
    azure = request.path.startswith(AZURE_PATH) and "api-key" in request.headers
    return "api-key" if azure else "Authorization"


def _key(request: web.Request) -> str:
    """Return the key that the client sent; empty: no key."""
    if _key_header(request) == "api-key":
        return request.headers["api-key"].strip()
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _model(request: web.Request) -> str:
    return request.query.get("deployment" if request.path == AZURE_BETA_PATH else "model", "")


async def _refuse_in_band(socket: web.WebSocketResponse, refusal: Refusal) -> None:
    error = {**refusal.error(), "event_id": None}
    await socket.send_json({"type": "error", "event_id": "event_refused", "error": error})
    await socket.close(code=refusal.close_code, message=refusal.close_reason().encode())
