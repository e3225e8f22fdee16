"""Metrics with a label whose values another party chooses: a model, a tool, an error code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from common.observe.label_values import OTHER, is_fit
from common.observe.metrics.series import counter, former_values

MAX_LABEL_VALUES: Final = 40
"""Maximum number of values of a label that another party chooses (a model, a tool); others count as `other`."""

T = TypeVar("T")


class Bounded(Generic[T]):
    """The objects for the values of a label that another party chooses; only a bounded number of values has one.

    Values of earlier processes of the slot count, because their series stay in the slot's file.
    """

    def __init__(self, metric: str, label: str, make: Callable[[str], T]) -> None:
        self._make = make
        self._made: dict[str, T] = {value: make(value) for value in sorted(former_values(metric, label))}
        self._expected: set[str] = set()

    def expect(self, *expected: str, counted: bool = False) -> None:
        """Create the objects of values that are known in advance, in any form.

        Args:
            expected: the values.
            counted: they count for the bound; `other` never does.
        """
        self._expected.update(() if counted else expected)
        if OTHER in expected:
            self._expected.add(OTHER)
        for value in {*expected} - self._made.keys():
            self._made[value] = self._make(value)

    def of(self, value: str) -> T:
        """Return the object of `value`, or of `other`.

        `other` stands for values that are not a word, exceed the bound, or may identify a call or a secret.
        """
        if value == OTHER:
            self.expect(OTHER)
        made = self._made.get(value)
        if made is None:
            full = len(self._made) >= MAX_LABEL_VALUES + len(self._expected)
            if full or not is_fit(value):
                self.expect(OTHER)
                return self._made[OTHER]
            made = self._made[value] = self._make(value)
        return made


class BoundedCounter:
    """A counter with one label whose values another party chooses; a bounded number of them has a series."""

    def __init__(self, name: str, help_text: str, label: str) -> None:
        self._children = Bounded(name, label, counter(name, help_text, label).labels)
        self._children.expect(OTHER)

    def expect(self, *expected: str) -> None:
        """Create the series of values that are known in advance; they do not count for the bound."""
        self._children.expect(*expected)

    def inc(self, value: str, amount: float = 1) -> None:
        """Count for `value`, or for `other` if it is not a word, exceeds the bound, or may identify a call."""
        self._children.of(value).inc(amount)
