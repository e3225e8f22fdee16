"""What the worlds of both cores share: a clock, things that are due, and draws that depend on the seed alone."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from typing import Any, Final, TypeVar

from tests.traces.canonical import Output

Input = list[Any]
"""Name and arguments of an input, as the core's adapter takes them."""

Step = list[Any]
"""The time in seconds, then an input."""

_T = TypeVar("_T")

LEAST_INPUTS: Final = 45
MOST_INPUTS: Final = 90


class World:
    """The peers of one core: they answer what the core wants done, well or badly, as drawn from a seed.

    Attributes:
        header: what the core is made from.
        rude: peers send what no peer ever sends: broken records, and records at the wrong time.
    """

    def __init__(self, seed: int, start_ms: int) -> None:
        self.random = random.Random(seed)
        self.seed = seed
        self.rude = seed % 10 == 9
        self.now_ms = start_ms
        self.header: dict[str, Any] = {}
        self._left = self.random.randint(LEAST_INPUTS, MOST_INPUTS)
        self._after_end = self.random.choice([0, 1, 2, 4])
        self._due: list[tuple[int, int, str, Input]] = []
        self._made = 0

    @property
    def now(self) -> float:
        """The time in seconds."""
        return self.now_ms / 1000

    def next(self, outputs: list[Output], state: Any) -> Step | None:
        """Look at what the core wants done, and return the next input; None at the end."""
        for output in outputs:
            self.see(output)
        self._left -= 1
        if self._left < 0:
            return None
        if state[0] == "ended":
            if not self._after_end:
                return None
            self._after_end -= 1
        made = self._take()
        return [self.now, *made]

    def _take(self) -> Input:
        patience = 0.9 if self._due and self._due[0][0] <= self.now_ms else 0.6
        if self._due and self.chance(patience):
            at_ms = self._due[0][0]
            if at_ms > self.now_ms + 400 and self.chance(0.5):
                self.now_ms += self.random.choice([200, 200, 400])
                return self.tick()
            self.now_ms = max(self.now_ms, at_ms)
            return heapq.heappop(self._due)[3]
        return self.act()

    # Drawing

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def one(self, choices: Sequence[_T]) -> _T:
        return self.random.choice(choices)

    def weighted(self, choices: Sequence[tuple[int, _T]]) -> _T:
        return self.random.choices([choice for _, choice in choices], [weight for weight, _ in choices])[0]

    def number(self) -> int:
        """Return a number that was not given before."""
        self._made += 1
        return self._made

    # What is due

    def later(self, delay_ms: int, *made: Any, tag: str = "") -> None:
        """Have an input given after a while."""
        heapq.heappush(self._due, (self.now_ms + delay_ms, self.number(), tag, list(made)))

    def forget(self, tag: str) -> bool:
        """Forget the inputs with this tag; returns whether there were any."""
        kept = [each for each in self._due if each[2] != tag]
        found = len(kept) < len(self._due)
        self._due = kept
        heapq.heapify(self._due)
        return found

    # Of each world

    def see(self, output: Output) -> None:
        """React to something that the core wants done."""
        raise NotImplementedError

    def act(self) -> Input:
        """Return an input that nothing has asked for."""
        raise NotImplementedError

    def tick(self) -> Input:
        """Return the input that says that time has passed."""
        raise NotImplementedError
