"""A comparison of two sequences that should be equal, in order: it finds the elements without a counterpart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

A = TypeVar("A")
B = TypeVar("B")

FORBIDDEN = float("inf")
"""Cost of an element that must have a counterpart."""


@dataclass(frozen=True, slots=True)
class Alignment(Generic[A, B]):
    """The cheapest match.

    Attributes:
        cost: cost of the unmatched elements of both sides.
        left, right: unmatched elements, as indices into each sequence.
        pairs: indices of the matched elements.
    """

    cost: float
    left: tuple[int, ...]
    right: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]


def align(
    left: Sequence[A],
    right: Sequence[B],
    matches: Callable[[A, B], bool],
    *,
    left_cost: Callable[[A], float],
    right_cost: Callable[[B], float],
    longest_run: int | None = None,
) -> Alignment[A, B] | None:
    """Match two sequences in order at the least cost; return None if a required element has no counterpart.

    Args:
        matches: whether two elements are equal.
        left_cost: cost of an unmatched element: 0 if it is optional, `FORBIDDEN` if it is required.
        right_cost: the same for the other side.
        longest_run: maximum number of unmatched elements with a cost between two matches, on either side.
    """
    table = _Table(left, right, matches, left_cost=left_cost, right_cost=right_cost, longest_run=longest_run)
    return table.trace()


_State = tuple[int, int, int, int]
"""Positions in `left` and `right`, and the unmatched elements on each side since the last match."""


class _Table(Generic[A, B]):
    """The cost of each reachable state, and its predecessor."""

    def __init__(
        self,
        left: Sequence[A],
        right: Sequence[B],
        matches: Callable[[A, B], bool],
        *,
        left_cost: Callable[[A], float],
        right_cost: Callable[[B], float],
        longest_run: int | None,
    ) -> None:
        self._end = (len(left), len(right))
        self._longest_run = longest_run
        self._cost: dict[_State, float] = {(0, 0, 0, 0): 0.0}
        self._from: dict[_State, _State] = {}
        left_costs = [left_cost(each) for each in left]
        right_costs = [right_cost(each) for each in right]
        # In order of i, then j, then runs, because each step leads to a later state.
        layers: list[dict[int, set[tuple[int, int]]]] = [{} for _ in range(len(left) + 1)]
        layers[0][0] = {(0, 0)}
        for i in range(len(left) + 1):
            for j in range(len(right) + 1):
                for runs in sorted(layers[i].get(j, ())):
                    state = (i, j, *runs)
                    if i < len(left) and j < len(right) and matches(left[i], right[j]):
                        self._reach(layers, state, (i + 1, j + 1, 0, 0), 0.0)
                    if i < len(left):
                        self._leave(layers, state, left_costs[i], on_left=True)
                    if j < len(right):
                        self._leave(layers, state, right_costs[j], on_left=False)

    def trace(self) -> Alignment[A, B] | None:
        """Return the cheapest way to the end."""
        ends = [state for state in self._cost if state[:2] == self._end]
        if not ends:
            return None
        state = min(ends, key=self._cost.__getitem__)
        cost = self._cost[state]
        left, right, pairs = [], [], []
        while state in self._from:
            before = self._from[state]
            if state[0] > before[0] and state[1] > before[1]:
                pairs.append((before[0], before[1]))
            elif state[0] > before[0]:
                left.append(before[0])
            else:
                right.append(before[1])
            state = before
        return Alignment(cost, tuple(reversed(left)), tuple(reversed(right)), tuple(reversed(pairs)))

    def _leave(
        self, layers: list[dict[int, set[tuple[int, int]]]], state: _State, cost: float, *, on_left: bool
    ) -> None:
        i, j, left_run, right_run = state
        if cost == FORBIDDEN:
            return
        counts = self._longest_run is not None and cost > 0
        to = (i + 1, j, left_run + counts, right_run) if on_left else (i, j + 1, left_run, right_run + counts)
        if self._longest_run is None or max(to[2], to[3]) <= self._longest_run:
            self._reach(layers, state, to, cost)

    def _reach(
        self, layers: list[dict[int, set[tuple[int, int]]]], state: _State, to: _State, cost: float
    ) -> None:
        total = self._cost[state] + cost
        if total < self._cost.get(to, FORBIDDEN):
            self._cost[to] = total
            self._from[to] = state
            layers[to[0]].setdefault(to[1], set()).add(to[2:])
