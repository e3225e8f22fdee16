"""The recording of one call at this dispatcher: its timeline, its file, and what is known of it elsewhere."""

from __future__ import annotations

import time
from typing import Protocol as Interface

from common.audio.wav import SAMPLE_RATE_HZ
from common.store.recording_states import RecordingState, StoredSegment
from dispatcher.recording.stretch import Stretch
from dispatcher.recording.timeline import Timeline
from dispatcher.records.call_record import Segment

# A recording is 115 MB an hour. Longer calls go on without one.
MAX_SAMPLES = 4 * 3600 * SAMPLE_RATE_HZ
# Files of one call that are named: a caller who comes back more often loses the oldest from the list.
MAX_SEGMENTS = 64


class RecordingOutput(Interface):
    """The place to which a recorder hands its sound: the process's recordings."""

    def started(self, recorder: CallRecorder) -> None:
        """Note that a call is recorded; its recorder has its file name from now on."""

    def write(self, recorder: CallRecorder, stretch: Stretch) -> bool:
        """Write a stretch; return whether there was room for it."""

    def too_long(self, samples: int) -> None:
        """Count sound behind the longest recording."""

    def late(self, samples: int) -> None:
        """Count sound that had no place in the recording."""

    def recall(self, recorder: CallRecorder) -> None:
        """Look up whether the recording of a call that another dispatcher had is paused."""

    def ended(self, recorder: CallRecorder, *, moved: bool) -> None:
        """Close the file; the call goes on at another dispatcher if it moved."""


class NoRecorder:
    """Recorder of a call that is not recorded.

    Attributes:
        timeline: the sound; the call's core feeds it. None: there is none.
    """

    timeline: Timeline | None = None

    def begin(self, uuid: str) -> None:
        """Begin: the connection has said which call it is, and the call is not here already."""

    def placed(self, call_began_seconds: float, *, is_older: bool) -> None:
        """Note that a worker was found, and with it whether another dispatcher had this call.

        Args:
            call_began_seconds: by this dispatcher's clock.
            is_older: another dispatcher had the call. Its recording may be paused.
        """

    def tick(self, now_seconds: float) -> None:
        """Hand on what is due."""

    def end(self, now_seconds: float, *, moved: bool) -> None:
        """Hand on the rest: the call has ended here.

        Args:
            now_seconds: when.
            moved: the call goes on at another dispatcher.
        """

    def segments(self) -> tuple[Segment, ...]:
        """Return the files of the recording, in order, those of other dispatchers first; complete behind `end`."""
        return ()


class CallRecorder(NoRecorder):
    """Recording of one call.

    Attributes:
        timeline: the sound; the call's core feeds it.
        uuid: of the call; empty before it began.
        host: of this dispatcher.
        file: name of the file; empty before the call began.
        is_changed: the state has changed since it was written to Redis.
        earlier: files that other dispatchers wrote of this call.
    """

    def __init__(self, output: RecordingOutput, host: str, max_samples: int = MAX_SAMPLES) -> None:
        """Make a recorder of a connection that has not said `init`."""
        self.timeline: Timeline = Timeline()
        self.uuid = ""
        self.host = host
        self.file = ""
        self.is_changed = False
        self.earlier: tuple[Segment, ...] = ()
        self._output = output
        self._max_samples = max_samples
        self._from_seconds = 0.0
        self._end_samples = 0
        self._counted_late = 0
        self._is_placed = False
        self._is_over = False

    def begin(self, uuid: str) -> None:
        """Begin: the connection has said which call it is, and the call is not here already."""
        self.uuid = uuid
        self._output.started(self)

    def placed(self, call_began_seconds: float, *, is_older: bool) -> None:
        """Go on with the state that another dispatcher left, or begin without one; see `NoRecorder`."""
        if self._is_placed:
            return
        self._is_placed = True
        began_seconds = self.timeline.began_seconds
        self._from_seconds = max(0.0, began_seconds - call_began_seconds)
        if is_older or self._from_seconds > 1.0:
            self._output.recall(self)
        else:
            self.recalled(RecordingState(paused=False))

    def recalled(self, state: RecordingState | None) -> None:
        """Go on from what Redis knows of the recording; None: nothing is known, so it is paused."""
        self.timeline.decide(state is None or state.paused)
        if state is not None:
            self.earlier = tuple(
                Segment(each.host, each.file, each.from_seconds, each.seconds)
                for each in state.segments[-MAX_SEGMENTS:]
                if each.file != self.file
            )
        self.is_changed = True

    def pause(self, paused: bool) -> None:
        """Pause the recording, or go on."""
        self.timeline.pause(paused, time.monotonic())
        self.is_changed = True

    def tick(self, now_seconds: float) -> None:
        """Hand on what is due."""
        if self.file and not self._is_over:
            stretch = self.timeline.take(now_seconds)
            if stretch is not None:
                self._write(stretch)

    def end(self, now_seconds: float, *, moved: bool) -> None:
        """Hand on the rest, and have the file closed; see `NoRecorder`."""
        if not self.file or self._is_over:
            return
        self._is_over = True
        if not self._is_placed:
            # No worker was ever found: the call was new.
            self.timeline.decide(paused=False)
        while (stretch := self.timeline.take(now_seconds, is_last=True)) is not None:
            self._write(stretch)
        self._output.ended(self, moved=moved)

    @property
    def is_known(self) -> bool:
        """Whether the state may be written to Redis: until then it has that of another dispatcher."""
        return self._is_placed and self.timeline.is_sure

    def segments(self) -> tuple[Segment, ...]:
        """Return the files of the recording, in order, those of other dispatchers first."""
        if not self._end_samples:
            return self.earlier
        seconds = round(self._end_samples / SAMPLE_RATE_HZ, 3)
        return (*self.earlier, Segment(self.host, self.file, round(self._from_seconds, 3), seconds))

    def state(self) -> RecordingState:
        """Return the state for Redis. It names the file from the beginning on."""
        segments = self.segments()
        if not self._end_samples and self.file:
            segments += (Segment(self.host, self.file, round(self._from_seconds, 3), 0.0),)
        stored = tuple(StoredSegment(each.host, each.file, each.from_seconds, each.seconds) for each in segments)
        return RecordingState(self.timeline.is_paused, stored)

    def _write(self, stretch: Stretch) -> None:
        late = self.timeline.lost_samples - self._counted_late
        if late:
            self._counted_late += late
            self._output.late(late)
        if stretch.end > self._max_samples:
            self._output.too_long(stretch.samples)
        elif self._output.write(self, stretch):
            self._end_samples = stretch.end
