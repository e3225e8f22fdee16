from __future__ import annotations

from worker.session.caller.digits import MAX_DIGITS, DigitEntry


def _entry() -> DigitEntry:
    return DigitEntry(timeout_seconds=1.5)


def test_digits_are_one_entry_until_the_hash_key() -> None:
    entry = _entry()
    assert [entry.press(digit, now) for now, digit in enumerate("123")] == [None] * 3
    assert entry.is_open
    assert entry.press("#", 9.0) == "123"
    assert not entry.is_open


def test_digits_are_one_entry_until_no_key_follows() -> None:
    entry = _entry()
    entry.press("4", 10.0)
    entry.press("2", 11.4)
    assert entry.tick(12.8) is None  # the time counts from the last key
    assert entry.tick(12.9) == "42"
    assert entry.tick(20.0) is None


def test_a_hash_key_alone_is_an_entry() -> None:
    assert _entry().press("#", 0.0) == "#"


def test_star_and_letters_are_digits_like_others() -> None:
    entry = _entry()
    for key in "*1A":
        entry.press(key, 0.0)
    assert entry.press("#", 0.0) == "*1A"


def test_an_entry_has_a_greatest_length() -> None:
    entry = _entry()
    entries = [entry.press("7", 0.0) for _ in range(MAX_DIGITS)]
    assert entries[-1] == "7" * MAX_DIGITS
    assert entries[:-1] == [None] * (MAX_DIGITS - 1)
    assert not entry.is_open
