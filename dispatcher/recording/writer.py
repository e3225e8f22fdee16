"""The thread that writes recordings: one in a process, with a bounded queue.

A stretch that cannot be written is dropped and counted, and leaves silence in its file. So neither a slow disk nor
a full or read-only one costs a call anything.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from common.audio.wav import SAMPLE_RATE_HZ
from common.observe.recording_drop import RecordingDrop
from dispatcher.recording.folder import GO_ON_FREE, MIN_FREE, RecordingFolder
from dispatcher.recording.stretch import FRAME_BYTES, Stretch
from dispatcher.recording.wav_file import WavFile

# The disk may stall for a while: 32 MiB are ten seconds of a hundred calls.
MAX_QUEUED_BYTES = 32 * 1024 * 1024
# Stretches are gathered for this time: each waking of the thread takes the interpreter from the event loop.
GATHER_SECONDS = 0.25
# The free disk is looked up so often, and after a failure the disk is tried again so late.
LOOK_SECONDS = 1.0
RETRY_SECONDS = 5.0


class RecordingWriter:
    """The thread and its queue.

    Attributes:
        written_samples: so many were written.
        dropped_samples: so many were not, by reason.
        problem: why nothing is written now; empty: all is well.
    """

    def __init__(self, folder: RecordingFolder, max_queued_bytes: int = MAX_QUEUED_BYTES) -> None:
        """Make a writer; its thread starts with the first stretch."""
        self.written_samples = 0
        self.dropped_samples = dict.fromkeys(RecordingDrop, 0)
        self.problem = ""
        self._folder = folder
        self._max_queued_bytes = max_queued_bytes
        self._queue: deque[tuple[WavFile, Stretch | None]] = deque()
        self._queued_bytes = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closing = False
        self._looked_seconds = float("-inf")
        self._failed_seconds = float("-inf")
        self._failed_for = RecordingDrop.ERROR

    # In the event loop's thread

    def write(self, file: WavFile, stretch: Stretch) -> bool:
        """Queue a stretch; return whether there was room. It is counted as dropped if not."""
        with self._changed:
            if self._is_closing or self._queued_bytes >= self._max_queued_bytes:
                self.dropped_samples[RecordingDrop.QUEUE] += stretch.samples
                return False
            self._put(file, stretch)
            return True

    def finish(self, file: WavFile) -> None:
        """Close a file after its stretches; that takes no room."""
        with self._changed:
            self._put(file, None)

    def close(self, seconds: float) -> bool:
        """Write what is queued, for so long at most, and end the thread; return whether all was written."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join(seconds)
        return thread is None or not thread.is_alive()

    def _put(self, file: WavFile, stretch: Stretch | None) -> None:
        if not self._queue:
            self._changed.notify()
        self._queue.append((file, stretch))
        self._queued_bytes += 0 if stretch is None else stretch.samples * FRAME_BYTES
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="recordings", daemon=True)
            self._thread.start()

    # In its own

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue:
                    if self._is_closing:
                        return
                    self._changed.wait()
                self._changed.wait_for(lambda: self._is_closing, GATHER_SECONDS)
                gathered = len(self._queue)
            for _ in range(gathered):
                self._write_next()

    def _write_next(self) -> None:
        # No lock: only this thread takes anything out.
        file, stretch = self._queue[0]
        if stretch is None:
            file.close()
        dropped = None if stretch is None else self._write(file, stretch)
        with self._changed:
            self._queue.popleft()
            if stretch is None:
                return
            self._queued_bytes -= stretch.samples * FRAME_BYTES
            if dropped is None:
                self.written_samples += stretch.samples
            else:
                self.dropped_samples[dropped] += stretch.samples

    def _write(self, file: WavFile, stretch: Stretch) -> RecordingDrop | None:
        """Write a stretch; return why it was dropped, if it was."""
        now_seconds = time.monotonic()
        if self.problem and now_seconds - self._failed_seconds < RETRY_SECONDS:
            return self._failed_for
        try:
            if self._is_low(now_seconds):
                return RecordingDrop.DISK
            file.write(stretch.position, stretch.frames())
        except OSError as error:
            self._failed(RecordingDrop.ERROR, error.strerror or type(error).__name__, now_seconds)
            return RecordingDrop.ERROR
        self.problem = ""
        return None

    def _is_low(self, now_seconds: float) -> bool:
        if now_seconds - self._looked_seconds < LOOK_SECONDS:
            return False
        free = self._folder.free_share()
        was_low = bool(self.problem) and self._failed_for is RecordingDrop.DISK
        if free < (GO_ON_FREE if was_low else MIN_FREE):
            self._failed(RecordingDrop.DISK, f"{free:.1%} of the disk is free", now_seconds)
            return True
        self._looked_seconds = now_seconds
        return False

    def _failed(self, reason: RecordingDrop, problem: str, now_seconds: float) -> None:
        self._failed_for, self._failed_seconds, self.problem = reason, now_seconds, problem


def seconds_of(samples: int) -> float:
    """Return samples as seconds."""
    return samples / SAMPLE_RATE_HZ
