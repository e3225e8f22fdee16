"""Reports of the call's memory to the dispatcher: changed items, and the end of the finished audio."""

from __future__ import annotations

import dataclasses
from collections import deque

from common.link import wire
from common.observe.redaction import all_without_known
from worker.audio.resample import LOW_RATE_HZ
from worker.session.action_queue import ActionQueue
from worker.session.caller.caller_audio import CallerAudio
from worker.session.memory.conversation import Conversation

# Length of the caller's last silence that the dispatcher keeps, because it may be the beginning of a word.
KEPT_SILENCE_SAMPLES = LOW_RATE_HZ
# Time within which the API recognizes speech in the audio that was replayed to it at the beginning.
SETTLE_SECONDS = 3.0
# Maximum known positions of the caller's audio by the time of sending: a minute of them.
MAX_PASSED = 300


class MemoryWriter:
    """Memory writer of one session.

    Attributes:
        speaking: the caller is speaking.
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
        """Report the changed items of the conversation."""
        for record in self._conversation.take_changes():
            self._remember(record)

    def write_all(self) -> None:
        """Report all items to a dispatcher that has none."""
        for record in self._conversation.everything():
            self._remember(record)
        self.finished(self.finished_samples)

    def _remember(self, record: wire.ItemUpdate) -> None:
        # Secrets are removed here, because the dispatcher writes the item to Redis, and lacks workers' secrets.
        item = all_without_known(record.item, self._outbox.uuid)
        self._outbox.record(dataclasses.replace(record, item=item))

    def finished(self, position_samples: int) -> None:
        """Report that the caller's audio up to this position has a transcript, or is silence."""
        self.finished_samples = max(self.finished_samples, position_samples)
        self._outbox.record(wire.Finished(self.finished_samples, self.speaking))

    def spoke(self, speaking: bool) -> None:
        """Report that the caller begins or stops speaking."""
        self.speaking = speaking
        self.finished(self.finished_samples)

    def finish_silence(
        self, position_samples: int, live_seconds: float, now_seconds: float, heard_seconds: float
    ) -> None:
        """Report silence as finished, except for its last second, while the API reports no speech.

        Args:
            position_samples: position of the caller's next audio.
            live_seconds: time since the session went live.
            now_seconds: the time.
            heard_seconds: the API has read all audio that was sent before this time.
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
