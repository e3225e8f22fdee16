"""Faults on command: refused connections, and faults of running sessions."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from simulator.realtime.ending import SERVER_ERROR_MESSAGE, Ending, Output, Result
from simulator.realtime.garbling import Garbling
from simulator.realtime.quirks import Quirk
from simulator.realtime.session_faults import MAX_PENDING, EventId, Outage, Rejection, SessionFaults


@dataclass(frozen=True, slots=True)
class Refusal:
    """The refusal of a connection.

    Attributes:
        status: HTTP status of the handshake; None: accept it, then send an `error` event and close.
        kind: the error's `type`.
        code: the error's `code`.
        message: the error's `message`.
        close_code: code of a refusal after the handshake.
        retry_after_seconds: `Retry-After` header of a refused handshake.
    """

    status: int | None
    kind: str
    code: str | None
    message: str
    close_code: int = 1011
    retry_after_seconds: int | None = None

    def error(self) -> dict[str, Any]:
        """Return the `error` object, the same in an HTTP body and in an event."""
        return {"message": self.message, "type": self.kind, "param": None, "code": self.code}

    def close_reason(self) -> str:
        """Return the reason that OpenAI's service writes into its close frame."""
        return f"{self.kind}.{self.code}"


# The texts are OpenAI's. Users of the service saw close code 3000 for a bad key and 4004 for a bad model. They saw
# 4000 for the beta dialect, which no longer exists.
MISSING_KEY = Refusal(401, "invalid_request_error", None, "Missing bearer authentication in header")
BAD_KEY = Refusal(401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided.", close_code=3000)
BETA_DIALECT = Refusal(
    None,
    "invalid_request_error",
    "beta_api_shape_disabled",
    "The Realtime Beta API is no longer supported. Please use /v1/realtime for the GA API.",
    close_code=4000,
)


# OpenAI's text is not known.
MISSING_BETA_HEADER = Refusal(
    None,
    "invalid_request_error",
    "missing_beta_header",
    "You must provide the header `OpenAI-Beta: realtime=v1` to access the Realtime Beta API.",
    close_code=4000,
)
# Azure's answer to a path or query that it does not have.
AZURE_NOT_FOUND = Refusal(404, "invalid_request_error", "404", "Resource not found")


def unknown_model(model: str) -> Refusal:
    """Return the refusal of a model that does not exist, or that this key may not use."""
    return Refusal(
        None,
        "invalid_request_error",
        "model_not_found",
        f"The model `{model}` does not exist or you do not have access to it.",
        close_code=4004,
    )


_BY_STATUS = {
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("invalid_request_error", "unsupported_country_region_territory", "Country not supported."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached. Please try again later."),
    500: ("server_error", "server_error", "The server had an error while processing your request."),
    503: ("server_error", "server_is_overloaded", "Our servers are currently overloaded. Please try again later."),
}


class FaultySession(Protocol):
    """The part of a session that faults use."""

    faults: SessionFaults

    def drop(self) -> None:
        """Cut the connection without a close frame."""

    def stall(self) -> None:
        """Stop reading and writing."""

    def resume(self) -> None:
        """End a `stall`."""

    def expire(self) -> None:
        """End the session as its time limit does."""

    def start_speech(self, seconds: float | None) -> None:
        """Report a start of speech although the caller is silent."""

    def send_text(self, text: str) -> None:
        """Send any text message."""

    def send_error(self, error: dict[str, Any], *, close: tuple[int, str] | None) -> None:
        """Send an `error` event, and close the session if `close` is given."""


class Faults:
    """Commands for faults; each can also be given over HTTP (`POST /simulator/faults`).

    Without `session`, the fault is for the next session to which it can happen.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.shared = SessionFaults()
        self._clock = clock
        self._refusals: deque[tuple[Refusal, float, float]] = deque()  # number of times, end of the time
        self._silent = 0
        self._most_a_second: int | None = None
        self._retry_after_seconds: int | None = None
        self._accepted: deque[float] = deque()

    def refuse(
        self,
        status: int | None = 503,
        *,
        times: int | None = None,
        seconds: float | None = None,
        code: str | None = None,
        message: str | None = None,
        close_code: int = 1011,
        retry_after_seconds: int | None = None,
    ) -> None:
        """Refuse connections: the next `times` (default 1), or all for `seconds`.

        With status None, the handshake succeeds, and an `error` event and a close follow.

        Raises:
            ValueError: `times` is less than 1, or too many refusals are pending.
        """
        if times is not None and times < 1:
            raise ValueError(f"connections can be refused 1 time or more, not {times}")
        if len(self._refusals) >= MAX_PENDING:
            raise ValueError(f"{MAX_PENDING} refusals are pending already")
        default = ("server_error", code or "server_error", "The server had an error.")
        kind, usual_code, usual_message = _BY_STATUS.get(status or 0, default)
        refusal = Refusal(
            status, kind, code or usual_code, message or usual_message, close_code, retry_after_seconds
        )
        until = math.inf if seconds is None else self._clock() + seconds
        often = (1 if seconds is None else math.inf) if times is None else times
        self._refusals.append((refusal, often, until))

    def limit_connections(self, per_second: int | None, *, retry_after_seconds: int | None = None) -> None:
        """Refuse connections with 429 when so many were accepted within the second before; None: no limit.

        Raises:
            ValueError: the limit is less than 1.
        """
        if per_second is not None and per_second < 1:
            raise ValueError(f"at least 1 connection a second is accepted, not {per_second}")
        self._most_a_second = per_second
        self._accepted.clear()
        self._retry_after_seconds = retry_after_seconds

    def silence(self, times: int = 1) -> None:
        """Accept the next connections and send nothing on them, not even `session.created`."""
        self._silent += times

    def ignore(
        self, event_type: str = "session.update", *, session: FaultySession | None = None, times: int = 1
    ) -> None:
        """Ignore the next client events of a type."""
        self._of(session).ignored[event_type] += times

    def refuse_event(
        self,
        event_type: str = "response.create",
        *,
        session: FaultySession | None = None,
        kind: str = "invalid_request_error",
        code: str | None = "invalid_value",
        message: str = "The request is refused by the simulator.",
        param: str | None = None,
        event_id: str = EventId.ECHO,
        times: int = 1,
    ) -> None:
        """Answer the next client events of a type with an `error` event, and ignore them otherwise.

        Args:
            event_type: type of the event, such as `session.update`.
            session: None: the next session that sends such an event.
            kind: the error's `type`.
            code: the error's `code`.
            message: the error's `message`.
            param: field that the error names, such as `session.tools[0].parameters`.
            event_id: `echo` repeats the client event's id, `null` sends none, `absent` leaves the field out.
            times: number of events.
        """
        rejection = Rejection(kind, code, message, param, EventId(event_id))
        self._of(session).rejections.add(rejection, times, event_type)

    def delay(
        self, event_type: str, seconds: float, *, session: FaultySession | None = None, times: int = 1
    ) -> None:
        """Process the next client events of a type later by this time; other events are not delayed."""
        self._of(session).delays.add(seconds, times, event_type)

    def end_response(
        self,
        status: str = "failed",
        *,
        session: FaultySession | None = None,
        after_ms: int = 0,
        reason: str = "content_filter",
        code: str | None = "server_error",
        message: str | None = None,
        output: str = Output.ITEM,
        times: int = 1,
    ) -> None:
        """End the next responses as `failed`, `incomplete`, or `completed` without audio.

        Args:
            status: `failed`, `incomplete` or `completed`.
            session: None: the next session with a response.
            after_ms: audio sent before the end.
            reason: reason of an incomplete response: `content_filter` or `max_output_tokens`.
            code: code of a failed response: `server_error`, `rate_limit_exceeded`, `insufficient_quota`,
                `context_length_exceeded` or any other.
            message: message of a failed response; None: the API's text for the code.
            output: `item`, `none` (no item) or `text` (a message with text alone). A completed response has
            no output unless it is text. An incomplete response ends its function call early.
            times: number of responses.

        Raises:
            ValueError: another status or output.
        """
        if status not in (Result.FAILED, Result.INCOMPLETE, Result.COMPLETED):
            raise ValueError(f"a response can end failed, incomplete or completed, not {status!r}")
        has = Output(output)
        if status == Result.COMPLETED:
            has = Output.TEXT if has is Output.TEXT else Output.NONE
        all_of_it = None if has is Output.TEXT else after_ms
        ending = Ending(status, all_of_it, reason, code, message, has)
        self._of(session).endings.add(ending, times)

    def silent_response(
        self,
        *,
        session: FaultySession | None = None,
        after_ms: int | None = 0,
        code: str | None = "server_error",
        message: str | None = None,
        error: bool = True,
        active: bool = False,
        times: int = 1,
    ) -> None:
        """End the next responses without `response.done`.

        Args:
            session: None: the next session with a response.
            after_ms: audio sent before the end; None: all of it, and the events for a done item.
            code: code of the `error` event.
            message: message of the `error` event; None: the API's text for the code.
            error: whether to send an `error` event, without an `event_id`.
            active: whether the response stays active until it is cancelled.
            times: number of responses.
        """
        status = Result.HUNG if active else Result.LOST
        ending = Ending(status, after_ms, code=code, message=message, announced=error)
        self._of(session).endings.add(ending, times)

    def late_response(
        self, seconds: float = 11.0, *, session: FaultySession | None = None, times: int = 1
    ) -> None:
        """Create the next responses later by this time; meanwhile they are active, and others are refused."""
        self._of(session).late_responses.add(seconds, times)

    def lose(
        self, event_type: str = "response.done", *, session: FaultySession | None = None, times: int = 1
    ) -> None:
        """Do not send the next server events of a type, although the session changes as if they were sent."""
        self._of(session).lost_events[event_type] += times

    def garble(
        self,
        event_type: str,
        how: str = Garbling.SURROGATE,
        *,
        session: FaultySession | None = None,
        times: int = 1,
    ) -> None:
        """Damage the next server events of a type: `surrogate` or `not_json`."""
        self._of(session).garblings.add(Garbling(how), times, event_type)

    def endless_speech(self, *, session: FaultySession | None = None, times: int = 1) -> None:
        """Do not report the end of the caller's next speech until the client commits it."""
        self._of(session).endless_speech += times

    def false_speech(self, session: FaultySession, *, seconds: float | None = None) -> None:
        """Report a start of speech now; report its end after `seconds`, or never."""
        session.start_speech(seconds)

    def overlap(self, *, session: FaultySession | None = None, times: int = 1) -> None:
        """Create another response before the next one that calls functions is done."""
        self._of(session).overlaps += times

    def rate_limit(
        self,
        remaining: int = 0,
        reset_seconds: float = 3.0,
        *,
        name: str = "tokens",
        limit: int = 250_000,
        session: FaultySession | None = None,
        times: int = 1,
    ) -> None:
        """Show this limit of `tokens` or `requests` in the next `rate_limits.updated`."""
        shown = {"name": name, "limit": limit, "remaining": remaining, "reset_seconds": reset_seconds}
        self._of(session).rate_limits.add(shown, times)

    def leave_unread(self, paths: Iterable[str], *, session: FaultySession | None = None) -> None:
        """Ignore fields of `session.update` (`audio.input.transcription`), for one session or all new ones."""
        self._of(session).unread_fields.update(paths)

    def leave_out(self, names: Iterable[str], *, session: FaultySession | None = None) -> None:
        """Give quirks to a session, or to all new ones: see `simulator.realtime.quirks.Quirk`."""
        self._of(session).quirks.update(Quirk(name) for name in names)

    def limit_context(self, tokens: int | None, *, session: FaultySession | None = None) -> None:
        """Fail responses with more input tokens than this (`context_length_exceeded`); None: no limit."""
        self._of(session).context_limit_tokens = tokens

    def outage(
        self,
        seconds: float,
        status: int | None = 503,
        *,
        code: str | None = None,
        message: str | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        """Refuse all connections for this time, and fail all responses of running sessions.

        Args:
            seconds: length of the outage.
            status: status of the handshakes; None: accept them, then send an `error` event and close.
            code: code of the refusals and of the failed responses.
            message: message of the failed responses; None: the API's text for the code.
            retry_after_seconds: `Retry-After` header of a refused handshake.
        """
        self.refuse(status, seconds=seconds, code=code, retry_after_seconds=retry_after_seconds)
        self._refusals.rotate(1)  # before the pending ones
        ending = Ending(code=code or "server_error", message=message, output=Output.NONE)
        self.shared.outage = Outage(self._clock() + seconds, ending)

    def late_deltas(self, count: int = 1, *, session: FaultySession | None = None) -> None:
        """Send audio of the next cancelled response after its `response.done`."""
        self._of(session).late_deltas += count

    def drop(self, session: FaultySession) -> None:
        """Drop the TCP connection."""
        session.drop()

    def stall(self, session: FaultySession) -> None:
        """Stop reading and writing; keep the connection."""
        session.stall()

    def resume(self, session: FaultySession) -> None:
        """End a stall."""
        session.resume()

    def expire(self, session: FaultySession) -> None:
        """End the session as its time limit does."""
        session.expire()

    def error(
        self,
        session: FaultySession,
        *,
        code: str | None = "server_error",
        message: str = SERVER_ERROR_MESSAGE,
        kind: str = "server_error",
        close_code: int | None = None,
    ) -> None:
        """Send an `error` event that answers no client event; with `close_code`, end the session."""
        error = {"type": kind, "code": code, "message": message, "param": None, "event_id": None}
        close = None if close_code is None else (close_code, f"{kind}.{code}")
        session.send_error(error, close=close)

    def send(self, session: FaultySession, message: str | dict[str, Any]) -> None:
        """Send any message: invalid JSON, an unknown event, or an event at the wrong time."""
        session.send_text(message if isinstance(message, str) else orjson.dumps(message).decode())

    def clear(self) -> None:
        """Drop all pending faults; sessions keep those they have."""
        self.shared.clear()
        self._refusals.clear()
        self._silent = 0
        self._most_a_second = None

    def take_refusal(self) -> Refusal | None:
        """Return the refusal of the connection that arrives now; None: accept it."""
        while self._refusals:
            refusal, times, until = self._refusals[0]
            if self._clock() >= until:
                self._refusals.popleft()
                continue
            if times > 1:
                self._refusals[0] = (refusal, times - 1, until)
            else:
                self._refusals.popleft()
            return refusal
        return self._refusal_above_the_limit()

    def _refusal_above_the_limit(self) -> Refusal | None:
        if self._most_a_second is None:
            return None
        now = self._clock()
        while self._accepted and now - self._accepted[0] >= 1.0:
            self._accepted.popleft()
        if len(self._accepted) >= self._most_a_second:
            return Refusal(429, *_BY_STATUS[429], retry_after_seconds=self._retry_after_seconds)
        self._accepted.append(now)
        return None

    def take_silence(self) -> bool:
        """Tell whether the connection that arrives now gets no `session.created`."""
        if self._silent:
            self._silent -= 1
            return True
        return False

    def _of(self, session: FaultySession | None) -> SessionFaults:
        return self.shared if session is None else session.faults
