"""All metrics of the service, and `/metrics`.

A role creates only its own metrics, once, with `dispatcher()`, `worker()` or `supervisor()`. No gauge is exported
by two roles. All series whose labels are known exist from then on, at 0. The children of labelled metrics are
attributes, so that the audio path needs no look-up.

In a cluster a process exports its own values. In `serve` all processes keep their values in files under one
directory (`share`). Any dispatcher exports the values of all. Counters and histograms of a dead process stay, its
gauges disappear. `share` must be called before the first metric is created.

No label can identify a call. Most labels have a fixed set of values. Other labels have values that another party
chooses: a model, a tool, an error code. There a value that looks like a uuid or a number is counted as `other`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Generic, Literal, TypeVar

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, multiprocess, values

from common.observe import redaction
from common.observe.record_outcome import RecordOutcome
from common.observe.recording_drop import RecordingDrop
from common.observe.refusals import Refusal
from common.observe.shared_values import SharedValues, label_values
from common.observe.tool_outcome import ToolOutcome
from common.observe.value_file import value_class

CONTENT_TYPE: Final = prometheus_client.CONTENT_TYPE_LATEST

MAX_LABEL_VALUES: Final = 40
"""Maximum number of values of a label that another party chooses (a model, a tool); others count as `other`."""

_TURN_SECONDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
_GREETING_SECONDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 15.0, 30.0)
_CONNECT_SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
_SESSION_SECONDS = (10, 30, 60, 120, 180, 300, 600, 900, 1200, 1800, 2700, 3600)
_RELAY_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_TOOL_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 20.0, 30.0, 60.0)
_RECOVERY_SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0)
_WAIT_SECONDS = (0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0, 35.0)
_LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)

_PREFIX: Final = "avr_sts_"
OTHER: Final = "other"
"""The label value for all values that have no series of their own."""

_LABEL_VALUE = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
_UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)
_DATE = re.compile(r"20\d\d-[01]\d-[0-3]\d")
_NUMBER_DIGITS: Final = 7
"""A value with this many digits may be a telephone number. The digits of a model's date do not count."""

T = TypeVar("T")

_registry = CollectorRegistry()
_rendered = _registry
_shared_directory: Path | None = None
_former_values: dict[tuple[str, str], set[str]] = {}
"""Values that labels had in earlier processes of this slot, by metric and label."""

# `share` chooses the class of values, not a variable that happens to be in the environment.
values.ValueClass = values.MutexValue
# The creation times of series are not needed, and would double the number of series.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # untyped in the library


def share(directory: Path, identity: str) -> None:
    """Keep this process's values in files under `directory`, which `render` sums up.

    Args:
        directory: one for all processes of a `serve`.
        identity: of the slot that the process fills, not of the process: a restarted process continues the
            counters of its predecessor, so that restarts do not increase the number of files.
    """
    global _shared_directory, _former_values, _rendered  # noqa: PLW0603 - as global as the library's own registry
    values.ValueClass = value_class(directory, identity)
    _shared_directory = directory
    _former_values = label_values(directory, identity)
    _rendered = CollectorRegistry()
    _rendered.register(SharedValues(directory))


def mark_process_dead(identity: str) -> None:
    """Remove the gauges of a process that ended; its counters stay."""
    if _shared_directory is not None:
        multiprocess.mark_process_dead(identity, str(_shared_directory))  # type: ignore[no-untyped-call]  # untyped, too


def render() -> tuple[bytes, str]:
    """Return the body and content type of `/metrics`, for this process or for all that share their values."""
    return prometheus_client.generate_latest(_rendered), CONTENT_TYPE


