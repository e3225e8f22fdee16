"""Tells the dispatcher what to remember: items as they change, and which of the caller's audio is not text yet."""

from __future__ import annotations

import dataclasses
from collections import deque

from common.link import wire
from common.observe.redaction import all_without_known
from worker.audio.resample import LOW_RATE_HZ
from worker.session.action_queue import ActionQueue
from worker.session.caller.caller_audio import CallerAudio
from worker.session.memory.conversation import Conversation

# The dispatcher keeps this much of the caller's silence, which may be the beginning of a word.
KEPT_SILENCE_SAMPLES = LOW_RATE_HZ
# Audio that was heard again when the session began is recognized as speech within this time.
SETTLE_SECONDS = 3.0
# Positions of the caller's audio by the time at which they went to the API: of a minute.
MAX_PASSED = 300


class MemoryWriter:
    """The memory writer of one session.

    Attributes:
        speaking: the caller is saying something.
        finished_samples: audio before this position of the call need not be kept.
    """

    def __init__(self, conversation: Conversation, audio: CallerAudio, outbox: ActionQueue) -> None:
        self.speaking = False
        self.finished_samples = 0
        self._conversation = conversation
        self._audio = audio
        self._outbox = outbox
        self._passed: deque[tuple[float, int]] = deque(maxlen=MAX_PASSED)

    def write(self) -> None:
        """Tell the items of the conversation that have changed."""
        for record in self._conversation.take_changes():
            self._remember(record)

    def write_all(self) -> None:
        """Tell all items to a dispatcher that knows none."""
        for record in self._conversation.everything():
            self._remember(record)
        self.finished(self.finished_samples)

    def _remember(self, record: wire.ItemUpdate) -> None:
        # The dispatcher writes it to Redis, and does not know the secrets that workers alone read.
        item = all_without_known(record.item, self._outbox.uuid)
        self._outbox.record(dataclasses.replace(record, item=item))

    def finished(self, position_samples: int) -> None:
        """Tell that the caller's audio up to this position is text, or silence."""
        self.finished_samples = max(self.finished_samples, position_samples)
        self._outbox.record(wire.Finished(self.finished_samples, self.speaking))

    def spoke(self, speaking: bool) -> None:
        """Tell that the caller begins or stops speaking."""
        self.speaking = speaking
        self.finished(self.finished_samples)

    def finish_silence(
        self, position_samples: int, live_seconds: float, now_seconds: float, heard_seconds: float
    ) -> None:
        """Let the dispatcher forget silence but its last second, while the API hears no speech in it.

        Args:
            position_samples: of the caller's audio that comes next.
            live_seconds: how long there has been a session.
            now_seconds: when.
            heard_seconds: what was sent to the API before this time has been read there.
        """
        self._passed.append((now_seconds, position_samples))
        while len(self._passed) > 1 and self._passed[1][0] <= heard_seconds:
            self._passed.popleft()
        passed_seconds, position = self._passed[0]
        if self.speaking or self._audio.turns.any_open or self._audio.waiting_bytes:
            return
        if live_seconds < SETTLE_SECONDS or passed_seconds > heard_seconds:
            return
        position -= KEPT_SILENCE_SAMPLES
        if position - self.finished_samples >= KEPT_SILENCE_SAMPLES:
            self.finished(position)
