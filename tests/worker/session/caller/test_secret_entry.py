from __future__ import annotations

import pytest

from common.errors import IllegalTransition
from worker.session.caller.secret_entry import (
    ENTRY_TRANSITIONS,
    NO_SESSION,
    NOT_MUTED,
    NOT_SAID,
    EntryEvent,
    EntryLimits,
    EntryState,
    SecretEntry,
)
from worker.tools.entries import Entry, EntryEnding, KeyRequest

LIMITS = EntryLimits(waiting_seconds=10.0, muting_seconds=2.0, prompting_seconds=30.0, entering_seconds=20.0)


def _asked(count: int = 4, timeout_seconds: float = 5.0) -> SecretEntry:
    entry = SecretEntry(LIMITS)
    entry.ask(7, KeyRequest("Your PIN, please", count, timeout_seconds), 100.0)
    return entry


def _entering(count: int = 4, timeout_seconds: float = 5.0) -> SecretEntry:
    entry = _asked(count, timeout_seconds)
    entry.live(100.0)
    entry.muted(100.0)
    entry.prompt_over(110.0)
    return entry


def test_entry_ends_with_the_last_of_its_keys() -> None:
    entry = _entering()
    assert [entry.press(digit, 111.0) for digit in "258"] == [None] * 3
    assert entry.press("0", 111.0) == Entry(EntryEnding.COUNT, "2580")
    assert entry.is_free


def test_entry_ends_with_the_hash_key_which_is_no_part() -> None:
    entry = _entering()
    entry.press("2", 111.0)
    assert entry.press("#", 111.0) == Entry(EntryEnding.END_KEY, "2")


def test_star_is_a_key_like_others() -> None:
    assert _entering(1).press("*", 111.0) == Entry(EntryEnding.COUNT, "*")


def test_time_counts_from_the_end_of_the_prompt() -> None:
    entry = _asked(timeout_seconds=5.0)
    entry.live(100.0)
    entry.muted(100.0)
    assert entry.tick(120.0) is None
    entry.prompt_over(120.0)
    assert entry.tick(124.9) is None
    assert entry.tick(125.0) == Entry(EntryEnding.TIMEOUT, "")


def test_each_key_gives_time_for_the_next() -> None:
    entry = _entering(timeout_seconds=5.0)
    entry.press("2", 114.0)
    assert entry.tick(118.9) is None
    assert entry.tick(119.0) == Entry(EntryEnding.TIMEOUT, "2")


def test_entry_is_bounded_though_keys_go_on() -> None:
    entry = _entering(64, timeout_seconds=5.0)
    for second in range(19):
        entry.press("1", 110.0 + second)
        assert entry.tick(110.0 + second) is None
    assert entry.tick(130.0) == Entry(EntryEnding.TIMEOUT, "1" * 19)


def test_request_without_a_session_is_given_up() -> None:
    entry = _asked()
    assert entry.tick(109.9) is None
    assert entry.tick(110.0) == Entry(EntryEnding.LOST, message=NO_SESSION)


def test_request_without_a_mute_is_given_up() -> None:
    entry = _asked()
    entry.live(100.0)
    assert entry.tick(102.0) == Entry(EntryEnding.LOST, message=NOT_MUTED)


def test_request_whose_prompt_is_not_said_is_given_up() -> None:
    entry = _asked()
    entry.live(100.0)
    entry.muted(101.0)
    assert entry.tick(131.0) == Entry(EntryEnding.LOST, message=NOT_SAID)


def test_lost_entry_has_no_digits() -> None:
    entry = _entering()
    entry.press("2", 111.0)
    assert entry.end(EntryEnding.LOST, "gone").digits == ""


def test_digits_are_not_shown() -> None:
    entry = _entering(2)
    entry.press("2", 111.0)
    ended = entry.press("9", 111.0)
    assert ended is not None
    assert "29" not in repr(ended)


def test_next_entry_has_no_keys_of_the_one_before() -> None:
    entry = _entering(4)
    entry.press("2", 111.0)
    entry.end(EntryEnding.LOST)
    entry.ask(8, KeyRequest("", 1, 5.0), 112.0)
    entry.live(112.0)
    entry.muted(112.0)
    entry.prompt_over(112.0)
    assert entry.press("5", 113.0) == Entry(EntryEnding.COUNT, "5")


def test_second_request_is_illegal_here() -> None:
    with pytest.raises(IllegalTransition):
        _asked().ask(8, KeyRequest("", 1, 5.0), 100.0)


def test_each_state_but_none_can_end() -> None:
    ending = {state for state, event in ENTRY_TRANSITIONS if event is EntryEvent.ENDED}
    assert ending == set(EntryState) - {EntryState.NONE}
