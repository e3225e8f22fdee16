from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.alignment import FORBIDDEN, Alignment, align


def _same(one: str, other: str) -> bool:
    return one == other


def _one(_: str) -> float:
    return 1.0


def _words(
    left: str,
    right: str,
    *,
    left_cost: Callable[[str], float] = _one,
    right_cost: Callable[[str], float] = _one,
    longest_run: int | None = None,
) -> Alignment[str, str] | None:
    return align(
        left.split(),
        right.split(),
        _same,
        left_cost=left_cost,
        right_cost=right_cost,
        longest_run=longest_run,
    )


def test_equal_sequences_cost_nothing() -> None:
    found = _words("a b c", "a b c")
    assert found is not None
    assert (found.cost, found.left, found.right) == (0, (), ())
    assert found.pairs == ((0, 0), (1, 1), (2, 2))


@pytest.mark.parametrize(
    ("left", "right", "cost", "over_left", "over_right"),
    [
        ("a b c", "a c", 1, (1,), ()),
        ("a c", "a b c", 1, (), (1,)),
        ("a b c d", "a x c", 3, (1, 3), (1,)),
        ("", "a b", 2, (), (0, 1)),
        ("a b", "b a", 2, (0,), (1,)),
    ],
)
def test_element_without_counterpart_is_named(
    left: str, right: str, cost: float, over_left: tuple[int, ...], over_right: tuple[int, ...]
) -> None:
    found = _words(left, right)
    assert found is not None
    assert (found.cost, sorted(found.left), sorted(found.right)) in [
        (cost, sorted(over_left), sorted(over_right)),
        (cost, sorted(over_right), sorted(over_left)),  # `a b` and `b a` can be matched in two ways
    ]


def test_required_element_needs_a_counterpart() -> None:
    assert _words("a b", "a", left_cost=lambda _: FORBIDDEN) is None
    assert _words("a", "a b", left_cost=lambda _: FORBIDDEN) is not None


def test_optional_element_costs_nothing() -> None:
    def cost(word: str) -> float:
        return 0.0 if word == "~" else 1.0

    found = _words("a b", "~ a ~ ~ b", right_cost=cost, longest_run=0)
    assert found is not None
    assert (found.cost, found.right) == (0, (0, 2, 3))


@pytest.mark.parametrize(("right", "possible"), [("a c d", True), ("a d", False), ("a x b c d", True)])
def test_a_run_that_is_too_long_is_no_match(right: str, possible: bool) -> None:
    assert (_words("a b c d", right, longest_run=1) is not None) is possible


def test_two_short_runs_are_not_one_long_one() -> None:
    found = _words("a b c d e", "a c e", longest_run=1)
    assert found is not None
    assert found.left == (1, 3)


@given(st.text("abc", max_size=8), st.text("abc", max_size=8))
def test_the_cost_is_the_distance_by_insertions_and_deletions(left: str, right: str) -> None:
    found = align(left, right, _same, left_cost=_one, right_cost=_one)
    assert found is not None
    common = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i, one in enumerate(left):
        for j, other in enumerate(right):
            longest = max(common[i][j + 1], common[i + 1][j])
            common[i + 1][j + 1] = common[i][j] + 1 if one == other else longest
    assert found.cost == len(left) + len(right) - 2 * common[-1][-1]
    assert len(found.pairs) == common[-1][-1]
    assert all(left[i] == right[j] for i, j in found.pairs)
