"""Reply audio on its way to AVR Core: split into frames, held during a pause, timed by the playout clock."""

from __future__ import annotations

from collections import deque

from common.link import wire
from dispatcher.avr import protocol
from dispatcher.call.actions import Play
from dispatcher.call.playback.playout import OWN_SOUND, PlayoutClock
from dispatcher.recording.timeline import Timeline


class Player:
    """Player of one call. Items are the numbers that the link gives them.

    Attributes:
        is_held: audio for AVR Core is held, bounded by the credit of the worker.
        taken_bytes: size of the reply audio for which the worker gets new credit; `ReplyPlayback` sets it to 0.
    """

    def __init__(self, timeline: Timeline | None = None) -> None:
        """Make a player. The timeline of the call's recording, if there is one, gets all audio that is played."""
        self.is_held = False
        self.taken_bytes = 0
        self._clock = PlayoutClock()
        self._timeline = timeline
        self._playing = False
        self._held: deque[tuple[int, bytes | None]] = deque()  # None: the item has no more audio
        self._held_bytes = 0
        self._partial = b""
        self._partial_item = 0
        # Items of which samples were dropped before they were handed to AVR Core.
        self._dropped: list[int] = []

    @property
    def held_bytes(self) -> int:
        """Size of the reply audio that is held."""
        return self._held_bytes

    def all_heard(self, now_seconds: float) -> bool:
        """Return whether the caller has heard all replies; `own_sound` does not count."""
        return not self._held and not self._partial and self._clock.items_end_seconds <= now_seconds

    @property
    def quiet_since_seconds(self) -> float:
        """Time at which the last reply was heard to its end, or will be."""
        return self._clock.items_end_seconds

    @property
    def ended_seconds(self) -> float:
        """Time at which AVR Core has played all its audio, or will have played it."""
        return self._clock.end_seconds

    def ahead_seconds(self, now_seconds: float) -> float:
        """Return for how long AVR Core can still play the audio that it has."""
        return max(0.0, self._clock.end_seconds - now_seconds)

    def own_sound(self, pcm: bytes, now_seconds: float) -> list[Play]:
        """Return whole frames of the dispatcher's own sound to send; not while `is_held`."""
        self._clock.sent(OWN_SOUND, len(pcm) // 2, now_seconds)
        self._record(pcm)
        return [Play(pcm)]

    def audio(self, item: int, pcm: bytes, now_seconds: float) -> list[Play]:
        """Add PCM16 at 8 kHz to an item; return the frames to hand over."""
        if self.is_held or self._held:
            self._held.append((item, pcm))
            self._held_bytes += len(pcm)
            return []
        return self._frames(item, pcm, now_seconds)

    def item_done(self, item: int, now_seconds: float) -> list[Play]:
        """End an item; return its last frame."""
        if self._held:
            self._held.append((item, None))
            return []
        return self._pad(item, now_seconds)

    def broke_off(self, now_seconds: float) -> list[Play]:
        """End the item of a lost session; return its last frame."""
        spoken = [item for item, pcm in self._held if pcm is not None]
        return self.item_done(spoken[-1] if spoken else self._partial_item, now_seconds)

    def release(self, now_seconds: float) -> list[Play]:
        """Return the frames that were held: AVR Core reads again."""
        self.is_held = False
        plays: list[Play] = []
        while self._held:
            item, pcm = self._held.popleft()
            if pcm is None:
                plays += self._pad(item, now_seconds)
            else:
                self._held_bytes -= len(pcm)
                plays += self._frames(item, pcm, now_seconds)
        return plays

    def drop(self) -> None:
        """Drop audio that was not handed over, because of a barge-in."""
        if self._partial:
            self._dropped.append(self._partial_item)
        self._dropped += [item for item, pcm in self._held if pcm is not None]
        self.taken_bytes += self._held_bytes
        self._held.clear()
        self._held_bytes = 0
        self._partial = b""

    def truncate(self, now_seconds: float) -> tuple[wire.ItemHeard, ...]:
        """Note that AVR Core has dropped its audio; return the heard part of each truncated item.

        Items that were dropped before AVR Core had any of their audio are included, with no heard part.
        """
        dropped, self._dropped = self._dropped, []
        self._playing = False
        truncated = self._clock.truncate(now_seconds, dropped)
        if truncated and self._timeline is not None:
            self._timeline.interrupted(now_seconds)
        return tuple(wire.ItemHeard(item, samples) for item, samples in truncated)

    def progress(self, now_seconds: float) -> wire.Playout | None:
        """Return the progress of the playout; None: nothing has changed."""
        if not self._playing:
            return None
        items, idle = self._clock.progress(now_seconds)
        self._playing = not idle
        queued = self._clock.queued()
        return wire.Playout(
            tuple(wire.ItemHeard(item, samples) for item, samples in items),
            idle,
            tuple(wire.ItemHeard(item, samples) for item, samples in queued),
        )

    def restore(self, last: wire.Playout, now_seconds: float) -> None:
        """Continue from the last report of a lost dispatcher: AVR Core still plays its audio."""
        heard = {each.index: each.samples for each in last.items}
        began_seconds = now_seconds - last.age_seconds
        for each in last.queued:
            before = heard.get(each.index, 0)
            self._clock.resume(each.index, before, each.samples - before, began_seconds)
            self._playing = True

    def _frames(self, item: int, pcm: bytes, now_seconds: float) -> list[Play]:
        """Return whole frames; an incomplete frame waits for the item's next samples or its end."""
        plays = self._pad(self._partial_item, now_seconds) if self._partial_item != item else []
        self.taken_bytes += len(pcm)
        data = self._partial + pcm if self._partial else pcm
        complete_bytes = len(data) - len(data) % protocol.FRAME_BYTES
        self._partial, self._partial_item = data[complete_bytes:], item
        if complete_bytes:
            plays.append(Play(data[:complete_bytes]))
            self._played(item, complete_bytes // 2, 0, now_seconds)
            self._record(data[:complete_bytes])
        return plays

    def _pad(self, item: int, now_seconds: float) -> list[Play]:
        """Return the last frame of an item, filled up with silence."""
        if not self._partial or self._partial_item != item:
            return []
        samples = len(self._partial) // 2
        frame = self._partial.ljust(protocol.FRAME_BYTES, b"\0")
        self._partial = b""
        self._played(item, samples, protocol.FRAME_SAMPLES - samples, now_seconds)
        self._record(frame)
        return [Play(frame)]

    def _played(self, item: int, samples: int, padding: int, now_seconds: float) -> None:
        self._clock.sent(item, samples, now_seconds, padding=padding)
        self._playing = True

    def _record(self, pcm: bytes) -> None:
        """Give the recording the audio that was handed to AVR Core, and the time at which its playing ends."""
        if self._timeline is not None:
            self._timeline.played(pcm, self._clock.end_seconds)