class _Bounded(Generic[T]):
    """The objects for the values of a label that another party chooses; only a bounded number of values has one.

    Values of earlier processes of the slot count, because their series stay in the slot's file.
    """

    def __init__(self, metric: str, label: str, make: Callable[[str], T]) -> None:
        former = _former_values.get((f"{_PREFIX}{metric}", label), set())
        self._make = make
        self._made: dict[str, T] = {value: make(value) for value in sorted(former)}
        self._expected: set[str] = set()

    def expect(self, *expected: str) -> None:
        """Create the objects of values that are known in advance, in any form; they do not count for the bound."""
        self._expected.update(expected)
        for value in {*expected} - self._made.keys():
            self._made[value] = self._make(value)

    def of(self, value: str) -> T:
        """Return the object of `value`, or of `other`.

        `other` stands for values that are not a word, exceed the bound, or may identify a call or a secret.
        """
        if value == OTHER:
            self.expect(OTHER)
        made = self._made.get(value)
        if made is None:
            full = len(self._made) >= MAX_LABEL_VALUES + len(self._expected)
            if full or not _LABEL_VALUE.fullmatch(value) or _is_private(value):
                self.expect(OTHER)
                return self._made[OTHER]
            made = self._made[value] = self._make(value)
        return made


def _is_private(value: str) -> bool:
    """Return whether a value may identify a call, or holds a secret."""
    digits = sum(character.isdigit() for character in _DATE.sub("", value))
    return digits >= _NUMBER_DIGITS or _UUID.search(value) is not None or redaction.holds_known(value)


class BoundedCounter:
    """A counter with one label whose values another party chooses; a bounded number of them has a series."""

    def __init__(self, name: str, help_text: str, label: str) -> None:
        self._children = _Bounded(name, label, _counter(name, help_text, label).labels)
        self._children.expect(OTHER)

    def expect(self, *expected: str) -> None:
        """Create the series of values that are known in advance; they do not count for the bound."""
        self._children.expect(*expected)

    def inc(self, value: str, amount: float = 1) -> None:
        """Count for `value`, or for `other` if it is not a word, exceeds the bound, or may identify a call."""
        self._children.of(value).inc(amount)


@functools.cache
def _relay_seconds() -> Histogram:
    return _histogram(
        "relay_seconds", "Time a frame spends inside one process", _RELAY_SECONDS, "process", "direction"
    )


@functools.cache
def _event_loop_lag_seconds() -> Histogram:
    return _histogram(
        "event_loop_lag_seconds", "Delay of the event loop beyond the scheduled time", _LAG_SECONDS, "process"
    )


@functools.cache
def _audio_dropped_seconds() -> Counter:
    return _counter("audio_dropped_seconds", "Audio dropped because a bound was reached", "direction")


@functools.cache
def _task_failures() -> Counter:
    return _counter("task_failures", "Failed steps of tasks that run as long as the process", "process", "task")


_LINES_DROPPED: Final = "Log lines dropped because their reader was too slow"


@functools.cache
def _of_process(name: str, text: str) -> Counter:
    return _counter(name, text, "process")


class LastingTask(StrEnum):
    """A task that runs as long as its process."""

    TICK = "tick"
    """The clock of the process's calls."""
    PUBLISH = "publish"
    """The renewal of leases in Redis: a worker's own, or a dispatcher's calls."""
    RECORD = "record"
    """The state of recordings in Redis, and requests to pause them."""
    SWEEP = "sweep"
    """The deletion of old recordings."""
    CERTIFICATES = "certificates"
    """The look for renewed certificates."""
    RECORDS = "records"
    """The delivery of call records."""
    LOST_CALLS = "lost_calls"
    """The look for calls whose dispatcher died, of which another one writes the record."""


class _CallProcess:
    """The metrics that dispatchers and workers share.

    `in` is the direction from the caller to the model, `out` the other one.
    """

    def __init__(self, process: str) -> None:
        self.relay_in = _relay_seconds().labels(process, "in")
        self.relay_out = _relay_seconds().labels(process, "out")
        self.audio_dropped_in = _audio_dropped_seconds().labels("in")
        self.audio_dropped_out = _audio_dropped_seconds().labels("out")
        self.event_loop_lag = _event_loop_lag_seconds().labels(process)
        self.log_lines_dropped = _of_process("log_lines_dropped", _LINES_DROPPED).labels(process)
        refused = "Spans of traces dropped because the collector did not take them"
        self.spans_dropped = _of_process("spans_dropped", refused).labels(process)
        faults = "Faults of our own state machines, each in one call"
        self.illegal_transitions = _of_process("illegal_transitions", faults).labels(process)
        failures = _task_failures()
        self.task_failures = {task: failures.labels(process, task.value) for task in LastingTask}


