"""The caller's side of a session: the input buffer, turn detection, and transcription beside the model."""

from __future__ import annotations

from typing import Any, Protocol

from simulator.realtime import errors
from simulator.realtime.config import SEMANTIC_VAD_SILENCE_MS, SessionConfig
from simulator.realtime.conversation import Conversation, Item, Origin, Part
from simulator.realtime.input_audio import BYTES_PER_MS, InputAudio, Recording, Turn
from simulator.realtime.quirks import Quirk
from simulator.realtime.response import Response
from simulator.realtime.script import Script
from simulator.realtime.session_faults import SessionFaults
from simulator.realtime.settings import Behaviour, SimulatorSettings, Transcription
from simulator.realtime.timeline import Timeline
from simulator.realtime.transcription import heard_text, transcription_events
from simulator.realtime.vad import SpeechStarted, SpeechStopped
from simulator.schedule import Schedule

MIN_COMMIT_MS = 100


class HearingHost(Protocol):
    """The part of a session that the caller's audio changes."""

    settings: SimulatorSettings
    faults: SessionFaults
    behaviour: Behaviour
    config: SessionConfig
    conversation: Conversation
    schedule: Schedule
    timeline: Timeline
    script: Script | None

    @property
    def active_response(self) -> Response | None:
        """Return the response under way in the conversation."""

    def emit(self, kind: str, **content: Any) -> None:
        """Send a server event."""

    def new_id(self, prefix: str) -> str:
        """Return a unique id."""

    def join(self, item: Item, after: str | None = None) -> None:
        """Add an item to the conversation, and tell the client."""

    def hear(self, speech: bytes) -> None:
        """Let the model listen to a turn's speech."""

    def interrupt(self, now: float) -> None:
        """Cancel the active response, because the caller speaks."""

    def respond_to_turn(self, now: float) -> None:
        """Answer a turn that has ended."""


