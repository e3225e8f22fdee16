"""What a run comes to: CPU, latency, memory, and whether all that was said has arrived."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.service import Run

# AVR Core is closed with this code when every worker is full.
NO_CAPACITY = 1013


@dataclass(frozen=True, slots=True)
class Spread:
    """Several measurements of one thing."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Latency:
    """Of many frames, in milliseconds."""

    p50_ms: float
    p99_ms: float
    most_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency | None:
        """None if there is none."""
        if not seconds:
            return None
        ordered = sorted(seconds)
        p50, p99 = (1000 * ordered[int(len(ordered) * share)] for share in (0.50, 0.99))
        return cls(p50, p99, 1000 * ordered[-1])


@dataclass(frozen=True, slots=True)
class Result:
    """Of one run.

    Attributes:
        cpu_ms: of dispatchers and workers together, per call-second.
        dispatchers_ms, workers_ms: their parts, medians.
        busiest: CPUs that the busiest process used, median.
        peers_ms: what the simulated ends used, per call-second, median.
        others: CPUs that were used by all that has nothing to do with it, median.
        into: frame sent to the dispatcher → `append` at the API.
        out: delta sent by the API → its first frame at AVR Core.
        idle_worker_mb, idle_worker_own_mb: resident memory of a worker without a call, and what is its alone.
        call_kb: memory that the calls added, each.
        intact: calls whose sound came through whole, both ways.
        problems: what else was not as it should be.
        refusal: `init` → 1013, of the calls that there was no room for.
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
        """Of the CPU time."""
        return self.dispatchers_ms / (self.dispatchers_ms + self.workers_ms)


def of(run: Run) -> Result:
    """What a run comes to."""
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
            problems.append(f"call {call['call']} never came to a session: {call['errors']}")
            continue
        into += _between(call["said_seconds"], session["arrived_seconds"], measured)
        out += _between(session["sent_seconds"], call["heard_seconds"], measured)
        # What was under way when the caller hung up is nobody's loss: a second's worth at most.
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
        problems.append(f"the service did not take {stalls} frames in time")

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
    """Seconds from one to the other of what was sent while it was measured; what is on its way yet counts not."""
    began, ended = measured
    pairs = zip(sent, arrived, strict=False)
    return [there - here for here, there in pairs if began <= here < ended]