class RepinReason(StrEnum):
    """Why a running call is given to another worker."""

    WORKER_LOST = "worker_lost"
    """Its worker died, hung, or cannot be reached."""
    DRAIN = "drain"
    """Its worker was told to stop."""


class RecoveryReason(StrEnum):
    """Why a running call is without a session for a moment."""

    WORKER_LOST = "worker_lost"
    DRAIN = "drain"
    DROPPED = "dropped"
    ROLLOVER = "rollover"


class ReconnectReason(StrEnum):
    """Why a worker opens another Realtime session for a call."""

    DROPPED = "dropped"
    """The connection broke."""
    ROLLOVER = "rollover"
    """The session neared the API's time limit."""
    REPIN = "repin"
    """The call came from another worker."""


class FallbackOutcome(StrEnum):
    """The outcome of a call that could not continue."""

    ENDED = "ended"
    """The call ended with its reason, after the recorded sentence if there is one."""
    TRANSFERRED = "transferred"
    REFUSED = "refused"
    """The call ended: the rate of transfers was exceeded, or this caller was transferred shortly before."""
    FAILED = "failed"
    """The call ended: avr-ami could not transfer it."""
    HUNG_UP = "hung_up"
    """The caller or the calls API ended the call before that."""


class DispatcherMetrics(_CallProcess):
    """The metrics of a dispatcher; create them with `dispatcher()`."""

    def __init__(self) -> None:
        super().__init__("dispatcher")
        calls = _counter("calls", "Ended calls, by outcome", "outcome")
        self.calls_completed = calls.labels("completed")
        self.calls_rejected = calls.labels("rejected")
        self.calls_failed = calls.labels("failed")
        self.greeting_latency = _histogram(
            "greeting_latency_seconds", "Time from init to the first frame sent", _GREETING_SECONDS
        )
        self.interruptions = _counter("interruptions", "Interruptions of the agent by callers")
        self.dtmf_digits = _counter("dtmf_digits", "Digits that callers pressed")
        self.bad_input = BoundedCounter(
            "bad_input", "Messages of a core that the protocol does not allow", "reason"
        )
        repins = _counter("repins", "Calls that were given to another worker, by reason", "reason")
        self.repins = {reason: repins.labels(reason) for reason in RepinReason}
        recovery = _histogram(
            "recovery_seconds",
            "Time from the loss of a call's session to the conversation restored in another one",
            _RECOVERY_SECONDS,
            "reason",
        )
        self.recovery = {reason: recovery.labels(reason) for reason in RecoveryReason}
        fallbacks = _counter("fallbacks", "Calls that could not continue, by outcome", "outcome")
        self.fallbacks = {outcome: fallbacks.labels(outcome) for outcome in FallbackOutcome}
        refused = _counter("connections_refused", "Refused connections, by reason", "reason")
        self.connections_refused = {refusal: refused.labels(refusal.value) for refusal in Refusal}
        records = _counter("call_records", "Records of ended calls, by outcome", "outcome")
        self.call_records = {outcome: records.labels(outcome.value) for outcome in RecordOutcome}
        self.call_records_waiting = _gauge(
            "call_records_waiting", "Call records that wait for delivery in the dispatchers", "livesum"
        )
        self.call_records_oldest = _gauge(
            "call_records_oldest_seconds", "Longest time that a call record has waited for delivery", "livemax"
        )
        self.recording_seconds = _counter("recording_seconds", "Length of written recordings")
        dropped = _counter("recording_dropped_seconds", "Sound that is missing in recordings, by reason", "reason")
        self.recording_dropped = {reason: dropped.labels(reason) for reason in RecordingDrop}
        self.recording_stopped = _gauge(
            "recording_stopped", "Dispatchers whose disk takes no recordings", "livesum"
        )
        # 0 as soon as any dispatcher cannot reach Redis.
        self.redis_up = _gauge("redis_up", "Whether all dispatchers reach Redis", "livemin")


