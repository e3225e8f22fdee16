"""The caller's side of a session: speech on its way to the model, and the turns that it makes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from common.link import wire
from worker.audio.local_vad import DEFAULT_SILENCE_MS, SpeechStarted
from worker.audio.resample import SAMPLE_BYTES, Upsampler
from worker.realtime.api_values import checked_id
from worker.session.actions import AppendAudio, Metric
from worker.session.agent.response_scheduler import AnswerKind, SchedulerState
from worker.session.caller.caller_audio import Dropped, Step
from worker.session.caller.speech_watch import SpeechWatch, WatchState, allowed_silence_seconds
from worker.session.item_events import ItemEvents
from worker.session.memory.conversation import Role
from worker.session.parts import SessionParts, local_vad

# Maximum position in a session's audio, and maximum delay of the API's report of a turn's end.
MAX_POSITION_MS = 86_400_000
MAX_LATE_SECONDS = 60.0
# Time without an answer to a ping, sent every 2 s, after which the API is stalled (`realtime/connection.py`).
API_STALLED_SECONDS = 4.0
# Maximum known ids of turns with an owed answer, because the API reports a turn's end in two events.
MAX_TURNS_KNOWN = 16


class CallerSide:
    """The caller's side of one session.

    Attributes:
        position_samples: position of the next audio of the caller, as this session counts it.
        words_lost: audio of the caller was dropped.
    """

    def __init__(self, parts: SessionParts, items: ItemEvents, position_samples: int) -> None:
        config = parts.config
        self.position_samples = position_samples
        self.words_lost = False
        self._parts = parts
        self._items = items
        self._local_turns = config.local_silence_ms is not None
        self._local_silence_seconds = (config.local_silence_ms or 0) / 1000
        self._watch = SpeechWatch(allowed_silence_seconds(_turn_detection(config.session)))
        self._turns_known: deque[str] = deque(maxlen=MAX_TURNS_KNOWN)
        # Commits of this side that the API has not confirmed.
        self._commits_here = 0
        self._credit_due_bytes = 0
        self._span: tuple[int, int] | None = None

    @property
    def upsampler(self) -> Upsampler | None:
        """Resampler of the next audio, if that audio is sent to the API at once; None: it is buffered."""
        return self._parts.audio.upsampler

    @property
    def is_audible(self) -> bool:
        """Whether the caller speaks, by the local detector too, and not only by the API's."""
        return self._parts.memory_writer.speaking and self._watch.state is not WatchState.ALONE

    # Audio

    def append_audio(self, position_samples: int, pcm: bytes, now_seconds: float) -> None:
        """Send the caller's audio (PCM16 at 8 kHz) from this position of the call to the API."""
        parts = self._parts
        # Credit is returned at once, because the audio that waits here has a bound of its own.
        self.position_samples = position_samples + len(pcm) // SAMPLE_BYTES
        self._credit_due_bytes += len(pcm)
        if self._credit_due_bytes >= wire.CREDIT_STEP_BYTES:
            parts.out.record(wire.Credit(self._credit_due_bytes))
            self._credit_due_bytes = 0
        if self._watch.state is not WatchState.OFF and self._watch.audio(pcm, now_seconds):
            # The API does not report the beginning of this speech, because it still waits for the end of another.
            parts.memory_writer.spoke(True)
            parts.barge_in()
        self.carry_out(parts.audio.audio(position_samples, pcm), now_seconds)

    def replay_audio(self, kept: list[tuple[int, bytes]], now_seconds: float) -> None:
        """Send the caller's audio again, except for turns that are part of the conversation.

        Args:
            kept: audio of the caller that another session had: (position, PCM16 at 8 kHz).
            now_seconds: the time.
        """
        parts = self._parts
        heard_until = max((item.span[1] for item in parts.conversation if item.span), default=0)
        parts.memory_writer.speaking = False
        left = []
        for position, pcm in kept:
            skipped = max(0, heard_until - position)
            if skipped * SAMPLE_BYTES < len(pcm):
                left.append((position + skipped, pcm[skipped * SAMPLE_BYTES :]))
            self.position_samples = max(self.position_samples, position + len(pcm) // SAMPLE_BYTES)
        self.carry_out(parts.audio.open(left), now_seconds)

    def carry_out(self, steps: Iterable[Step], now_seconds: float) -> None:
        """Carry out the steps that follow from the caller's audio."""
        parts = self._parts
        for step in steps:
            if isinstance(step, AppendAudio):
                parts.out.actions.append(step)
            elif isinstance(step, Dropped):
                parts.out.report(Metric.CALLER_AUDIO_DROPPED_SECONDS, step.seconds)
                self.words_lost = True
            elif isinstance(step, SpeechStarted):
                parts.memory_writer.spoke(True)
                parts.barge_in()
            else:
                self._end_speech(now_seconds, silence_seconds=self._local_silence_seconds)

    def unmute(self) -> None:
        """Unmute the caller when an uninterruptible welcome message has been heard, or will not be heard."""
        parts = self._parts
        if not parts.audio.input_muted:
            return
        responses = parts.answers.responses
        greets = any(answer.kind is AnswerKind.GREETING and not answer.repeats for answer in responses.owed)
        idle = responses.state is SchedulerState.IDLE
        if idle and not greets and not parts.agent.is_heard:
            parts.audio.input_muted = False

    # Turns

    def end_overdue_speech(self, now_seconds: float, read_seconds: float | None) -> None:
        """End a turn whose end the API does not detect.

        Args:
            now_seconds: the time.
            read_seconds: the API has read all audio that was sent before this time; None: all audio.
        """
        # A stalled API has not received the silence.
        reads = read_seconds is None or now_seconds - read_seconds < API_STALLED_SECONDS
        if reads and self._watch.is_overdue(now_seconds):
            self._parts.log.warning("speech without an end", effect="the worker ends the turn")
            self._end_speech(now_seconds)

    def find_turns_as_asked(self, now_seconds: float) -> None:
        """Detect turns here, or leave them to the API, after a change by the calls API."""
        parts = self._parts
        local = parts.updates.finds_no_turns
        if local == self._local_turns:
            return
        self._local_turns = local
        silence_ms = parts.config.silence_ms or DEFAULT_SILENCE_MS
        self._local_silence_seconds = silence_ms / 1000
        vad = local_vad(parts.config, silence_ms) if local else None
        self._watch.ended()
        self.carry_out(parts.audio.find_turns(vad), now_seconds)
        if parts.memory_writer.speaking:
            # Neither detector would report the end of this speech.
            self._end_speech(now_seconds)

    def _end_speech(self, now_seconds: float, *, silence_seconds: float = 0.0) -> None:
        """Commit the turn, because the local detector found its end."""
        parts = self._parts
        parts.memory_writer.spoke(False)
        spoke_until_seconds = now_seconds - silence_seconds
        parts.turn_clock.speech_ended(spoke_until_seconds, now_seconds)
        self._commits_here += 1
        parts.out.upstream({"type": "input_audio_buffer.commit"})
        parts.answers.turn(now_seconds, since_seconds=spoke_until_seconds, api_answers=False)
        parts.request_due(now_seconds)

    # Events of the API

    def speech_started(self, event: dict[str, Any], now_seconds: float) -> None:
        """Take the beginning of the caller's speech, and interrupt the agent."""
        parts = self._parts
        parts.memory_writer.spoke(True)
        if not self._local_turns:
            self._watch.began(now_seconds)
        start_ms = parts.number(event.get("audio_start_ms") or 0, MAX_POSITION_MS)
        parts.audio.turns.started(event["item_id"], start_ms or 0)
        parts.silence.reset()
        parts.turn_clock.forget()
        if not parts.updates.interrupt_response:
            return
        active_id = parts.answers.responses.active_id
        if active_id:
            # The API cancels it by itself, and its late audio is dropped.
            parts.agent.closed_responses.append(active_id)
        parts.answers.interrupted()
        parts.agent.flush()

    def speech_stopped(self, event: dict[str, Any], now_seconds: float) -> None:
        """Take the end of the caller's speech."""
        parts = self._parts
        parts.memory_writer.speaking = False
        self._watch.ended()
        parts.silence.reset()
        # `audio_end_ms` includes the silence that the detector waits for. Audio appended since counts, too.
        turns = parts.audio.turns
        end_ms = parts.number(event.get("audio_end_ms", turns.appended_ms), MAX_POSITION_MS)
        if end_ms is None:
            end_ms = turns.appended_ms
        self._span = turns.stopped(event["item_id"], end_ms, now_seconds)
        since_end_ms = turns.appended_ms - end_ms + parts.config.silence_ms
        late_seconds = min(max(0.0, since_end_ms / 1000), MAX_LATE_SECONDS)
        parts.turn_clock.speech_ended(now_seconds - late_seconds, now_seconds)
        self._turn_ended(event["item_id"], now_seconds)

    def committed(self, event: dict[str, Any], now_seconds: float) -> None:
        """Add a turn to the conversation: it has ended, whether `speech_stopped` came or not."""
        parts = self._parts
        item_id = checked_id(event["item_id"])
        if self._local_turns or self._commits_here:
            turns = parts.audio.turns
            self._span = turns.stopped(item_id, turns.appended_ms, now_seconds)
        item = self._items.insert(item_id, Role.USER, event, now_seconds)
        item.span, self._span = self._span, None
        if self._commits_here:
            # The turn was ended from this side, and its answer is owed already.
            self._commits_here -= 1
            return
        if not self._local_turns:
            # Items that are complete now are reported first.
            parts.memory_writer.write()
            parts.memory_writer.spoke(False)
            self._watch.ended()
        self._turn_ended(item_id, now_seconds)

    def commit_was_empty(self) -> None:
        """Note that the API refused a commit, so no `committed` follows it."""
        self._commits_here = max(0, self._commits_here - 1)

    def _turn_ended(self, item_id: str, now_seconds: float) -> None:
        """Owe the answer to a turn that the API found; the API requests it, unless `create_response` is off."""
        if item_id in self._turns_known:
            return
        self._turns_known.append(item_id)
        clock, answers, updates = self._parts.turn_clock, self._parts.answers, self._parts.updates
        since_seconds = now_seconds if clock.spoke_until_seconds is None else clock.spoke_until_seconds
        if updates.create_response:
            clock.asked(now_seconds)
        answers.turn(now_seconds, since_seconds=since_seconds, api_answers=updates.create_response)


def _turn_detection(session: dict[str, Any]) -> Any:
    return session.get("audio", {}).get("input", {}).get("turn_detection")
