"""The check of the session: opens one with the configuration of a call, voice and tools included.

The API answers `session.update` with `session.updated` or an error, and generates nothing. Turn detection may not
begin responses (`create_response` is off), so the check costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
import uuid
from collections.abc import Sequence
from typing import Any, Final

from common.check.check import Check
from common.check.finding import Finding, State
from common.errors import UpstreamError
from common.settings.settings import Settings
from worker.check import loaded_tools
from worker.check.loaded_tools import LoadedTools
from worker.check.realtime_api import CLOSE_SECONDS, PASSES
from worker.config import instructions, profile_loading
from worker.config.profile import CallProfile
from worker.config.session_config import SessionConfig, session_tools
from worker.realtime import client_events
from worker.realtime.connection import RealtimeConnection
from worker.realtime.errors import ErrorEvent, Severity
from worker.session.action_queue import ActionQueue
from worker.session.actions import ToUpstream
from worker.session.session_updates import SessionUpdates, UpdateKind

NAME: Final = "session"

_TOOL: Final = re.compile(r"session\.tools\[(\d+)\]")
_VARIABLES: Final = (
    (r"voice\b", "OPENAI_VOICE"),
    (r"speed\b", "OPENAI_SPEED"),
    (r"noise_reduction\b", "OPENAI_NOISE_REDUCTION"),
    (r"transcription\.language", "OPENAI_LANGUAGE"),
    (r"transcription\b", "OPENAI_TRANSCRIPTION_MODEL"),
    (r"turn_detection\b", "OPENAI_TURN_DETECTION"),
    (r"session\.reasoning\b", "OPENAI_REASONING_EFFORT"),
    (r"session\.tool_choice\b", "OPENAI_TOOL_CHOICE"),
    (r"session\.tracing\b", "OPENAI_TRACING"),
    (r"session\.truncation\b", "OPENAI_TRUNCATION"),
    (r"session\.prompt\b", "OPENAI_PROMPT_ID"),
    (r"session\.max_(?:response_)?output_tokens\b", "OPENAI_MAX_TOKENS"),
    (r"session\.temperature\b", "OPENAI_TEMPERATURE"),
    (r"session\.instructions\b", "the instructions"),
    (r"session\.model\b", "OPENAI_MODEL"),
)
"""Patterns of an error's `param`, and the setting to correct."""


