"""Things to do later on an explicit clock: the timers of a Sans-I/O core."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

Action = Callable[[float], None]
"""Called with the time it was due, so that a late wake-up does not shift what follows from it."""


class Timer:
    """One scheduled action; `cancel` is allowed at any time and more than once."""

    __slots__ = ("_action", "due_seconds")

    def __init__(self, due_seconds: float, action: Action) -> None:
        self.due_seconds = due_seconds
        self._action: Action | None = action

    @property
    def cancelled(self) -> bool:
        """Whether it will not run (any more)."""
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
    """Timers by due time; those due at the same time run in the order in which they were set."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def at(self, due_seconds: float, action: Action) -> Timer:
        """Run `action` when the clock reaches `due_seconds`."""
        timer = Timer(due_seconds, action)
        heapq.heappush(self._heap, (due_seconds, next(self._order), timer))
        return timer

    def next_due_seconds(self) -> float | None:
        """When `run_due` is to be called next; None if nothing is scheduled."""
        while self._heap and self._heap[0][2].cancelled:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def run_due(self, now_seconds: float) -> None:
        """Run everything due, including what it schedules for a time that has already come."""
        while (due := self.next_due_seconds()) is not None and due <= now_seconds:
            heapq.heappop(self._heap)[2].fire()
