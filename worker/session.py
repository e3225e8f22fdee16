"""A call's Realtime session, Sans-I/O: events and the time go in, actions come out.

    CONNECTING ──connected──▶ CONFIGURING ──session.updated──▶ LIVE ──┐
      │  ▲ │ ▲                    │  │                                ├──▶ ENDED
      │  └─┘ └──── no session ────┘  │                                │
      │   connect failed: again, as long as a retry can help          │
      └──────────────────────────────┴─────────── any end ────────────┘

The session owns what is between the two resamplers: the caller's audio on its way to the model, the replies on
their way to the dispatcher, one response at a time, and the conversation.
"""

from __future__ import annotations

import binascii
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import orjson
import structlog

from common import link
from common.errors import LinkProtocolError, UpstreamError
from common.link import Kind, Outcome
from worker.conversation import TRANSCRIPT_WAIT_SECONDS, Conversation, Item, Role
from worker.realtime_errors import ErrorEvent, Severity
from worker.replies import Replies, Reply
from worker.resample import LOW_RATE_HZ, SAMPLE_BYTES, Upsampler
from worker.responses import GateState, ResponseGate
from worker.turns import CallerTurns
from worker.usage import Usage

# Caller's audio that waits for the session to be there, or for a slow connection to take it.
MAX_WAITING_BYTES = 30 * LOW_RATE_HZ * SAMPLE_BYTES
# What waited is sent in pieces that are far below the API's limit of 15 MiB for one append.
APPEND_STEP_BYTES = LOW_RATE_HZ * SAMPLE_BYTES
# `session.updated` is awaited so long.
CONFIGURE_SECONDS = 10.0
RETRY_FIRST_SECONDS = 0.25
RETRY_MOST_SECONDS = 5.0
# `response.create` is answered within so long, or it is asked again.
RESPONSE_CREATED_SECONDS = 10.0
# A response of which nothing has come for so long is given up; a model that reasons may be silent for a while.
RESPONSE_SILENCE_SECONDS = 60.0
# Ids of responses that are over, done or cancelled, so that their late audio is known for what it is.
MAX_RESPONSES_OVER = 32

APPEND_HEAD = b'{"type":"input_audio_buffer.append","audio":"'
APPEND_TAIL = b'"}'
SESSION_UPDATE_ID = "session-update"
RESPONSE_CREATE_ID = "response-create"


class State(Enum):
    """Where a session is."""

    CONNECTING = "connecting"
    CONFIGURING = "configuring"
    LIVE = "live"
    ENDED = "ended"


class Seen(Enum):
    """What the shell counts or measures."""

    TURN_LATENCY_SECONDS = "turn_latency_seconds"
    UPSTREAM_ERROR = "upstream_error"
    CALLER_AUDIO_DROPPED_SECONDS = "caller_audio_dropped_seconds"
    REPLY_AUDIO_DROPPED_SECONDS = "reply_audio_dropped_seconds"


@dataclass(frozen=True, slots=True)
class ToUpstream:
    """Send this event to the Realtime API."""

    event: bytes


