"""Driver of a `Session` on a clock of its own, with the session's actions."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from common.link import wire
from common.settings.settings import Settings
from tests.simulator.validation import validate_client_event
from tests.worker import api_events as api
from tests.worker.link_records import JOURNAL, Record, payload_of
from worker.config.session_config import SessionConfig
from worker.config.session_update import session_object
from worker.realtime.dialect import GA
from worker.realtime.upstream_limits import UpstreamLimits
from worker.session import actions as session
from worker.session.memory.checkpoint import Checkpoint
from worker.session.session import Session

CHANNEL = 3
PLENTY = 10**9
FRAME = bytes(320)

CREATE = {"type": "response.create", "event_id": "response-create"}


@dataclass(frozen=True, slots=True)
class Append:
    """`input_audio_buffer.append`: PCM16 at 24 kHz."""

    pcm: bytes


Did = (
    Append
    | dict[str, Any]
    | Record
    | session.Connect
    | session.RunTool
    | session.Collected
    | session.Answer
    | session.Measurement
    | session.Used
    | session.Configured
    | session.Ended
    | session.Released
)


def pcm_24k(milliseconds: int) -> bytes:
    """Reply audio of this length."""
    return bytes(48 * milliseconds)


def samples_8k(milliseconds: int) -> int:
    return 8 * milliseconds


class Driver:
    """A session and both of its peers.

    Attributes:
        session: under test.
        now: the clock, in seconds.
        journal: what the dispatcher was told to remember.
        turn_parts: parts of the last turn's latency.
        waits: seconds from each answer being owed to its first audio.
        keeps_metadata: requests for responses are shown with their metadata.
        transcribed: usage of transcriptions.
    """

    def __init__(
        self,
        *,
        credit_bytes: int = PLENTY,
        position_samples: int = 0,
        retry_seconds: float = 30.0,
        settings: Settings | None = None,
        checkpoint: Checkpoint | None = None,
        opening: dict[str, Any] | None = None,
        limits: UpstreamLimits | None = None,
        **config_fields: Any,
    ) -> None:
        self.now = 100.0
        fields = {
            "epoch": 1,
            "position_samples": position_samples,
            "credit_bytes": credit_bytes,
            **(opening or {}),
        }
        chosen = session_object(settings or Settings())
        turn_detection = chosen["audio"]["input"]["turn_detection"]
        server_vad = turn_detection is not None and turn_detection["type"] == "server_vad"
        silence_ms = turn_detection.get("silence_duration_ms", 500) if server_vad else 0
        config = SessionConfig(
            **{"dialect": GA, "session": chosen, "silence_ms": silence_ms, **config_fields},
            retry_seconds=retry_seconds,
        )
        self.happened: list[dict[str, Any]] = []
        self.memory_writer: list[Record] = []
        self.waits: list[float] = []
        self.turn_parts: dict[str, float] = {}
        self.keeps_metadata = False
        self.transcribed: list[Any] = []
        self.session = Session(wire.Open("uuid-1", **fields), config, self.now, checkpoint, limits=limits)
        self._position = position_samples

    def take(self) -> list[Did]:
        """Return the actions since the last call; each event for the API is valid."""
        actions, self.session.actions = self.session.actions, []
        did: list[Did] = []
        for action in actions:
            if isinstance(action, session.ToUpstream):
                # As JSON has it: the requests of a session are not to change under the reader's hands.
                event = orjson.loads(orjson.dumps(action.event))
                validate_client_event(event)
                if event["type"] == "response.create":
                    # Requests are numbered.
                    event["event_id"] = event["event_id"].rpartition("-")[0]
                    if not self.keeps_metadata:
                        event.get("response", {}).pop("metadata", None)
                        if not event.get("response", True):
                            del event["response"]
                did.append(event)
            elif isinstance(action, session.AppendAudio):
                did.append(Append(base64.b64decode(action.audio, validate=True)))
            elif isinstance(action, session.Happened):
                self.happened.append(action.event)
            elif isinstance(action, session.Measurement) and action.seen is session.Metric.ANSWER_WAIT_SECONDS:
                self.waits.append(action.value)
            elif isinstance(action, session.Measurement) and action.seen is session.Metric.TURN_PART_SECONDS:
                self.turn_parts[action.label] = action.value
            elif isinstance(action, session.Transcribed):
                self.transcribed.append(action.usage)
            elif isinstance(action, session.ToDispatcher):
                (self.memory_writer if isinstance(action.record, JOURNAL) else did).append(action.record)
            else:
                did.append(action)
        return did

    def event(self, *events: api.Event) -> list[Did]:
        """Events of the API."""
        for event in events:
            self.session.event(event, self.now)
        return self.take()

    def record(self, *records: wire.Control) -> list[Did]:
        """Records of the dispatcher."""
        for record in records:
            self.session.record(*payload_of(wire.encode(record, CHANNEL)), self.now)
        return self.take()

    def credit(self, credit_bytes: int) -> list[Did]:
        self.session.record(*payload_of(wire.encode_credit(CHANNEL, credit_bytes)), self.now)
        return self.take()

    def caller(self, pcm: bytes = FRAME, *, lost_samples: int = 0) -> list[Did]:
        """Return the next audio of the caller's, behind some that was lost before it came here."""
        self._position += lost_samples
        self.session.caller_audio(self._position, pcm, self.now)
        self._position += len(pcm) // 2
        return self.take()

    def tick(self, seconds: float = 0.0) -> list[Did]:
        """Let time pass and look at the clocks."""
        self.now += seconds
        self.session.tick(self.now)
        return self.take()

    def connected(self) -> list[Did]:
        self.session.connected(self.now)
        return self.take()

    def go_live(self) -> list[Did]:
        """Through the opening, up to the greeting that is asked for."""
        self.take()
        self.connected()
        return self.event(api.session_created(), api.session_updated())

    # What the API does

    def reply(
        self,
        response_id: str,
        item_id: str,
        text: str,
        milliseconds: int,
        *,
        previous: str | None = None,
        done: bool = True,
    ) -> list[Did]:
        """Return a reply, as far as it was streamed; `done`: to its end."""
        did = self.event(
            api.response_created(response_id),
            api.item_added(api.reply_item(item_id), previous),
            api.text_delta(response_id, item_id, text),
            api.audio_delta(response_id, item_id, pcm_24k(milliseconds)),
        )
        return did + (self.reply_done(response_id, item_id, text) if done else [])

    def reply_done(self, response_id: str, item_id: str, text: str) -> list[Did]:
        """Return the rest of a reply whose audio was streamed."""
        return self.event(
            api.audio_done(response_id, item_id),
            api.text_done(response_id, item_id, text),
            api.response_done(response_id, output=[api.reply_item(item_id, "completed", text)], usage=api.USAGE),
        )

    def turn(
        self, item_id: str, text: str | None = None, *, previous: str | None = None, end_ms: int = 0
    ) -> list[Did]:
        """Let the caller speak, with a transcript if a text is given."""
        did = self.event(
            api.speech_started(item_id),
            api.speech_stopped(item_id, end_ms),
            api.committed(item_id, previous),
            api.caller_item_added(item_id, previous),
        )
        return did + (self.event(api.transcribed(item_id, text)) if text is not None else [])


