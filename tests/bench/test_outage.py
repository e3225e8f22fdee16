"""The outage is measured, and its figures are right."""

from __future__ import annotations

import os

import pytest

from tests.bench import outage
from tests.bench.outage import OutageCaller, Outcome, Rates, Served
from tests.redis_process import find_redis_server

_SECONDS = [
    {"at_seconds": 9, "connections": 50},
    {"at_seconds": 10, "connections": 3, "responses": 4, "input_tokens": 100},
    {"at_seconds": 12, "connections": 1, "input_tokens": 20},
    {"at_seconds": 14, "responses": 9},
]


def test_rates_are_means_of_whole_seconds() -> None:
    assert Rates.of(_SECONDS, 9.4, 14.2) == Rates(4, 1.0, 3, 1.0, 4, 120)


def test_rates_of_an_idle_time_are_zero() -> None:
    assert Rates.of([], 9.4, 14.2) == Rates(4, 0.0, 0, 0.0, 0, 0)


def test_table_tells_how_soon_callers_are_served() -> None:
    rates = Rates.of(_SECONDS, 9.4, 14.2)
    served = Served(103, tuple(float(number) for number in range(1, 101)))
    table = Outcome(200, 60.0, rates, rates, rates, served, Served(0, ()), 3).table()
    assert "200 calls, the API down for 60 s" in table
    assert "100 of 103 who waited, after p50 50.0 s, p99 99.0 s, most 100.0 s: their session was cut" in table
    assert "0 of 0 who waited, after p50 -, p99 -, most -: their session stayed" in table
    assert "3 calls ended by the service" in table


def test_callers_are_served_by_the_first_answer_afterwards() -> None:
    answers: tuple[list[tuple[float, float]], ...] = (
        [(99.0, 1.0), (103.0, 8.0), (110.0, 1.0)],
        [(101.0, 2.0)],
        [],
    )
    callers = [OutageCaller(number, answers=each) for number, each in enumerate(answers)]
    assert Served.of(callers, 100.0) == Served(3, (1.0, 3.0))


@pytest.mark.skipif(find_redis_server() is None and not os.environ.get("CI"), reason="there is no redis-server")
@pytest.mark.timeout(90)
async def test_few_calls_are_measured_through_a_short_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "AFTER_SECONDS", 10.0)
    # Long enough for retries in the whole seconds that are counted.
    outcome = await outage.measure(calls=4, outage_seconds=5.0, usual_seconds=8.0)
    assert outcome.usual.input_tokens > 0
    assert outcome.down.connections > 0
    assert len(outcome.dropped.seconds) <= outcome.dropped.waiting <= 2
    assert len(outcome.kept.seconds) <= outcome.kept.waiting <= 2
    assert outcome.lost == 0
