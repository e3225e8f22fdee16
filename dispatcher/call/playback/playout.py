"""The playout clock: which samples of the audio that AVR Core has were heard by the caller.

AVR Core plays its audio in order and in real time, and reports nothing. Each call therefore has one cursor. Audio
begins to play at the end of all earlier audio, or now if that is later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from dispatcher.avr.protocol import SAMPLE_RATE_HZ

# Maximum runs of gapless audio that are not fully heard. A reply is usually one run. Beyond the maximum the oldest
# run counts as heard, because it plays first.
MAX_RUNS = 1024
# Index of the dispatcher's own sound (filler, recorded sentence), which takes time and belongs to no item.
OWN_SOUND = -1


@dataclass(slots=True)
class _Run:
    """Samples of one item that play without a gap.

    `padding` are the samples of silence behind them that fill the last frame.
    """

    item: int
    start_seconds: float
    samples: int
    padding: int = 0

    @property
    def end_seconds(self) -> float:
        return self.start_seconds + (self.samples + self.padding) / SAMPLE_RATE_HZ

    def heard(self, now_seconds: float) -> int:
        played = int((now_seconds - self.start_seconds) * SAMPLE_RATE_HZ)
        return max(0, min(played, self.samples))


class PlayoutClock:
    """Playout of one call. All times are seconds of the same monotonic clock."""

    def __init__(self) -> None:
        self._runs: deque[_Run] = deque()
        # Heard samples of items whose first runs have been heard fully, but not their last ones.
        self._fully_heard: dict[int, int] = {}
        # End of all audio, and end of the items alone; also of audio that is in no run any more.
        self._ended_seconds = self._items_ended_seconds = float("-inf")

    @property
    def end_seconds(self) -> float:
        """Time at which AVR Core has played all its audio, or will have played it."""
        return self._runs[-1].end_seconds if self._runs else self._ended_seconds

    @property
    def items_end_seconds(self) -> float:
        """Time at which AVR Core has played all items, or will have; `OWN_SOUND` does not count."""
        for run in reversed(self._runs):
            if run.item != OWN_SOUND:
                return run.end_seconds
        return self._items_ended_seconds

    def sent(self, item: int, samples: int, now_seconds: float, *, padding: int = 0) -> None:
        """Note that samples of an item were handed to AVR Core, with silence behind them.

        Args:
            item: the item's number.
            samples: samples of the item.
            now_seconds: the time.
            padding: samples of silence that fill up the last frame.
        """
        last = self._runs[-1] if self._runs else None
        if last is not None and last.end_seconds >= now_seconds:
            if last.item == item and not last.padding:
                last.samples += samples
                last.padding = padding
                return
            now_seconds = last.end_seconds
        self._runs.append(_Run(item, now_seconds, samples, padding))
        if len(self._runs) > MAX_RUNS:
            self._retire(self._runs.popleft())

    def progress(self, now_seconds: float) -> tuple[list[tuple[int, int]], bool]:
        """Return the heard samples of items that played since the last call.

        Returns:
            [(item, samples heard)], oldest first, and whether all sent items have been played.
        """
        items: dict[int, int] = {}
        for run in self._runs:
            if run.start_seconds > now_seconds:
                break
            self._add(items, run, run.heard(now_seconds))
        while self._runs and self._runs[0].end_seconds <= now_seconds:
            self._retire(self._runs.popleft())
        self._forget()
        return list(items.items()), self.items_end_seconds <= now_seconds

    def queued(self) -> list[tuple[int, int]]:
        """Return [(item, samples handed over)] of the items that have not been heard fully, oldest first."""
        items: dict[int, int] = {}
        for run in self._runs:
            self._add(items, run, run.samples)
        return list(items.items())

    def resume(self, item: int, heard_samples: int, left_samples: int, since_seconds: float) -> None:
        """Continue an item of another clock, whose rest has been playing since then.

        Args:
            item: the item's number.
            heard_samples: heard samples of the item at `since_seconds`.
            left_samples: handed over, and not heard then.
            since_seconds: when; items that were queued behind each other follow each other.
        """
        if heard_samples:
            self._fully_heard[item] = heard_samples
        if left_samples > 0:
            self.sent(item, left_samples, since_seconds)

    def truncate(self, now_seconds: float, unsent: Iterable[int] = ()) -> list[tuple[int, int]]:
        """Note that AVR Core drops its audio.

        If no item is truncated, AVR Core is not told to drop anything, and plays `OWN_SOUND` to its end.

        Args:
            now_seconds: the time.
            unsent: items of which samples were dropped before they were handed over.

        Returns:
            [(item, samples heard)] of the items that were not heard fully, oldest first.
        """
        while self._runs and self._runs[0].end_seconds <= now_seconds:
            self._retire(self._runs.popleft())
        items: dict[int, int] = {}
        for run in self._runs:
            self._add(items, run, run.heard(now_seconds))
        for item in unsent:
            items.setdefault(item, self._fully_heard.get(item, 0))
        if items:
            self._runs.clear()
            self._ended_seconds = self._items_ended_seconds = now_seconds
        self._fully_heard.clear()
        return list(items.items())

    def _add(self, items: dict[int, int], run: _Run, samples: int) -> None:
        """Add samples of a run to the heard samples of its item; `OWN_SOUND` has no item."""
        if run.item != OWN_SOUND:
            items[run.item] = items.get(run.item, self._fully_heard.get(run.item, 0)) + samples

    def _retire(self, run: _Run) -> None:
        self._ended_seconds = run.end_seconds
        if run.item == OWN_SOUND:
            return
        self._items_ended_seconds = run.end_seconds
        self._fully_heard[run.item] = self._fully_heard.get(run.item, 0) + run.samples

    def _forget(self) -> None:
        # Only the item played last can still get samples.
        while len(self._fully_heard) > 1:
            del self._fully_heard[next(iter(self._fully_heard))]
