"""Timers of a Sans-I/O core, on an explicit clock."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

Action = Callable[[float], None]
"""Receives the time at which it was due, so that a late wake-up does not delay later actions."""


class Timer:
    """One scheduled action; `cancel` may be called at any time, and more than once."""

    __slots__ = ("_action", "due_seconds")

    def __init__(self, due_seconds: float, action: Action) -> None:
        self.due_seconds = due_seconds
        self._action: Action | None = action

    @property
    def cancelled(self) -> bool:
        """Tell whether the action was cancelled or has run."""
        return self._action is None

    def cancel(self) -> None:
        """Forget the action."""
        self._action = None

    def fire(self) -> None:
        """Run the action, once."""
        action, self._action = self._action, None
        if action is not None:
            action(self.due_seconds)


class Schedule:
    """Timers by due time; timers due at the same time run in the order in which they were set."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def at(self, due_seconds: float, action: Action) -> Timer:
        """Run `action` when the clock reaches `due_seconds`."""
        timer = Timer(due_seconds, action)
        heapq.heappush(self._heap, (due_seconds, next(self._order), timer))
        return timer

    def next_due_seconds(self) -> float | None:
        """Return the time of the next `run_due`; None if nothing is scheduled."""
        while self._heap and self._heap[0][2].cancelled:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def run_due(self, now_seconds: float) -> None:
        """Run all due actions, including those that they schedule for a past time."""
        while (due := self.next_due_seconds()) is not None and due <= now_seconds:
            heapq.heappop(self._heap)[2].fire()
