"""Updates of a session (`session.update`): one at a time, with the API's answers.

The API answers with `session.updated`, which names no request, or with an `error`. Each update therefore waits for
the answer to the one before. If the API refuses the session because of a dispensable field, the session is
requested without that field.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import structlog

from common.settings import session_fields
from worker.config.session_config import SessionConfig
from worker.realtime.errors import ErrorEvent, Severity
from worker.session.action_queue import ActionQueue
from worker.session.actions import Answer, Configured

# Maximum wait for `session.updated`.
UPDATE_SECONDS: Final = 10.0
# Maximum changes of the calls API that wait to be sent.
MAX_WAITING_UPDATES: Final = 16
MAX_LEFT_OUT: Final = 3
_MAX_NAMED_FIELDS: Final = 10
SESSION_UPDATE_ID: Final = "session-update"

# Dispensable fields: the pattern of an error's `param`, GA or flat, and the path in the session.
# Instructions, prompt, formats, turn detection and model are never left out, because they make the agent.
_MAY_BE_LEFT_OUT: Final[tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]] = (
    (
        re.compile(r"session\.(audio\.input\.noise_reduction|input_audio_noise_reduction)\b"),
        ("audio", "input", "noise_reduction"),
    ),
    (re.compile(r"session\.(audio\.output\.)?speed\b"), ("audio", "output", "speed")),
    (re.compile(r"session\.tracing\b"), ("tracing",)),
    (re.compile(r"session\.truncation\b"), ("truncation",)),
    (
        re.compile(r"session\.(audio\.input\.transcription|input_audio_transcription)\b"),
        ("audio", "input", "transcription"),
    ),
)
_TOOL: Final = re.compile(r"session\.tools\[(\d+)\]")


class UpdateKind(Enum):
    """Purpose of an update."""

    OPENING = "opening"
    """The first update, which sets the session up."""
    OWN = "own"
    """The update of a standby session that takes the call."""
    COMMAND = "command"
    """A change by the calls API."""


@dataclass(slots=True)
class Update:
    """One `session.update`.

    Attributes:
        kind: purpose of the update.
        event_id: id that an `error` repeats.
        session: the fields to change, in the GA shape.
        number: number of the calls API's command.
        sent_seconds: time at which it was sent.
        change: the change of the calls API.
        whole: the whole session after that change.
    """

    kind: UpdateKind
    event_id: str
    session: dict[str, Any]
    number: int = 0
    sent_seconds: float = 0.0
    change: dict[str, Any] = field(default_factory=dict)
    whole: dict[str, Any] = field(default_factory=dict)


class SessionUpdates:
    """Updates of one session.

    Attributes:
        create_response: the API answers a turn by itself, by its last answer.
        interrupt_response: the API cancels its response when the caller speaks.
        is_muted: the session must not answer by itself until it has the call.
        differences: fields of the first session that the API reported with other values than requested.
    """

    def __init__(self, config: SessionConfig, outbox: ActionQueue, uuid: str) -> None:
        self.create_response = self.interrupt_response = True
        self.is_muted = False
        self.differences: list[str] = []
        self._config = config
        self._outbox = outbox
        self._log = structlog.get_logger().bind(uuid=uuid)
        self._session = config.session
        self._sent: Update | None = None
        self._waiting: deque[Update] = deque()
        self._left_out: set[str] = set()
        # Updates that timed out, and whose answers may still come.
        self._late = 0

    @property
    def is_settled(self) -> bool:
        """Whether no update is unanswered."""
        return self._sent is None and not self._waiting

    def open(self, now_seconds: float, *, muted: bool) -> None:
        """Request the session.

        Args:
            now_seconds: the time.
            muted: the session must not answer by itself yet.
        """
        detection = _detection(self._session)
        self.is_muted = muted and detection is not None
        self._send(Update(UpdateKind.OPENING, SESSION_UPDATE_ID, self._wanted()), now_seconds)

    def unmute(self, now_seconds: float, session: dict[str, Any] | None = None) -> None:
        """Let a standby session answer, because it takes the call.

        Args:
            now_seconds: the time.
            session: the session object, if the calls API has changed it since the session was opened.
        """
        changed = session is not None and session != self._session
        if session is not None:
            self._session = session
        if self.is_muted or changed:
            self.is_muted = False
            self._waiting.appendleft(Update(UpdateKind.OWN, SESSION_UPDATE_ID, self._wanted()))
            self._send_next(now_seconds)

    @property
    def finds_no_turns(self) -> bool:
        """Whether turn detection of the API is off."""
        audio = self._session.get("audio") or {}
        fields = audio.get("input") or {}
        return "turn_detection" in fields and fields["turn_detection"] is None

    def change(self, number: int, change: dict[str, Any], now_seconds: float) -> bool:
        """Queue a change by the calls API; return False if too many wait. An `Answer` follows.

        Args:
            number: number of the command.
            change: a checked change (`worker/config/session_change.py`).
            now_seconds: the time.
        """
        if len(self._waiting) >= MAX_WAITING_UPDATES:
            return False
        self._waiting.append(Update(UpdateKind.COMMAND, f"command-{number}", {}, number, change=change))
        self._send_next(now_seconds)
        return True

    def updated(self, echo: Any, now_seconds: float) -> UpdateKind | None:
        """Take `session.updated`; return the kind of the update, or None for one that is not awaited.

        Args:
            echo: the event's `session`, which is in force now.
            now_seconds: the time.
        """
        sent = self._sent
        shown = echo if isinstance(echo, dict) else {}
        differences = [] if sent is None else _differences(self._config.dialect.session(sent.session), shown)
        if sent is None or (self._late and differences):
            self._late = max(0, self._late - 1)
            return None
        self._sent = None
        self._read(sent.session, shown)
        if differences and not self.differences:
            self.differences = differences[:_MAX_NAMED_FIELDS]
            self._log.warning("session differs from the settings", fields=self.differences)
        if sent.kind is UpdateKind.COMMAND:
            self._session = sent.whole
            # The next session of this call must have the change, too.
            self._outbox.actions.append(Configured(sent.change))
            self._outbox.actions.append(Answer(sent.number, 200, {}))
        self._send_next(now_seconds)
        return sent.kind

    def refused(self, error: ErrorEvent, now_seconds: float) -> bool | str:
        """Take an `error` that may answer an update.

        Returns:
            False: the error is not about an update. True: it was handled. A text: why the session failed.
        """
        sent = self._sent
        if sent is None or not self._is_answer(sent, error):
            return False
        if sent.kind is UpdateKind.COMMAND:
            self._sent = None
            status = 409 if error.code == "cannot_update_voice" else 422
            self._log.warning("change of the session refused", code=error.code, reason=error.message)
            self._outbox.actions.append(Answer(sent.number, status, {"error": error.message}))
            self._send_next(now_seconds)
            return True
        if self._leave_out(error, sent):
            sent.session = self._wanted()
            self._send(sent, now_seconds)
            return True
        self._sent = None
        if sent.kind is UpdateKind.OPENING:
            return error.message
        self._log.error("change of the session refused", code=error.code, reason=error.message)
        self._send_next(now_seconds)
        return True

    def tick(self, now_seconds: float) -> None:
        """Time out an unanswered update. The session itself limits the time of the opening one."""
        sent = self._sent
        if sent is None or sent.kind is UpdateKind.OPENING or now_seconds - sent.sent_seconds < UPDATE_SECONDS:
            return
        self._sent = None
        self._late += 1
        if sent.kind is UpdateKind.COMMAND:
            message = f"the Realtime API did not answer within {UPDATE_SECONDS:g} s"
            self._outbox.actions.append(Answer(sent.number, 504, {"error": message}))
        self._send_next(now_seconds)

    def lost(self) -> None:
        """Forget the pending update, because the connection was lost during the setup."""
        self._sent = None

    def close(self) -> None:
        """Answer all pending changes of the calls API, because the session has ended."""
        for update in (self._sent, *self._waiting):
            if update is not None and update.kind is UpdateKind.COMMAND:
                self._outbox.actions.append(Answer(update.number, 410, {"error": "the call has ended"}))
        self._sent = None
        self._waiting.clear()

    def _wanted(self) -> dict[str, Any]:
        detection = _detection(self._session)
        if not self.is_muted or detection is None:
            return self._session
        audio = self._session["audio"]
        quiet = {**audio["input"], "turn_detection": {**detection, "create_response": False}}
        return {**self._session, "audio": {**audio, "input": quiet}}

    def _send_next(self, now_seconds: float) -> None:
        if self._sent is None and self._waiting:
            self._send(self._waiting.popleft(), now_seconds)

    def _send(self, update: Update, now_seconds: float) -> None:
        self._sent = update
        update.sent_seconds = now_seconds
        if update.kind is UpdateKind.COMMAND:
            # The changes before it have been answered.
            update.whole = session_fields.changed(self._session, update.change, self._config.service)
            update.session = {"type": "realtime", **session_fields.touched(update.whole, update.change)}
        event = {"type": "session.update", "event_id": update.event_id, "session": update.session}
        self._outbox.upstream(event)

    def _is_answer(self, sent: Update, error: ErrorEvent) -> bool:
        if error.event_id is not None:
            return error.event_id == sent.event_id
        if error.is_about_session:
            return True
        # During the setup, an unspecific refusal is about the session.
        is_refusal = error.kind == "invalid_request_error" and error.severity is Severity.GOES_ON
        return sent.kind is UpdateKind.OPENING and is_refusal and not error.is_about_another_request

    def _leave_out(self, error: ErrorEvent, sent: Update) -> bool:
        """Remove the refused field from the session, if the call can do without it."""
        if len(self._left_out) >= MAX_LEFT_OUT:
            return False
        field, session = _without(self._session, self._config.dialect.session(sent.session), error.param)
        if not field or field in self._left_out:
            return False
        self._left_out.add(field)
        self._session = session
        self._log.warning("session without a field that the API refuses", field=field, reason=error.message)
        return True

    def _read(self, asked: dict[str, Any], echo: dict[str, Any]) -> None:
        """Take the turn detection in force: the requested one, unless the API reports another."""
        for session in (asked, echo):
            detection = _detection(session)
            if isinstance(detection, dict):
                # Null stands for the API's default, as an absent field does.
                if isinstance(create := detection.get("create_response"), bool):
                    self.create_response = create
                if isinstance(interrupt := detection.get("interrupt_response"), bool):
                    self.interrupt_response = interrupt


def _detection(session: Mapping[str, Any]) -> Any:
    """Return `turn_detection`, in the GA shape or at the top level of other dialects."""
    audio = session.get("audio")
    audio_input = audio.get("input") if isinstance(audio, dict) else None
    if isinstance(audio_input, dict) and "turn_detection" in audio_input:
        return audio_input["turn_detection"]
    return session.get("turn_detection")


def _without(session: dict[str, Any], wire: dict[str, Any], param: str) -> tuple[str, dict[str, Any]]:
    """Return the name of `param`'s field and the session without it; an empty name: the field must stay."""
    tool = _TOOL.match(param)
    if tool is not None:
        wire_tools = wire.get("tools") or []
        index = int(tool[1])
        if index >= len(wire_tools):
            return "", session
        name = wire_tools[index].get("name") or wire_tools[index].get("server_label")
        tools = session.get("tools") or []
        kept = [tool for tool in tools if name not in (tool.get("name"), tool.get("server_label"))]
        return "a tool", {**session, "tools": kept}
    for pattern, path in _MAY_BE_LEFT_OUT:
        if pattern.match(param):
            return ".".join(path), _pruned(session, path)
    return "", session


def _pruned(fields: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    first, *rest = path
    if not rest:
        return {name: value for name, value in fields.items() if name != first}
    inner = fields.get(first)
    return {**fields, first: _pruned(inner, tuple(rest))} if isinstance(inner, dict) else fields


def _differences(asked: Mapping[str, Any], echo: Mapping[str, Any], path: str = "") -> list[str]:
    """Return the fields that the API reports with other values than requested.

    A field that the API does not report is not a difference. Lists (tools) and the stored prompt are not compared,
    because the API fills in their defaults.
    """
    found: list[str] = []
    for name, value in asked.items():
        if name not in echo or name in ("tools", "prompt", "type"):
            continue
        shown = echo[name]
        if isinstance(value, dict) and isinstance(shown, dict):
            found += _differences(value, shown, f"{path}{name}.")
        elif isinstance(value, list) or isinstance(shown, list):
            continue
        elif isinstance(value, dict) or isinstance(shown, dict):
            # A custom voice may be reported as its name. Null in place of an object is a difference.
            found += [f"{path}{name}"] if value is None or shown is None else []
        elif value != shown:
            found.append(f"{path}{name}")
    return found
