"""The result of a run: CPU, latency, memory, and whether all audio has arrived."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.service import Run

# The close code of AVR Core's connection when all workers are full.
NO_CAPACITY = 1013


@dataclass(frozen=True, slots=True)
class Spread:
    """The spread of several measurements."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Latency:
    """The latency of many frames, in milliseconds."""

    p50_ms: float
    p99_ms: float
    most_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency | None:
        """Return the latency; None without values."""
        if not seconds:
            return None
        ordered = sorted(seconds)
        p50, p99 = (1000 * ordered[int(len(ordered) * share)] for share in (0.50, 0.99))
        return cls(p50, p99, 1000 * ordered[-1])


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one run.

    Attributes:
        cpu_ms: CPU time of dispatchers and workers together, per call-second.
        dispatchers_ms, workers_ms: their shares, as medians.
        busiest: CPUs used by the busiest process, as a median.
        peers_ms: CPU time of the simulated ends, per call-second, as a median.
        others: CPUs used by unrelated processes, as a median.
        into: time from a frame sent to the dispatcher to its `append` at the API.
        out: time from a delta sent by the API to its first frame at AVR Core.
        idle_worker_mb, idle_worker_own_mb: resident memory of a worker without a call, and its unshared part.
        call_kb: memory added by each call.
        intact: calls whose audio arrived complete in both directions.
        problems: other deviations.
        refusal: time from `init` to 1013, for calls beyond the capacity.
    """

    calls: int
    cpu_ms: Spread
    dispatchers_ms: float
    workers_ms: float
    busiest: float
    peers_ms: float
    others: float
    into: Latency | None
    out: Latency | None
    idle_worker_mb: float
    idle_worker_own_mb: float
    call_kb: float
    intact: int
    problems: tuple[str, ...]
    refusal: Latency | None = None

    @property
    def dispatchers_share(self) -> float:
        """Return the dispatchers' share of the CPU time."""
        return self.dispatchers_ms / (self.dispatchers_ms + self.workers_ms)


def of(run: Run) -> Result:
    """Return the result of a run."""
    sessions = {session["call"]: session for session in run.model}
    into: list[float] = []
    out: list[float] = []
    intact = 0
    refusals: list[float] = []
    problems: list[str] = []
    measured = (run.began_seconds, run.ended_seconds)
    for call in run.core["calls"]:
        session = sessions.get(call["call"])
        if session is None and call["close_code"] == NO_CAPACITY:
            refusals.append(call["closed_seconds"] - call["init_seconds"])
            continue
        if session is None:
            problems.append(f"call {call['call']} never got a session: {call['errors']}")
            continue
        into += _between(call["said_seconds"], session["arrived_seconds"], measured)
        out += _between(session["sent_seconds"], call["heard_seconds"], measured)
        # Audio under way when the caller hung up does not count: a second's worth at most.
        missing = call["frames"] - session["frames"]
        whole = not call["broken"] and not session["broken"] and 0 <= missing <= 50
        if whole and call["replies"] and not call["errors"] and call["close_code"] == 1000:
            intact += 1
        else:
            problems.append(
                f"call {call['call']}: {call['broken']} of {call['heard_frames']} frames broken on the way back, "
                f"{session['broken']} on the way in, {missing} missing, closed with {call['close_code']}, "
                f"errors {call['errors'][:3]}"
            )
    if len(refusals) != run.surplus:
        problems.append(f"{len(refusals)} calls were refused, of {run.surplus} that there was no room for")
    stalls = sum(call["stalls"] for call in run.core["calls"])
    if stalls:
        problems.append(f"the service did not read {stalls} frames in time")

    def per_call(attribute: str) -> list[float]:
        return [1000 * getattr(window, attribute) / window.seconds / run.calls for window in run.windows]

    dispatchers, workers = per_call("dispatchers"), per_call("workers")
    added_bytes = sum(use.uss_bytes for use in run.busy) - sum(use.uss_bytes for use in run.idle)
    return Result(
        calls=run.calls,
        cpu_ms=Spread.of([d + w for d, w in zip(dispatchers, workers, strict=True)]),
        dispatchers_ms=statistics.median(dispatchers),
        workers_ms=statistics.median(workers),
        busiest=statistics.median(window.busiest / window.seconds for window in run.windows),
        peers_ms=statistics.median(
            core + model for core, model in zip(per_call("core"), per_call("model"), strict=True)
        ),
        others=statistics.median(window.others / window.seconds for window in run.windows),
        into=Latency.of(into),
        out=Latency.of(out),
        idle_worker_mb=run.idle[1].rss_bytes / run.workers / 1e6,
        idle_worker_own_mb=run.idle[1].uss_bytes / run.workers / 1e6,
        call_kb=added_bytes / run.calls / 1e3,
        intact=intact,
        problems=tuple(problems),
        refusal=Latency.of(refusals),
    )


def _between(sent: list[float], arrived: list[float], measured: tuple[float, float]) -> list[float]:
    """Return seconds from sending to arrival of data sent in the window; data still on its way does not count."""
    began, ended = measured
    pairs = zip(sent, arrived, strict=False)
    return [there - here for here, there in pairs if began <= here < ended]
