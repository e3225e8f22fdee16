"""What goes wrong on command: refused connections, and faults of running sessions."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from simulator.realtime_response import SERVER_ERROR_MESSAGE, Ending

MAX_PENDING = 1000
"""Faults that may wait for their moment."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a connection is turned away.

    Attributes:
        status: HTTP status of the handshake; None: it is accepted, then an `error` event and a close follow.
        kind: the error's `type`.
        code: the error's `code`.
        message: the error's `message`.
        close_code: of a refusal after the handshake.
        retry_after_seconds: the `Retry-After` header of a refused handshake.
    """

    status: int | None
    kind: str
    code: str | None
    message: str
    close_code: int = 1011
    retry_after_seconds: int | None = None

    def error(self) -> dict[str, Any]:
        """The `error` object, the same in an HTTP body and in an event."""
        return {"message": self.message, "type": self.kind, "param": None, "code": self.code}

    def close_reason(self) -> str:
        """The reason that OpenAI's service puts into its close frame."""
        return f"{self.kind}.{self.code}"


# The texts are OpenAI's; a bad key or model that is refused after the handshake closes with 3000 and 4004,
# the beta's dialect, which is gone, with 4000 (seen by users of the service).
MISSING_KEY = Refusal(401, "invalid_request_error", None, "Missing bearer authentication in header")
BAD_KEY = Refusal(401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided.", close_code=3000)
BETA_DIALECT = Refusal(
    None,
    "invalid_request_error",
    "beta_api_shape_disabled",
    "The Realtime Beta API is no longer supported. Please use /v1/realtime for the GA API.",
    close_code=4000,
)


# The wording is not known.
MISSING_BETA_HEADER = Refusal(
    None,
    "invalid_request_error",
    "missing_beta_header",
    "You must provide the header `OpenAI-Beta: realtime=v1` to access the Realtime Beta API.",
    close_code=4000,
)
# What Azure answers to a path or query that it does not have.
AZURE_NOT_FOUND = Refusal(404, "invalid_request_error", "404", "Resource not found")


def unknown_model(model: str) -> Refusal:
    """The model does not exist, or this key may not use it."""
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


@dataclass(slots=True)
class SessionFaults:
    """Faults that wait for their moment: of one session, then of whichever comes first.

    Attributes:
        ignored: client events that get no answer: how many more of each type.
        endings: how the next responses end.
        late_deltas: audio deltas that are sent after the next cancelled response.
    """

    ignored: Counter[str] = field(default_factory=Counter)
    endings: deque[Ending] = field(default_factory=lambda: deque(maxlen=MAX_PENDING))
    late_deltas: int = 0
    shared: SessionFaults | None = None

    def ignores(self, event_type: str) -> bool:
        """Whether this client event is to be ignored; counts it."""
        if self.ignored and self.ignored[event_type] > 0:
            self.ignored[event_type] -= 1
            return True
        return self.shared is not None and self.shared.ignores(event_type)

    def take_ending(self) -> Ending | None:
        """How the response that begins now ends; None: well."""
        if self.endings:
            return self.endings.popleft()
        return self.shared.take_ending() if self.shared else None

    def take_late_deltas(self) -> int:
        """How many deltas come after the response cancelled now."""
        count, self.late_deltas = self.late_deltas, 0
        return count or (self.shared.take_late_deltas() if self.shared else 0)


class FaultySession(Protocol):
    """What faults need of a session."""

    faults: SessionFaults

    def drop(self) -> None:
        """Cut the connection without a close frame."""

    def stall(self) -> None:
        """Stop reading and writing."""

    def resume(self) -> None:
        """Go on after `stall`."""

    def expire(self) -> None:
        """Reach the session limit."""

    def send_text(self, text: str) -> None:
        """Send any text message."""

    def send_error(self, error: dict[str, Any], *, close: tuple[int, str] | None) -> None:
        """Send an `error` event and, if asked to, close."""


class Faults:
    """Commands for faults; each can also be given over HTTP (`POST /simulator/faults`).

    `session` may be left out where the next session that it can happen to is meant.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.shared = SessionFaults()
        self._clock = clock
        self._refusals: deque[tuple[Refusal, float, float]] = deque()  # how often, until when
        self._silent = 0

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

        With status None the handshake succeeds and an `error` event and a close follow.

        Raises:
            ValueError: `times` is less than 1, or too many refusals are waiting already.
        """
        if times is not None and times < 1:
            raise ValueError(f"connections can be refused 1 time or more, not {times}")
        if len(self._refusals) >= MAX_PENDING:
            raise ValueError(f"{MAX_PENDING} refusals are waiting already")
        default = ("server_error", code or "server_error", "The server had an error.")
        kind, usual_code, usual_message = _BY_STATUS.get(status or 0, default)
        refusal = Refusal(
            status, kind, code or usual_code, message or usual_message, close_code, retry_after_seconds
        )
        until = math.inf if seconds is None else self._clock() + seconds
        often = (1 if seconds is None else math.inf) if times is None else times
        self._refusals.append((refusal, often, until))

    def silence(self, times: int = 1) -> None:
        """Accept the next connections and send nothing on them, not even `session.created`."""
        self._silent += times

    def ignore(
        self, event_type: str = "session.update", *, session: FaultySession | None = None, times: int = 1
    ) -> None:
        """Do not answer the next client events of a type, and do nothing with them."""
        self._of(session).ignored[event_type] += times

    def end_response(
        self,
        status: str = "failed",
        *,
        session: FaultySession | None = None,
        after_ms: int = 0,
        reason: str = "content_filter",
        code: str | None = "server_error",
        message: str = SERVER_ERROR_MESSAGE,
        times: int = 1,
    ) -> None:
        """Let the next responses end `failed` or `incomplete` after so much audio.

        Raises:
            ValueError: another status.
        """
        if status not in ("failed", "incomplete"):
            raise ValueError(f"a response can be made to end failed or incomplete, not {status!r}")
        ending = Ending(status, after_ms, reason, code, message)
        self._of(session).endings.extend([ending] * min(times, MAX_PENDING))

    def late_deltas(self, count: int = 1, *, session: FaultySession | None = None) -> None:
        """Send audio of the next cancelled response after its `response.done`."""
        self._of(session).late_deltas += count

    def drop(self, session: FaultySession) -> None:
        """Cut the TCP connection."""
        session.drop()

    def stall(self, session: FaultySession) -> None:
        """Stop reading and writing; the connection stays."""
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
        """Send any message: not JSON, an unknown event, an event out of place."""
        session.send_text(message if isinstance(message, str) else orjson.dumps(message).decode())

    def clear(self) -> None:
        """Forget all that is waiting; not what sessions have been told already."""
        self.shared.ignored.clear()
        self.shared.endings.clear()
        self.shared.late_deltas = 0
        self._refusals.clear()
        self._silent = 0

    def take_refusal(self) -> Refusal | None:
        """How the connection that comes now is refused; None: not."""
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
        return None

    def take_silence(self) -> bool:
        """Whether the connection that comes now gets no `session.created`."""
        if self._silent:
            self._silent -= 1
            return True
        return False

    def _of(self, session: FaultySession | None) -> SessionFaults:
        return self.shared if session is None else session.faults