class RetryReason(StrEnum):
    """Why the model is asked again for an answer, or the answer is abandoned."""

    FAILED = "failed"
    """The response failed."""
    RATE_LIMITED = "rate_limited"
    CONTEXT_LENGTH = "context_length"
    """The conversation was too long for the model."""
    INCOMPLETE = "incomplete"
    """A content filter or a token limit ended the response."""
    EMPTY = "empty"
    """The response had no audible content."""
    REFUSED = "refused"
    """The request for a response was refused."""
    UNANSWERED = "unanswered"
    """The request for a response was not answered."""
    SILENT = "silent"
    """The response began, and no further event followed."""


RATE_LIMITS: Final = ("requests", "tokens")
"""Names of the Realtime API's limits (`rate_limits.updated`)."""


class WorkerMetrics(_CallProcess):
    """The metrics of a worker; create them with `worker()`."""

    def __init__(self) -> None:
        super().__init__("worker")
        self.calls_active = _gauge("calls_active", "Calls under way", "livesum")
        self.calls_capacity = _gauge("calls_capacity", "Maximum number of calls of the workers", "livesum")
        sessions = _histogram(
            "session_duration_seconds", "Duration of a call's session", _SESSION_SECONDS, "outcome"
        )
        self.session_completed = sessions.labels("completed")
        self.session_failed = sessions.labels("failed")
        self.turn_latency = _histogram(
            "turn_latency_seconds",
            "Time from the end of the caller's speech to the reply's first audio",
            _TURN_SECONDS,
        )
        self.upstream_connect = _histogram(
            "upstream_connect_seconds", "Time to open a connection to the Realtime API", _CONNECT_SECONDS
        )
        self.upstream_errors = BoundedCounter("upstream_errors", "Errors of the Realtime API, by code", "code")
        retried = _counter("answers_retried", "Repeated requests for an answer of the model, by reason", "reason")
        self.answers_retried = {reason: retried.labels(reason) for reason in RetryReason}
        given_up = _counter("answers_given_up", "Abandoned answers, by reason", "reason")
        self.answers_given_up = {reason: given_up.labels(reason) for reason in RetryReason}
        self.answer_wait = _histogram(
            "answer_wait_seconds", "Time from an answer being owed to its first audio", _WAIT_SECONDS
        )
        # Its series appear when the API first names a limit, because 0 would mean an exhausted limit.
        self._rate_limit_remaining = _gauge(
            "upstream_rate_limit_remaining", "Remaining part of the Realtime API's rate limits", "livemin", "limit"
        )
        reconnects = _counter(
            "upstream_reconnects", "Realtime sessions opened to continue a call, by reason", "reason"
        )
        self.reconnects = {reason: reconnects.labels(reason) for reason in ReconnectReason}
        tokens = _counter("tokens", "Tokens used", "model", "direction", "modality", "cached")
        self._tokens = _Bounded("tokens", "model", functools.partial(TokenCounters.of, tokens))
        self.cost_usd = BoundedCounter("cost_usd", "Cost of the tokens used, in US dollars", "model")
        calls = _counter("tool_calls", "Calls of tools, by outcome", "tool", "outcome")
        seconds = _histogram(
            "tool_duration_seconds", "Duration of a tool's call", _TOOL_SECONDS, "tool", "outcome"
        )
        self._tools = _Bounded("tool_calls", "tool", functools.partial(ToolMetrics.of, calls, seconds))

    def rate_limit(self, limit: str, remaining: float) -> None:
        """Set the remaining part of a limit, one of RATE_LIMITS."""
        self._rate_limit_remaining.labels(limit).set(remaining)

    def expect_model(self, model: str) -> None:
        """Create the series of a model that is known in advance; it does not count for the bound."""
        self._tokens.expect(model)
        self.cost_usd.expect(model)

    def tokens(self, model: str) -> TokenCounters:
        """Return the counters of `model`, or of `other` for a name beyond the bound or unfit for a label."""
        return self._tokens.of(model)

    def expect_tools(self, *names: str) -> None:
        """Create the series of tools that are known in advance; they do not count for the bound."""
        self._tools.expect(*names)

    def tool(self, name: str) -> ToolMetrics:
        """Return the metrics of a tool, or of `other` for a name beyond the bound or unfit for a label."""
        return self._tools.of(name)