class Hearing:
    """Makes turns of the client's audio.

    Attributes:
        input: the input audio buffer.
        recording: all appended audio.
        muted_until_seconds: time until which the caller is not heard; None: always heard.
    """

    def __init__(self, host: HearingHost) -> None:
        self.input = InputAudio()
        self.recording = Recording()
        self.muted_until_seconds: float | None = None
        self._host = host
        self._turn_item_id: str | None = None
        self._is_endless = False  # speech goes on until the client commits or clears the buffer
        self._endless_from_seconds = 0.0
        self._idle_from_ms: int | None = None

    def configure(self) -> None:
        """Apply the session's turn detection after a change."""
        detection = self._host.config.turn_detection or {}
        self._end_turn(None)
        self._idle_from_ms = None
        self.input.configure(
            threshold=detection.get("threshold", 0.5),
            silence_ms=detection.get("silence_duration_ms", SEMANTIC_VAD_SILENCE_MS),
            prefix_ms=detection.get("prefix_padding_ms", 300),
            trims_silence=bool(detection),
        )

    def wait_for_speech(self, sent_ms: int) -> None:
        """Start the idle timeout (`idle_timeout_ms`), counted from the end of a reply of this length."""
        self._idle_from_ms = self.input.appended_ms + sent_ms

    def stop_waiting(self) -> None:
        """Stop the idle timeout."""
        self._idle_from_ms = None

    def append(self, event: dict[str, Any], now: float) -> None:
        """Take `input_audio_buffer.append`.

        Raises:
            RequestError: the audio is not in the session's format.
        """
        audio = self._host.config.input_audio
        if not self._host.settings.listen:
            self.input.skip(len(event["audio"]) * 3 // 4 * BYTES_PER_MS // audio.bytes_per_ms)
            return
        data = audio.read(event["audio"], "audio")
        if self._host.settings.keep_audio:
            self.recording.add(data)
        pcm = audio.decode(data)
        if self.muted_until_seconds is not None and now < self.muted_until_seconds:
            pcm = bytes(len(pcm))
        changes = self.input.append(pcm)
        if self._host.config.turn_detection is None:
            return
        for change in changes:
            if self._is_endless:
                break
            if isinstance(change, SpeechStarted):
                self._speech_started(self.input.audio_start_ms(change.speech_start_ms), now)
                if self._host.faults.take_endless_speech():
                    self._begin_endless_speech(now)
            else:
                self._speech_stopped(change, now)
        if self._idle_from_ms is not None:
            self._check_idle(now)

    def start_speech(self, now: float, seconds: float | None) -> None:
        """Report a start of speech although the caller is silent.

        Args:
            now: the clock.
            seconds: length of the speech; None: until the client commits or clears the buffer.
        """
        self._begin_endless_speech(now)
        if self._turn_item_id is None:
            self._speech_started(self.input.appended_ms, now)
        item_id = self._turn_item_id
        if seconds is not None:
            self._host.schedule.at(now + seconds, lambda due: self._stop_speech(item_id, due))

    def _stop_speech(self, item_id: str | None, now: float) -> None:
        if item_id is None or self._turn_item_id != item_id:
            return  # the client has committed meanwhile
        self._host.emit("input_audio_buffer.speech_stopped", audio_end_ms=self.input.appended_ms, item_id=item_id)
        self._commit_turn(self.input.take(), item_id, now)
        self._host.respond_to_turn(now)

    def _speech_started(self, audio_start_ms: int, now: float) -> None:
        self._idle_from_ms = None
        self._turn_item_id = self._host.new_id("item")
        self._host.emit(
            "input_audio_buffer.speech_started", audio_start_ms=audio_start_ms, item_id=self._turn_item_id
        )
        self._host.interrupt(now)

    def _speech_stopped(self, speech: SpeechStopped, now: float) -> None:
        item_id = self._turn_item_id or self._host.new_id("item")
        self._host.emit("input_audio_buffer.speech_stopped", audio_end_ms=speech.audio_end_ms, item_id=item_id)
        self._commit_turn(self.input.take_speech(speech), item_id, now)
        self._host.respond_to_turn(now)

    def _check_idle(self, now: float) -> None:
        timeout_ms = (self._host.config.turn_detection or {}).get("idle_timeout_ms")
        start_ms = self._idle_from_ms
        if timeout_ms is None or start_ms is None or self._host.active_response is not None:
            return
        if self._turn_item_id is not None or self.input.appended_ms < start_ms + timeout_ms:
            return
        self._idle_from_ms = None
        item_id = self._host.new_id("item")
        self._host.emit(
            "input_audio_buffer.timeout_triggered",
            audio_start_ms=start_ms,
            audio_end_ms=self.input.appended_ms,
            item_id=item_id,
        )
        self._commit_turn(self.input.take(), item_id, now)
        self._host.respond_to_turn(now)

    def commit(self, _event: dict[str, Any], now: float) -> None:
        """Take `input_audio_buffer.commit`.

        Raises:
            RequestError: the buffer holds too little audio.
        """
        if self.input.buffered_ms < MIN_COMMIT_MS:
            raise errors.commit_too_small(self.input.buffered_ms)
        self._commit_turn(self.input.take(), self._turn_item_id or self._host.new_id("item"), now)

    def clear(self, _event: dict[str, Any], now: float) -> None:
        """Take `input_audio_buffer.clear`."""
        self.input.clear()
        self._end_turn(now)
        self._host.emit("input_audio_buffer.cleared")

    def _begin_endless_speech(self, now: float) -> None:
        self._is_endless = self.input.keeps_all = True
        self._endless_from_seconds = now

    def _end_turn(self, now: float | None) -> None:
        self._turn_item_id = None
        if self._is_endless and now is not None:
            self._host.timeline.suffered("endless_speech", self._endless_from_seconds, now)
        self._is_endless = self.input.keeps_all = False

    def _commit_turn(self, turn: Turn, item_id: str, now: float) -> None:
        self._end_turn(now)
        self._host.hear(turn.speech)
        pcm = turn.pcm if self._host.settings.keep_audio else b""
        part = Part("input_audio", pcm=pcm)
        item = Item(item_id, "message", Origin.CALLER, role="user", parts=[part], audio_ms=round(turn.audio_ms))
        transcribes = (
            self._host.config.transcription is not None
            and self._host.behaviour.transcription is not Transcription.NEVER
        )
        comes_first = Quirk.TRANSCRIPT_FIRST in self._host.faults.quirks
        script = self._host.script
        said = None if script is None else script.said(self._host.conversation.items)
        if transcribes and comes_first:
            self._transcribe(item, part, turn.speech_ms, said)
        self._host.emit(
            "input_audio_buffer.committed", previous_item_id=self._host.conversation.last_id(), item_id=item_id
        )
        self._host.join(item)
        if transcribes and not comes_first:
            delay = self._host.behaviour.transcription_delay_seconds
            self._host.schedule.at(now + delay, lambda _due: self._transcribe(item, part, turn.speech_ms, said))

    def _transcribe(self, item: Item, part: Part, speech_ms: int, said: str | None) -> None:
        part.text = heard_text(self._host.behaviour, speech_ms, said)
        model = (self._host.config.transcription or {}).get("model", "whisper-1")
        for kind, content in transcription_events(item.id, part.text, model=model, audio_ms=item.audio_ms):
            self._host.emit(kind, **content)
