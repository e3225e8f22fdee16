from __future__ import annotations

from simulator.realtime.counters import MAX_SECONDS, Counters


def test_counts_are_kept_by_the_second() -> None:
    now = 10.2
    counters = Counters(lambda: now)
    counters.count("connections")
    now = 10.9
    counters.count("connections")
    counters.count("input_tokens", 40)
    now = 12.0
    counters.count("connections")
    assert counters.report() == {
        "totals": {"connections": 3, "input_tokens": 40},
        "seconds": [
            {"at_seconds": 10, "connections": 2, "input_tokens": 40},
            {"at_seconds": 12, "connections": 1},
        ],
    }


def test_old_seconds_are_forgotten_and_totals_stay() -> None:
    now = 0.0
    counters = Counters(lambda: now)
    for _ in range(MAX_SECONDS + 5):
        counters.count("connections")
        now += 1.0
    seconds = counters.report()["seconds"]
    assert isinstance(seconds, list)
    assert len(seconds) == MAX_SECONDS
    assert counters.totals["connections"] == MAX_SECONDS + 5