class SetUp:
    """The set-up of one session, with the updates that a call sends. It is the owner of a connection.

    Attributes:
        done: done when the session is set up; fails with `UpstreamError` if it will not be.
        has_session: the API has not refused the key, the model or the connection.
        refused: the setting for which the API refused the session; empty: it is not known.
        left_out: settings that the API refused, and that calls go without, with the API's words.
        updates: of the session.
    """

    def __init__(self, config: SessionConfig) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.has_session = False
        self.refused = ""
        self.left_out: list[tuple[str, str]] = []
        self.connection = RealtimeConnection(self)
        self._config = config
        self._out = ActionQueue()
        self.updates = SessionUpdates(config, self._out, "")
        self._sent: dict[str, Any] = {}

    def begin(self) -> None:
        """Send the session, with responses off."""
        self.has_session = not self.done.done()
        self.updates.open(time.monotonic(), muted=True)
        self._send()

    def event(self, event: dict[str, Any], received_seconds: float) -> None:
        """Take the answer to the session, which may come after others."""
        try:
            event = self._config.dialect.from_wire(event)
            if event["type"] == "session.updated":
                if self.updates.updated(event.get("session"), received_seconds) is UpdateKind.OPENING:
                    self._end(None)
            elif event["type"] == "error":
                self._refused(ErrorEvent.from_event(event["error"]), received_seconds)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            self._end(
                UpstreamError(f"it sent an event of another shape: {error!r}", code="event", retryable=False)
            )
        self._send()

    def unreadable(self) -> None:
        """Fail, because the service speaks another protocol."""
        self._end(UpstreamError("it sent a message that is no event", code="event", retryable=False))

    def upstream_writable(self) -> None:
        """Do nothing, because one message is sent."""

    def connection_lost(self, reason: str) -> None:
        """Fail, because the connection ended before the session was set up."""
        self._end(UpstreamError(f"it ended the connection: {reason}", code="closed", retryable=True))

    def _refused(self, error: ErrorEvent, now_seconds: float) -> None:
        where = self._place(error.param)
        refused = self.updates.refused(error, now_seconds)
        if error.severity is Severity.FATAL:
            # A refused key or model may come as an event, too.
            self.has_session = False
        elif refused is True:
            self.left_out.append((where, error.message))
            return
        elif not refused:
            return
        self.refused = where
        self._end(UpstreamError(error.message, code=error.code, retryable=error.is_outage))

    def _place(self, param: str) -> str:
        """Return the setting of a refused field, or the tool; empty: it is not known."""
        found = _TOOL.match(param)
        if found is not None:
            tools = self._config.dialect.session(self._sent).get("tools") or []
            index = int(found[1])
            tool = tools[index] if index < len(tools) else {}
            return f"the tool {str(tool.get('name') or tool.get('server_label') or index)[:64]}"
        return next((setting for pattern, setting in _VARIABLES if re.search(pattern, param)), "")

    def _send(self) -> None:
        actions, self._out.actions = self._out.actions, []
        for action in actions:
            if isinstance(action, ToUpstream):
                self._sent = action.event["session"]
                self.connection.send(client_events.encode(action.event, self._config.dialect))

    def _end(self, error: UpstreamError | None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


def check(settings: Settings, loaded: LoadedTools, seconds: float) -> Check:
    """Return the check.

    Args:
        settings: of a worker.
        loaded: its tools.
        seconds: time for the API.
    """
    value = settings.openai_voice

    async def look() -> Sequence[Finding]:
        tools = await loaded.get()
        # An instructions service has a check of its own, and its wrong fields are ignored in calls.
        own = settings.model_copy(update={"openai_url_instructions": None})
        async with instructions.http_client() as http:
            profile = await profile_loading.load(
                own, uuid=str(uuid.uuid4()), metadata={}, provider_config={}, http=http
            )
        chosen, _ = session_tools(profile, tools.tool_set)
        config = SessionConfig.of(profile, tools.tool_set, own, tools=chosen)
        set_up = SetUp(config)
        try:
            async with asyncio.timeout(seconds):
                await _open(set_up, profile, settings)
        except UpstreamError as error:
            return [_failed(value, error, set_up)]
        except TimeoutError:
            what = f"the API did not set up the session within {seconds:g} s"
            return [Finding(NAME, State.FAIL, value, what, PASSES)]
        return _findings(value, set_up, len(chosen))

    return Check(NAME, value, look, late="see the check of the tools", seconds=loaded_tools.SECONDS + seconds + 1)


async def _open(set_up: SetUp, profile: CallProfile, settings: Settings) -> None:
    """Open and set up a session, and close it.

    Raises:
        UpstreamError: there was none.
    """
    connection, key = set_up.connection, profile.api_key.get_secret_value()
    try:
        await connection.open(profile.url, profile.headers, key, proxies=settings.proxies)
        set_up.begin()
        await set_up.done
        connection.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(connection.wait_closed(), CLOSE_SECONDS)
    finally:
        connection.abort()


def _failed(value: str, error: UpstreamError, set_up: SetUp) -> Finding:
    if not set_up.has_session:
        return Finding(NAME, State.SKIPPED, value, "there was no session: see the check of the Realtime API")
    todo = PASSES if error.retryable else f"correct {set_up.refused or 'the settings, or OPENAI_SESSION'}"
    return Finding(NAME, State.FAIL, value, f"the API refuses the session: {error}", todo)


def _findings(value: str, set_up: SetUp, tools: int) -> list[Finding]:
    found = [
        Finding(
            NAME,
            State.WARN,
            value,
            f"the API refuses a field, and calls go without it: {message}",
            f"correct {where or 'OPENAI_SESSION'}",
        )
        for where, message in set_up.left_out
    ]
    if set_up.updates.differences:
        fields = ", ".join(set_up.updates.differences)
        what = f"the API has other values than the settings: {fields}"
        found.append(Finding(NAME, State.WARN, value, what, "choose values that this model has"))
    return found or [Finding(NAME, State.OK, value, f"the API takes the settings of a call, with {tools} tools")]