@dataclass(frozen=True, slots=True)
class ToDispatcher:
    """Send this record on the call's link."""

    record: bytes


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a Realtime connection after a delay; answered by `connected` or `connect_failed`."""

    delay_seconds: float


@dataclass(frozen=True, slots=True)
class Report:
    """Count or measure something."""

    seen: Seen
    value: float = 1.0
    label: str = ""


@dataclass(frozen=True, slots=True)
class Used:
    """A response has used tokens."""

    usage: Usage


@dataclass(frozen=True, slots=True)
class Ended:
    """The session is over: close the Realtime connection; always the last action."""

    outcome: Outcome
    reason: str


Action = ToUpstream | ToDispatcher | Connect | Report | Used | Ended


class Session:
    """One call's session. Methods are events; what is to be done collects in `actions`.

    All times are seconds of one monotonic clock.
    """

    def __init__(
        self,
        opening: link.Open,
        channel: int,
        session_object: dict[str, Any],
        retry_seconds: float,
        now_seconds: float,
    ) -> None:
        """Take a call.

        Args:
            opening: the dispatcher's OPEN.
            channel: the call's channel on the link.
            session_object: for `session.update`.
            retry_seconds: how long the call waits for a session that cannot be opened.
            now_seconds: when.
        """
        self.uuid = opening.uuid
        self.epoch = opening.epoch
        self.state = State.CONNECTING
        self.conversation = Conversation()
        self.actions: list[Action] = [
            ToDispatcher(link.encode(link.Opened(link.CALLER_CREDIT_BYTES), channel)),
            Connect(0.0),
        ]
        self._log = structlog.get_logger().bind(uuid=opening.uuid)
        self._channel = channel
        self._session_object = session_object
        turn_detection = session_object["audio"]["input"]["turn_detection"] or {}
        server_vad = turn_detection.get("type") == "server_vad"
        self._silence_ms = int(turn_detection.get("silence_duration_ms", 500)) if server_vad else 0
        self._retry_seconds = retry_seconds
        self._started_seconds = now_seconds
        self._configuring_since = 0.0
        self._attempts = 0
        # Caller → model
        self._upsampler = Upsampler()
        self._waiting: deque[tuple[int, bytes]] = deque()  # with their positions in the call
        self._waiting_bytes = 0
        self._upstream_paused = False
        self._credit_due_bytes = 0
        self._turns = CallerTurns()
        # Model → caller
        self._gate = ResponseGate()
        self._replies = Replies(channel, opening.credit_bytes)
        self._reply_of: dict[str, Reply] = {}
        self._over: deque[str | None] = deque(maxlen=MAX_RESPONSES_OVER)
        self._response_seconds = 0.0
        self._speaking = False
        self._speech_ended_seconds: float | None = None

    # The Realtime connection

    def connected(self, now_seconds: float) -> None:
        """The connection is open: ask for the session."""
        self._expect("connected", State.CONNECTING)
        self.state = State.CONFIGURING
        self._configuring_since = now_seconds
        self._upstream_paused = False
        self._upstream({"type": "session.update", "event_id": SESSION_UPDATE_ID, "session": self._session_object})

    def connect_failed(self, error: UpstreamError, now_seconds: float) -> None:
        """The connection could not be opened."""
        if self.state is State.ENDED:
            return
        self._expect("connect_failed", State.CONNECTING)
        self._report(Seen.UPSTREAM_ERROR, label=error.code)
        delay = min(RETRY_FIRST_SECONDS * 2**self._attempts, RETRY_MOST_SECONDS)
        self._attempts += 1
        if not error.retryable:
            self._end(Outcome.FAILED, str(error))
        elif now_seconds + delay - self._started_seconds > self._retry_seconds:
            waited = f"after {self._attempts} attempts in {self._retry_seconds:g} s"
            self._end(Outcome.FAILED, f"no Realtime session {waited}: {error}")
        else:
            self._log.warning("upstream refused", reason=str(error), code=error.code, retry_in_seconds=delay)
            self.actions.append(Connect(delay))

    def connection_lost(self, reason: str, now_seconds: float) -> None:
        """The connection that was open is gone."""
        if self.state is State.CONFIGURING:
            self.state = State.CONNECTING
            message = f"the connection to the Realtime API was lost before there was a session: {reason}"
            self.connect_failed(UpstreamError(message, code="connection_lost", retryable=True), now_seconds)
        elif self.state is not State.ENDED:
            self._report(Seen.UPSTREAM_ERROR, label="connection_lost")
            self._end(Outcome.FAILED, f"the connection to the Realtime API was lost: {reason}")

    def upstream_paused(self) -> None:
        """The API does not read: the caller's audio waits."""
        self._upstream_paused = True

    def upstream_writable(self) -> None:
        """The API reads again."""
        self._upstream_paused = False
        self._append_waiting()

    def event(self, event: dict[str, Any], now_seconds: float) -> None:
        """An event of the Realtime API. Unknown types are passed over; a field that is missing is a KeyError."""
        if self.state is State.ENDED:
            return
        if event["type"].startswith("response."):
            self._response_seconds = now_seconds
        handler = _HANDLERS.get(event["type"])
        if handler is not None:
            handler(self, event, now_seconds)

    # The link

    def record(self, kind: int, payload: memoryview, now_seconds: float) -> None:
        """A record of the dispatcher.

        Raises:
            LinkProtocolError: it cannot be understood.
        """
        if self.state is State.ENDED:
            return
        match kind:
            case Kind.CALLER_AUDIO:
                position, pcm = link.decode_caller_audio(payload)
                self._caller_audio(position, bytes(pcm))
            case Kind.CREDIT:
                self._dispatcher(self._replies.credit(link.decode_credit(payload)))
            case Kind.PLAYOUT:
                playout = link.decode_control(link.Playout, payload)
                for reply in self._replies.playout(playout.items):
                    self._settle(reply)
                self._send_transcripts(now_seconds)
            case Kind.HEARD:
                for reply in self._replies.heard(link.decode_control(link.Heard, payload)):
                    self._cut(reply)
                self._send_transcripts(now_seconds)
            case Kind.CLOSE:
                self._finish(Outcome.COMPLETED, link.decode_control(link.Close, payload).reason)
            case _:
                # Kinds of a newer release.
                pass

    def dispatcher_lost(self) -> None:
        """The link is gone, and the caller with it."""
        self._finish(Outcome.FAILED, "the dispatcher of this call was lost")

    def stopped(self, reason: str) -> None:
        """This process ends, or cannot go on with the call."""
        self._end(Outcome.FAILED, reason)

    # Time

    def tick(self, now_seconds: float) -> None:
        """Look at the clocks; meant to be called every 200 ms."""
        if self.state is State.CONFIGURING and now_seconds - self._configuring_since >= CONFIGURE_SECONDS:
            self.state = State.CONNECTING
            message = f"the Realtime API did not set up the session within {CONFIGURE_SECONDS:g} s"
            self.connect_failed(UpstreamError(message, code="no_session", retryable=True), now_seconds)
        elif self.state is State.LIVE:
            self._look_after_response(now_seconds)
            self._send_transcripts(now_seconds)

    # Caller → model

    def _caller_audio(self, position_samples: int, pcm: bytes) -> None:
        # All that is taken is bounded here, so credit comes back as soon as a piece of it is due.
        self._credit_due_bytes += len(pcm)
        if self._credit_due_bytes >= link.CREDIT_STEP_BYTES:
            self._dispatcher([link.encode_credit(self._channel, self._credit_due_bytes)])
            self._credit_due_bytes = 0
        if self.state is State.LIVE and not self._waiting and not self._upstream_paused:
            self._append(position_samples, pcm)
            return
        self._waiting.append((position_samples, pcm))
        self._waiting_bytes += len(pcm)
        while self._waiting_bytes > MAX_WAITING_BYTES:
            dropped = len(self._waiting.popleft()[1])
            self._waiting_bytes -= dropped
            self._report(Seen.CALLER_AUDIO_DROPPED_SECONDS, dropped / SAMPLE_BYTES / LOW_RATE_HZ)

    def _append_waiting(self) -> None:
        while self._waiting and self.state is State.LIVE and not self._upstream_paused:
            position, piece = self._waiting.popleft()
            while self._waiting and len(piece) < APPEND_STEP_BYTES:
                if self._waiting[0][0] != position + len(piece) // SAMPLE_BYTES:
                    break
                piece += self._waiting.popleft()[1]
            self._waiting_bytes -= len(piece)
            self._append(position, piece)

    def _append(self, position_samples: int, pcm: bytes) -> None:
        if not pcm:
            return
        self._turns.appended(position_samples, len(pcm) // SAMPLE_BYTES)
        audio = binascii.b2a_base64(self._upsampler.process(pcm), newline=False)
        self.actions.append(ToUpstream(APPEND_HEAD + audio + APPEND_TAIL))

    # Events of the API

    def _session_updated(self, _: dict[str, Any], now_seconds: float) -> None:
        if self.state is not State.CONFIGURING:
            return
        self.state = State.LIVE
        self._log.info("session live", seconds=round(now_seconds - self._started_seconds, 3))
        self._dispatcher([link.encode(link.Ready(), self._channel)])
        if self._gate.want():
            self._create_response(now_seconds)
        self._append_waiting()

    def _speech_started(self, event: dict[str, Any], _: float) -> None:
        self._speaking = True
        self._speech_ended_seconds = None
        if self._gate.active_id is not None:
            # The server cancels it by itself; its late audio is not for the caller any more.
            self._over.append(self._gate.active_id)
        self._dispatcher(self._replies.flush())

    def _speech_stopped(self, event: dict[str, Any], now_seconds: float) -> None:
        self._speaking = False
        # audio_end_ms includes the silence that was waited for; what was appended since has gone by, too.
        self._turns.stopped(event["item_id"], event["audio_end_ms"])
        since_end_ms = self._turns.appended_ms - event["audio_end_ms"] + self._silence_ms
        self._speech_ended_seconds = now_seconds - max(0.0, since_end_ms / 1000)

    def _committed(self, event: dict[str, Any], now_seconds: float) -> None:
        # A speech that is committed has ended, whatever became of `speech_stopped`.
        self._speaking = False
        self._insert(event["item_id"], Role.USER, event, now_seconds)

    def _item_added(self, event: dict[str, Any], now_seconds: float) -> None:
        item = event["item"]
        role = None
        if item["type"] == "message":
            # What is complete when it is added is text that we put in: nobody speaks it.
            if item["role"] == "assistant" and item.get("status") != "completed":
                role = Role.AGENT
            elif any(part.get("type") == "input_audio" for part in item.get("content") or ()):
                role = Role.USER
        self._insert(item["id"], role, event, now_seconds)

    def _insert(self, item_id: str, role: Role | None, event: dict[str, Any], now_seconds: float) -> None:
        item = self.conversation.insert(item_id, role, event.get("previous_item_id"))
        if item.role is Role.USER:
            item.waits_until_seconds = min(item.waits_until_seconds, now_seconds + TRANSCRIPT_WAIT_SECONDS)

    def _transcribed(self, event: dict[str, Any], now_seconds: float) -> None:
        item = self.conversation.get(event["item_id"])
        if item is not None and not item.text_done:
            item.text = event["transcript"].strip()
            item.text_done = True
            finished = self._turns.text_stored(item.item_id)
            if finished is not None:
                turn, position = finished
                self._dispatcher([link.encode(link.Finished(position, turn), self._channel)])
            self._send_transcripts(now_seconds)

    def _transcription_failed(self, event: dict[str, Any], now_seconds: float) -> None:
        item = self.conversation.get(event["item_id"])
        if item is not None:
            item.text_done = True
            self._send_transcripts(now_seconds)
        self._report(Seen.UPSTREAM_ERROR, label=ErrorEvent.from_event(event.get("error") or {}).code)

    def _response_created(self, event: dict[str, Any], now_seconds: float) -> None:
        response_id = event["response"]["id"]
        # There is one at a time: one that is still open here has ended unheard of.
        self._end_replies(completed=False)
        self._gate.created(response_id)
        if self._speaking:
            # It was asked for before the caller began to speak. It would talk over the caller, and the server
            # does not cancel what began after the speech.
            self._over.append(response_id)
            self._upstream({"type": "response.cancel", "response_id": response_id})

    def _audio_delta(self, event: dict[str, Any], now_seconds: float) -> None:
        pcm = binascii.a2b_base64(event["delta"])
        item_id = event["item_id"]
        reply = self._reply_of.get(item_id)
        if reply is None:
            if event["response_id"] in self._over:
                return
            reply, records = self._replies.begin(item_id, event["response_id"], event["content_index"])
            self._reply_of[item_id] = reply
            self._dispatcher(records)
        self._dispatcher(self._replies.audio(reply, pcm))
        if reply.closed:
            return
        if self._speech_ended_seconds is not None:
            self._report(Seen.TURN_LATENCY_SECONDS, now_seconds - self._speech_ended_seconds)
            self._speech_ended_seconds = None
        if self._replies.is_full:
            self._log.warning("reply cut: the caller takes it too slowly")
            self._report(Seen.REPLY_AUDIO_DROPPED_SECONDS, self._replies.waiting_seconds)
            self._over.append(event["response_id"])
            self._upstream({"type": "response.cancel", "response_id": event["response_id"]})
            self._dispatcher(self._replies.flush())

    def _audio_done(self, event: dict[str, Any], _: float) -> None:
        reply = self._reply_of.get(event["item_id"])
        if reply is not None and not reply.closed:
            self._dispatcher(self._replies.complete())

    def _text_delta(self, event: dict[str, Any], _: float) -> None:
        item = self.conversation.get(event["item_id"])
        if item is not None and not item.text_done:
            item.text += event["delta"]

    def _text_done(self, event: dict[str, Any], now_seconds: float) -> None:
        item = self.conversation.get(event["item_id"])
        if item is not None:
            item.text = event["transcript"].strip()

    def _response_done(self, event: dict[str, Any], now_seconds: float) -> None:
        response = event["response"]
        response_id, status = response.get("id"), response.get("status")
        self._over.append(response_id)
        # First what the call goes on by: no odd field of what only tells of the response may hold it up.
        if self._gate.is_active(response_id):
            self._end_replies(completed=status == "completed")
            self._send_transcripts(now_seconds)
            if self._gate.done(caller_speaks=self._speaking):
                self._create_response(now_seconds)
        if response.get("usage"):
            self.actions.append(Used(Usage.from_response(response["usage"])))
        details = response.get("status_details") or {}
        if status == "failed":
            self._error(ErrorEvent.from_response(details.get("error") or {}), now_seconds)
        elif status == "incomplete":
            self._log.warning("response incomplete", reason=str(details.get("reason")))

    def _error_event(self, event: dict[str, Any], now_seconds: float) -> None:
        self._error(ErrorEvent.from_event(event["error"]), now_seconds)

    def _error(self, error: ErrorEvent, now_seconds: float) -> None:
        """An error ends the call only where the session cannot go on."""
        self._report(Seen.UPSTREAM_ERROR, label=error.code)
        self._log.warning("upstream error", code=error.code, reason=error.message)
        if error.severity is Severity.FATAL:
            self._end(Outcome.FAILED, error.message)
        elif error.event_id == SESSION_UPDATE_ID and self.state is State.CONFIGURING:
            self._end(Outcome.FAILED, f"the Realtime API refused the session: {error.message}")
        elif error.severity is Severity.RESPONSE_ACTIVE:
            self._gate.refused_active()
            self._response_seconds = now_seconds
        elif error.event_id == RESPONSE_CREATE_ID and self._gate.refused():
            self._create_response(now_seconds)

    # Replies

    def _create_response(self, now_seconds: float) -> None:
        self._response_seconds = now_seconds
        self._upstream({"type": "response.create", "event_id": RESPONSE_CREATE_ID})

    def _look_after_response(self, now_seconds: float) -> None:
        """Give up a response of which nothing is heard any more: it would hold up transcripts and all others."""
        if self._gate.state is GateState.IDLE:
            return
        known = self._gate.active_id is not None
        limit_seconds = RESPONSE_SILENCE_SECONDS if known else RESPONSE_CREATED_SECONDS
        if now_seconds - self._response_seconds >= limit_seconds:
            self._report(Seen.UPSTREAM_ERROR, label="no_response")
            self._log.warning("response given up", state=self._gate.state.value, silent_seconds=limit_seconds)
            self._end_replies(completed=False)
            if self._gate.lost(caller_speaks=self._speaking):
                self._create_response(now_seconds)

    def _end_replies(self, *, completed: bool) -> None:
        """A response is over: its audio and texts are complete, and what was cut of it can be said."""
        self._dispatcher(self._replies.complete())
        for item in self.conversation.open_replies():
            item.text_done = True
            reply = self._reply_of.get(item.item_id)
            if reply is not None:
                if reply.heard_samples is not None:
                    self._settle(reply)
            elif completed:
                # It is of text alone.
                item.heard_share = 0.0
            else:
                self._unheard(item.item_id)

    def _settle(self, reply: Reply) -> None:
        """What was heard of an item is known; its share is, when its text and audio are complete too."""
        item = self.conversation.get(reply.item_id)
        if item is not None and (item.text_done or reply.whole):
            item.heard_share = reply.heard_share
        if item is None or item.text_done:
            self._reply_of.pop(reply.item_id, None)

    def _cut(self, reply: Reply) -> None:
        """An item was cut by a barge-in: tell the model what the caller heard of it."""
        if not reply.whole:
            # The API refuses to truncate at 0 ms.
            if reply.heard_ms == 0:
                self._unheard(reply.item_id)
                return
            self._upstream(
                {
                    "type": "conversation.item.truncate",
                    "item_id": reply.item_id,
                    "content_index": reply.content_index,
                    "audio_end_ms": reply.heard_ms,
                }
            )
        self._settle(reply)

    def _unheard(self, item_id: str) -> None:
        """Of an item that the model has said nothing was heard: it is not part of the conversation."""
        self._reply_of.pop(item_id, None)
        if self.conversation.get(item_id) is not None:
            self.conversation.remove(item_id)
            self._upstream({"type": "conversation.item.delete", "item_id": item_id})

    def _send_transcripts(self, now_seconds: float) -> None:
        for item in self.conversation.due_transcripts(now_seconds):
            self._dispatcher([_transcript(item, self._channel)])

    # Ends

    def _end(self, outcome: Outcome, message: str) -> None:
        if self.state is not State.ENDED:
            self._dispatcher([link.encode(link.Ended(outcome.value, message), self._channel)])
            self._finish(outcome, message)

    def _finish(self, outcome: Outcome, reason: str) -> None:
        if self.state is not State.ENDED:
            self.state = State.ENDED
            self._waiting.clear()
            self.actions.append(Ended(outcome, reason))

    def _upstream(self, event: dict[str, Any]) -> None:
        self.actions.append(ToUpstream(orjson.dumps(event)))

    def _dispatcher(self, records: list[bytes]) -> None:
        for record in records:
            self.actions.append(ToDispatcher(record))

    def _report(self, seen: Seen, value: float = 1.0, label: str = "") -> None:
        self.actions.append(Report(seen, value, label))

    def _expect(self, event: str, *states: State) -> None:
        if self.state not in states:
            raise LinkProtocolError(f"{event} in state {self.state.value}")


def _transcript(item: Item, channel: int) -> bytes:
    assert item.role is not None
    return link.encode(link.Transcript(item.item_id, item.role.value, item.heard_text), channel)


Handler = Callable[[Session, dict[str, Any], float], None]
_HANDLERS: dict[str, Handler] = {
    "session.updated": Session._session_updated,
    "input_audio_buffer.speech_started": Session._speech_started,
    "input_audio_buffer.speech_stopped": Session._speech_stopped,
    "input_audio_buffer.committed": Session._committed,
    "conversation.item.added": Session._item_added,
    "conversation.item.input_audio_transcription.completed": Session._transcribed,
    "conversation.item.input_audio_transcription.failed": Session._transcription_failed,
    "response.created": Session._response_created,
    "response.output_audio.delta": Session._audio_delta,
    "response.output_audio.done": Session._audio_done,
    "response.output_audio_transcript.delta": Session._text_delta,
    "response.output_audio_transcript.done": Session._text_done,
    "response.done": Session._response_done,
    "error": Session._error_event,
}
