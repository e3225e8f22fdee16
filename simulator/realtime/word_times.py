"""The times of a reply's words within its audio."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class WordTimes:
    """The end of each word in milliseconds; a word begins where the word before it ends."""

    ends_ms: tuple[int, ...] = ()

    @classmethod
    def even(cls, count: int, word_ms: int) -> WordTimes:
        """Return the times of words of one length."""
        return cls(tuple(range(word_ms, (count + 1) * word_ms, word_ms)))

    @property
    def total_ms(self) -> int:
        """Return the length of all words."""
        return self.ends_ms[-1] if self.ends_ms else 0

    def begun(self, until_ms: int) -> int:
        """Count the words that begin before this time."""
        return min(len(self.ends_ms), 1 + bisect_left(self.ends_ms, until_ms)) if until_ms > 0 else 0

    def ended(self, until_ms: int) -> int:
        """Count the words that have ended at this time."""
        return bisect_right(self.ends_ms, until_ms)


NO_WORDS: Final = WordTimes()
