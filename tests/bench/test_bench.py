"""That the benchmarks run, and would notice if sound was lost."""

from __future__ import annotations

import pytest

from tests.bench import pins, results
from tests.bench.__main__ import Bench
from tests.bench.reference import reference_us
from tests.bench.results import Latency, Spread
from tests.bench.service import Run, Use, Window

CALLS = 3


async def test_a_run_of_a_few_calls_over_tls() -> None:
    bench = Bench(windows=1, window_seconds=2.0, warm_up_seconds=0.0)
    result = await bench.calls("TLS to the API", CALLS, audio_format="pcmu", tls=True)
    assert result.intact == CALLS, result.problems
    assert result.problems == ()
    assert result.into is not None
    assert result.out is not None
    assert result.cpu_ms.median > 0
    assert result.idle_worker_own_mb > 1
    (row,) = (line for line in bench.table().splitlines() if line.startswith("TLS"))
    assert row.split()[4:5] == [str(CALLS)]


async def test_surplus_calls_are_refused_and_the_others_complete() -> None:
    bench = Bench(windows=1, window_seconds=1.0, warm_up_seconds=0.0)
    # A window that is long enough for a whole reply.
    result = await bench.full(4, surplus=4, window_seconds=2.0)
    assert result.problems == ()
    assert result.intact == 4
    assert result.refusal is not None
    assert 0 < result.refusal.p50_ms <= result.refusal.most_ms


async def test_pins_are_counted() -> None:
    made = await pins.measure(0.2)
    assert made.per_second > 0
    assert made.redis_us > 0


def test_the_reference_takes_time() -> None:
    assert 1 < reference_us() < 100_000


def of_one_call(*, frames: int = 100, broken: int = 0, arrived: int = 100, close_code: int = 1000) -> Run:
    call = {
        "call": 0,
        "init_seconds": 0.0,
        "said_seconds": [10.0, 11.0, 12.0],
        "heard_seconds": [10.5],
        "frames": frames,
        "heard_frames": 161,
        "replies": 1,
        "broken": broken,
        "stalls": 0,
        "errors": [],
        "close_code": close_code,
        "closed_seconds": 13.0,
    }
    session = {
        "call": 0,
        "configured_seconds": 1.0,
        "arrived_seconds": [10.001, 11.003],
        "sent_seconds": [10.4, 10.6],
        "frames": arrived,
        "appends": arrived,
        "broken": 0,
    }
    return Run(
        calls=1,
        windows=[
            Window(2.0, 0.002, 0.004, 0.004, 0.0, 0.001, 0.001, 0.2),
            Window(2.0, 0.004, 0.006, 0.006, 0.0, 0.0, 0.0, 0.4),
        ],
        idle=(Use(), Use(0, 2_000_000, 1_000_000)),
        busy=(Use(), Use(0, 2_500_000, 1_250_000)),
        workers=1,
        began_seconds=10.0,
        ended_seconds=11.5,
        core={"calls": [call], "late_p99_seconds": 0.0},
        model=[session],
    )


def test_refusals_are_timed_and_one_too_many_is_a_problem() -> None:
    run = of_one_call()
    refused = run.core["calls"][0] | {
        "call": 1,
        "init_seconds": 11.0,
        "close_code": 1013,
        "closed_seconds": 11.25,
        "errors": ["error: no capacity"],
    }
    run.core["calls"].append(refused)
    run.surplus = 1
    result = results.of(run)
    assert latency(result.refusal) == pytest.approx([250.0, 250.0, 250.0])
    assert (result.intact, result.problems) == (1, ())
    run.surplus = 0
    assert results.of(run).problems == ("1 calls were refused, of 0 that there was no room for",)


def latency(known: Latency | None) -> list[float]:
    assert known is not None
    return [known.p50_ms, known.p99_ms, known.most_ms]


def test_run_reports_its_result() -> None:
    result = results.of(of_one_call())
    assert result.cpu_ms == Spread(4.0, 3.0, 5.0)
    assert (result.dispatchers_ms, result.workers_ms) == (1.5, 2.5)
    assert result.dispatchers_share == 0.375
    assert result.others == pytest.approx(0.15)
    assert latency(result.into) == pytest.approx([3.0, 3.0, 3.0])
    assert latency(result.out) == pytest.approx([100.0, 100.0, 100.0])
    assert (result.idle_worker_mb, result.idle_worker_own_mb, result.call_kb) == (2.0, 1.0, 250.0)
    assert (result.intact, result.problems) == (1, ())


@pytest.mark.parametrize(
    "run",
    [of_one_call(broken=1), of_one_call(arrived=49), of_one_call(arrived=101), of_one_call(close_code=1011)],
    ids=["broken", "lost", "doubled", "ended by an error"],
)
def test_incomplete_call_does_not_count(run: Run) -> None:
    result = results.of(run)
    assert result.intact == 0
    assert len(result.problems) == 1