def live(**options: Any) -> Driver:
    """Return a live session whose greeting was requested."""
    driver = Driver(**options)
    driver.go_live()
    return driver


def only(did: Sequence[Did], *kinds: type[Any]) -> list[Any]:
    """Return the actions of these kinds; `dict` is what goes to the API."""
    return [one for one in did if isinstance(one, kinds)]


def texts(did: list[Did]) -> list[tuple[str, str]]:
    """Return the transcripts: (role, text)."""
    return [(one.role, one.text) for one in only(did, wire.Transcript)]


def audio_samples(did: list[Did]) -> dict[int, int]:
    """Samples at 8 kHz sent for each item."""
    sent: dict[int, int] = {}
    for one in only(did, wire.ReplyAudio):
        sent[one.item_index] = sent.get(one.item_index, 0) + len(one.pcm) // 2
    return sent


def heard(number: int, *items: tuple[int, int]) -> wire.Heard:
    """HEARD: (item's number, milliseconds)."""
    return wire.Heard(number, tuple(wire.ItemHeard(index, samples_8k(ms)) for index, ms in items))


def playout(*items: tuple[int, int], idle: bool = False) -> wire.Playout:
    """PLAYOUT: (item's number, samples)."""
    return wire.Playout(tuple(wire.ItemHeard(index, samples) for index, samples in items), idle)