@dataclass(frozen=True, slots=True)
class ToolMetrics:
    """The metrics of one tool, by `ToolOutcome.label`."""

    calls: dict[str, Counter]
    seconds: dict[str, Histogram]

    @classmethod
    def of(cls, calls: Counter, seconds: Histogram, tool: str) -> ToolMetrics:
        """Create the series of `tool`."""
        labels = [outcome.label for outcome in ToolOutcome]
        return cls(
            {label: calls.labels(tool, label) for label in labels},
            {label: seconds.labels(tool, label) for label in labels},
        )

    def ended(self, label: str, duration_seconds: float) -> None:
        """Count a call that ended, by the label of its `ToolOutcome`."""
        self.calls[label].inc()
        self.seconds[label].observe(duration_seconds)


@dataclass(frozen=True, slots=True)
class TokenCounters:
    """The token counters of one model. Each token counts once: OpenAI's cached tokens are a subset of the input's.

    So `input_audio` counts the input's audio tokens without the cached ones, and `input_audio_cached` counts
    those.
    """

    input_text: Counter
    input_text_cached: Counter
    input_audio: Counter
    input_audio_cached: Counter
    output_text: Counter
    output_audio: Counter

    @classmethod
    def of(cls, tokens: Counter, model: str) -> TokenCounters:
        """Create the series of `model`."""
        return cls(
            input_text=tokens.labels(model, "input", "text", "false"),
            input_text_cached=tokens.labels(model, "input", "text", "true"),
            input_audio=tokens.labels(model, "input", "audio", "false"),
            input_audio_cached=tokens.labels(model, "input", "audio", "true"),
            output_text=tokens.labels(model, "output", "text", "false"),
            output_audio=tokens.labels(model, "output", "audio", "false"),
        )


class SupervisorMetrics:
    """The metrics of `serve`'s parent; create them with `supervisor()`."""

    def __init__(self) -> None:
        self.worker_restarts = _counter("worker_restarts", "Restarts of workers")
        self.log_lines_dropped = _of_process("log_lines_dropped", _LINES_DROPPED).labels("serve")


@functools.cache
def dispatcher() -> DispatcherMetrics:
    """Return the dispatcher's metrics, created by the first call."""
    return DispatcherMetrics()


@functools.cache
def worker() -> WorkerMetrics:
    """Return the worker's metrics, created by the first call."""
    return WorkerMetrics()


@functools.cache
def supervisor() -> SupervisorMetrics:
    """Return the metrics of `serve`'s parent, created by the first call."""
    return SupervisorMetrics()


def _counter(name: str, help_text: str, *labels: str) -> Counter:
    return Counter(f"{_PREFIX}{name}", help_text, labels, registry=_registry)  # the library adds _total


def _gauge(
    name: str, help_text: str, over_processes: Literal["livesum", "livemin", "livemax"], *labels: str
) -> Gauge:
    return Gauge(f"{_PREFIX}{name}", help_text, labels, registry=_registry, multiprocess_mode=over_processes)


def _histogram(name: str, help_text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
    return Histogram(f"{_PREFIX}{name}", help_text, labels, registry=_registry, buckets=buckets)
