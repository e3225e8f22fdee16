from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos.picture import Picture, differences

RIGHT = Picture(
    at_seconds=100.0,
    settled=frozenset({"a", "b", "c"}),
    known=frozenset({"a", "b", "c", "new", "over"}),
    holders={"a": "w1", "b": "w1", "c": "w2", "new": "w2"},
    workers=frozenset({"w1", "w2"}),
    gone=frozenset({"w0"}),
    listed={"a": "w1", "b": "w1", "c": "w2", "new": "w2"},
    counted={"w1": 2, "w2": 2},
)


def _said(picture: Picture) -> str:
    return "; ".join(breach.what for breach in differences(picture))


def test_a_picture_that_is_right_has_no_differences() -> None:
    assert _said(RIGHT) == ""


def test_calls_that_come_and_go_may_or_may_not_be_there() -> None:
    listed = {"a": "w1", "b": "w1", "c": "w2", "over": "w1"}
    assert _said(replace(RIGHT, listed=listed, counted={"w1": 3, "w2": 1})) == ""
    assert _said(replace(RIGHT, listed=listed, counted={"w1": 2, "w2": 2})) == ""


def test_a_worker_that_has_just_gone_may_still_be_there() -> None:
    assert _said(replace(RIGHT, counted={"w1": 2, "w2": 2, "w3": 5})) == ""


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (replace(RIGHT, listed={"a": "w1", "c": "w2"}), "call b is up, and not in GET /calls"),
        (replace(RIGHT, listed={**RIGHT.listed, "old": "w1"}), "call old is over, and still in GET /calls"),
        (replace(RIGHT, holders={**RIGHT.holders, "a": "w2"}), "call a is at w2, and in GET /calls at w1"),
        (replace(RIGHT, counted={"w1": 2}), "worker w2 is well, and not in GET /workers"),
        (replace(RIGHT, counted={**RIGHT.counted, "w0": 1}), "worker w0 is gone, and still in GET /workers"),
        (replace(RIGHT, counted={"w1": 1, "w2": 2}), "worker w1 has 2 calls or up to 4, and 1 in GET /workers"),
        (replace(RIGHT, counted={"w1": 5, "w2": 2}), "worker w1 has 2 calls or up to 4, and 5 in GET /workers"),
    ],
)
def test_difference_is_named(wrong: Picture, said: str) -> None:
    assert said in _said(wrong)
