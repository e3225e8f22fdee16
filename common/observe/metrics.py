"""Every metric of the service, and `/metrics`.

A role creates its own metrics alone, once, with `dispatcher()`, `worker()` or `supervisor()`: no gauge is exported
by two roles. All series that can be named in advance exist from then on, at 0. Children of labelled metrics are
attributes, so that nothing is looked up on the audio path.

In a cluster a process answers for itself. In `serve` all processes keep their values in files under one directory
(`share`), and any dispatcher answers for all: counters and histograms of a process that died stay, its gauges go.
`share` comes before the first metric.

No label can carry a call: most have a fixed set of values, and where somebody else chooses (the model, a tool, an
error's code), what looks like a uuid or a number is counted as `other`.
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
from common.observe.refusals import Refusal
from common.observe.shared_values import SharedValues, label_values
from common.observe.value_file import value_class

CONTENT_TYPE: Final = prometheus_client.CONTENT_TYPE_LATEST

MAX_LABEL_VALUES: Final = 40
"""Distinct values of a label that somebody else chooses (an error code, a model, a tool); the rest is `other`."""

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
"""The value of a label that stands for all those that are not kept apart."""

_LABEL_VALUE = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
_UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)
_DATE = re.compile(r"20\d\d-[01]\d-[0-3]\d")
_NUMBER_DIGITS: Final = 7
"""So many digits, however they are grouped, may be somebody's number. A model's date does not count."""

T = TypeVar("T")

_registry = CollectorRegistry()
_rendered = _registry
_shared_directory: Path | None = None
_former_values: dict[tuple[str, str], set[str]] = {}
"""Values that labels had in earlier lives of this process's slot, by metric and label."""

# The values' class is chosen by `share`, not by a variable that happens to be in the environment.
values.ValueClass = values.MutexValue
# When a series was created says nothing here, and would double the number of series.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # the library's lack


def share(directory: Path, identity: str) -> None:
    """Keeps this process's values in files under `directory`, from which `render` sums them up.

    Args:
        directory: one for all processes of a `serve`.
        identity: of the slot that the process fills, not of the process: who is started in place of a dead one
            goes on with its counters, so that the number of files does not grow with restarts.
    """
    global _shared_directory, _former_values, _rendered  # noqa: PLW0603 - the library, too, has one of each
    values.ValueClass = value_class(directory, identity)
    _shared_directory = directory
    _former_values = label_values(directory, identity)
    _rendered = CollectorRegistry()
    _rendered.register(SharedValues(directory))


def mark_process_dead(identity: str) -> None:
    """Forgets the gauges of a process that ended; its counters stay."""
    if _shared_directory is not None:
        multiprocess.mark_process_dead(identity, str(_shared_directory))  # type: ignore[no-untyped-call]  # the same


def render() -> tuple[bytes, str]:
    """Returns the body and content type of `/metrics`: of this process, or of all that share their values."""
    return prometheus_client.generate_latest(_rendered), CONTENT_TYPE


class _Bounded(Generic[T]):
    """What there is for each value of a label that somebody else chooses: only so many are kept apart.

    Those of the slot's earlier lives count: their series are in its file for good.
    """

    def __init__(self, metric: str, label: str, make: Callable[[str], T]) -> None:
        former = _former_values.get((f"{_PREFIX}{metric}", label), set())
        self._make = make
        self._made: dict[str, T] = {value: make(value) for value in sorted(former)}
        self._expected: set[str] = set()

    def expect(self, *expected: str) -> None:
        """Makes those of values that are known in advance, whatever they look like.

        They do not count for the limit.
        """
        self._expected.update(expected)
        for value in {*expected} - self._made.keys():
            self._made[value] = self._make(value)

    def of(self, value: str) -> T:
        """That of `value`; of `other` if it is no word, one too many, or may name a call or hold a secret."""
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
    """Whether a value may name a call, or holds a secret."""
    digits = sum(character.isdigit() for character in _DATE.sub("", value))
    return digits >= _NUMBER_DIGITS or _UUID.search(value) is not None or redaction.holds_known(value)


class BoundedCounter:
    """A counter with one label whose values somebody else chooses: only so many are kept apart."""

    def __init__(self, name: str, help_text: str, label: str) -> None:
        self._children = _Bounded(name, label, _counter(name, help_text, label).labels)
        self._children.expect(OTHER)

    def expect(self, *expected: str) -> None:
        """Creates the series of values that are known in advance; they do not count for the limit."""
        self._children.expect(*expected)

    def inc(self, value: str, amount: float = 1) -> None:
        """Counts for `value`, or for `other` if it is no word, one too many, or may name a call."""
        self._children.of(value).inc(amount)


@functools.cache
def _relay_seconds() -> Histogram:
    return _histogram(
        "relay_seconds", "Time a frame spends inside one process", _RELAY_SECONDS, "process", "direction"
    )


@functools.cache
def _event_loop_lag_seconds() -> Histogram:
    return _histogram(
        "event_loop_lag_seconds", "How much later than due the event loop ran", _LAG_SECONDS, "process"
    )


@functools.cache
def _audio_dropped_seconds() -> Counter:
    return _counter("audio_dropped_seconds", "Audio thrown away, as a bound was reached", "direction")


@functools.cache
def _task_failures() -> Counter:
    return _counter("task_failures", "Steps of lasting tasks that failed", "process", "task")


@functools.cache
def _illegal_transitions() -> Counter:
    return _counter("illegal_transitions", "State machines that could not take an event: our faults", "process")


@functools.cache
def _log_lines_dropped() -> Counter:
    return _counter("log_lines_dropped", "Log lines dropped because their reader was too slow", "process")


class LastingTask(StrEnum):
    """What a process does as long as it runs."""

    TICK = "tick"
    """The clock of its calls."""
    PUBLISH = "publish"
    """What it tells Redis: a worker of itself, a dispatcher of its calls."""
    CERTIFICATES = "certificates"
    """The look at certificates that were renewed."""


class _CallProcess:
    """What dispatchers and workers both measure. `in`: from the caller to the model; `out`: back."""

    def __init__(self, process: str) -> None:
        self.relay_in = _relay_seconds().labels(process, "in")
        self.relay_out = _relay_seconds().labels(process, "out")
        self.audio_dropped_in = _audio_dropped_seconds().labels("in")
        self.audio_dropped_out = _audio_dropped_seconds().labels("out")
        self.event_loop_lag = _event_loop_lag_seconds().labels(process)
        self.log_lines_dropped = _log_lines_dropped().labels(process)
        self.illegal_transitions = _illegal_transitions().labels(process)
        failures = _task_failures()
        self.task_failures = {task: failures.labels(process, task.value) for task in LastingTask}


class RepinReason(StrEnum):
    """Why a call that runs is given to another worker."""

    WORKER_LOST = "worker_lost"
    """Its worker died, hung, or cannot be reached any more."""
    DRAIN = "drain"
    """Its worker was told to end."""


class RecoveryReason(StrEnum):
    """Why a call that runs is without a session for a moment."""

    WORKER_LOST = "worker_lost"
    DRAIN = "drain"
    DROPPED = "dropped"
    ROLLOVER = "rollover"


class ReconnectReason(StrEnum):
    """Why a worker opens another Realtime session for a call."""

    DROPPED = "dropped"
    """The connection broke."""
    ROLLOVER = "rollover"
    """The session has run nearly as long as the API lets it."""
    REPIN = "repin"
    """The call came from another worker."""


class FallbackOutcome(StrEnum):
    """What became of a call that could not go on."""

    ENDED = "ended"
    """It ended with its reason, after the recorded sentence if there is one."""
    TRANSFERRED = "transferred"
    REFUSED = "refused"
    """It ended: the rate of transfers was exceeded, or this caller was transferred a moment ago."""
    FAILED = "failed"
    """It ended: avr-ami could not transfer it."""
    HUNG_UP = "hung_up"
    """The caller or the calls API ended it before that."""


class DispatcherMetrics(_CallProcess):
    """What a dispatcher measures; create it with `dispatcher()`."""

    def __init__(self) -> None:
        super().__init__("dispatcher")
        calls = _counter("calls", "Calls that ended, by how", "outcome")
        self.calls_completed = calls.labels("completed")
        self.calls_rejected = calls.labels("rejected")
        self.calls_failed = calls.labels("failed")
        self.greeting_latency = _histogram(
            "greeting_latency_seconds", "From init to the first frame sent", _GREETING_SECONDS
        )
        self.interruptions = _counter("interruptions", "Times that callers interrupted the agent")
        self.dtmf_digits = _counter("dtmf_digits", "Digits that callers dialled")
        self.bad_input = BoundedCounter("bad_input", "What a core sent that the protocol does not allow", "reason")
        repins = _counter("repins", "Calls that were given to another worker, by why", "reason")
        self.repins = {reason: repins.labels(reason) for reason in RepinReason}
        recovery = _histogram(
            "recovery_seconds",
            "From the loss of a call's session to the conversation restored in another",
            _RECOVERY_SECONDS,
            "reason",
        )
        self.recovery = {reason: recovery.labels(reason) for reason in RecoveryReason}
        fallbacks = _counter("fallbacks", "Calls that could not go on, by what became of them", "outcome")
        self.fallbacks = {outcome: fallbacks.labels(outcome) for outcome in FallbackOutcome}
        refused = _counter("connections_refused", "Connections that were not let in, by why", "reason")
        self.connections_refused = {refusal: refused.labels(refusal.value) for refusal in Refusal}
        # 0 as soon as one dispatcher cannot reach Redis.
        self.redis_up = _gauge("redis_up", "Whether dispatchers reach Redis", "livemin")


class RetryReason(StrEnum):
    """Why an answer of the model is asked for again, or given up."""

    FAILED = "failed"
    """The response failed."""
    RATE_LIMITED = "rate_limited"
    CONTEXT_LENGTH = "context_length"
    """The conversation was too long for the model."""
    INCOMPLETE = "incomplete"
    """A content filter or a token limit ended the response."""
    EMPTY = "empty"
    """The response had nothing to hear."""
    REFUSED = "refused"
    """The request for a response was refused."""
    UNANSWERED = "unanswered"
    """The request for a response was not answered."""
    SILENT = "silent"
    """The response began, and nothing more came."""


RATE_LIMITS: Final = ("requests", "tokens")
"""Names of the Realtime API's limits (`rate_limits.updated`)."""


class WorkerMetrics(_CallProcess):
    """What a worker measures; create it with `worker()`."""

    def __init__(self) -> None:
        super().__init__("worker")
        self.calls_active = _gauge("calls_active", "Calls under way", "livesum")
        self.calls_capacity = _gauge("calls_capacity", "Calls that workers take at most", "livesum")
        sessions = _histogram(
            "session_duration_seconds", "Length of a call's session", _SESSION_SECONDS, "outcome"
        )
        self.session_completed = sessions.labels("completed")
        self.session_failed = sessions.labels("failed")
        self.turn_latency = _histogram(
            "turn_latency_seconds", "From the end of the caller's speech to the reply's first audio", _TURN_SECONDS
        )
        self.upstream_connect = _histogram(
            "upstream_connect_seconds", "Opening a connection to the Realtime API", _CONNECT_SECONDS
        )
        self.upstream_errors = BoundedCounter("upstream_errors", "Errors of the Realtime API, by code", "code")
        retried = _counter("answers_retried", "Answers that the model was asked for again, by why", "reason")
        self.answers_retried = {reason: retried.labels(reason) for reason in RetryReason}
        given_up = _counter("answers_given_up", "Answers that were given up, by why", "reason")
        self.answers_given_up = {reason: given_up.labels(reason) for reason in RetryReason}
        self.answer_wait = _histogram(
            "answer_wait_seconds", "From an answer being owed to its first audio", _WAIT_SECONDS
        )
        # Its series appear when the API first names a limit: 0 would mean that nothing is left.
        self._rate_limit_remaining = _gauge(
            "upstream_rate_limit_remaining", "What is left of the Realtime API's limits", "livemin", "limit"
        )
        reconnects = _counter(
            "upstream_reconnects", "Realtime sessions opened to go on with a call, by why", "reason"
        )
        self.reconnects = {reason: reconnects.labels(reason) for reason in ReconnectReason}
        tokens = _counter("tokens", "Tokens used", "model", "direction", "modality", "cached")
        self._tokens = _Bounded("tokens", "model", functools.partial(TokenCounters.of, tokens))
        self.cost_usd = BoundedCounter("cost_usd", "What the tokens used cost, in US dollars", "model")
        calls = _counter("tool_calls", "Calls of tools, by how they ended", "tool", "outcome")
        seconds = _histogram("tool_duration_seconds", "How long a tool took", _TOOL_SECONDS, "tool", "outcome")
        self._tools = _Bounded("tool_calls", "tool", functools.partial(ToolMetrics.of, calls, seconds))

    def rate_limit(self, limit: str, remaining: float) -> None:
        """Notes what is left of a limit, one of RATE_LIMITS."""
        self._rate_limit_remaining.labels(limit).set(remaining)

    def expect_model(self, model: str) -> None:
        """Creates the series of a model that is known in advance; it does not count for the limit."""
        self._tokens.expect(model)
        self.cost_usd.expect(model)

    def tokens(self, model: str) -> TokenCounters:
        """Returns the counters of `model`; of `other` if it is no word, one too many, or may name a call."""
        return self._tokens.of(model)

    def expect_tools(self, *names: str) -> None:
        """Creates the series of tools that are known in advance; they do not count for the limit."""
        self._tools.expect(*names)

    def tool(self, name: str) -> ToolMetrics:
        """Returns those of the tool `name`; of `other` if it is no word, one too many, or may name a call."""
        return self._tools.of(name)


class ToolOutcome(StrEnum):
    """How a call of a tool ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    """It raised, or its service refused."""
    TIMED_OUT = "timed_out"
    REFUSED = "refused"
    """It was not run: there is no such tool, or the arguments are not what it takes."""


@dataclass(frozen=True, slots=True)
class ToolMetrics:
    """Calls of one tool."""

    calls: dict[ToolOutcome, Counter]
    seconds: dict[ToolOutcome, Histogram]

    @classmethod
    def of(cls, calls: Counter, seconds: Histogram, tool: str) -> ToolMetrics:
        """Creates the series of `tool`."""
        return cls(
            {outcome: calls.labels(tool, outcome) for outcome in ToolOutcome},
            {outcome: seconds.labels(tool, outcome) for outcome in ToolOutcome},
        )

    def ended(self, outcome: ToolOutcome, duration_seconds: float) -> None:
        """Counts a call that ended."""
        self.calls[outcome].inc()
        self.seconds[outcome].observe(duration_seconds)


@dataclass(frozen=True, slots=True)
class TokenCounters:
    """Tokens of one model. Each token counts once: OpenAI's cached tokens are a subset of the input's.

    So `input_audio` takes the input's audio tokens less the cached ones, and `input_audio_cached` those.
    """

    input_text: Counter
    input_text_cached: Counter
    input_audio: Counter
    input_audio_cached: Counter
    output_text: Counter
    output_audio: Counter

    @classmethod
    def of(cls, tokens: Counter, model: str) -> TokenCounters:
        """Creates the series of `model`."""
        return cls(
            input_text=tokens.labels(model, "input", "text", "false"),
            input_text_cached=tokens.labels(model, "input", "text", "true"),
            input_audio=tokens.labels(model, "input", "audio", "false"),
            input_audio_cached=tokens.labels(model, "input", "audio", "true"),
            output_text=tokens.labels(model, "output", "text", "false"),
            output_audio=tokens.labels(model, "output", "audio", "false"),
        )


class SupervisorMetrics:
    """What `serve`'s parent measures; create it with `supervisor()`."""

    def __init__(self) -> None:
        self.worker_restarts = _counter("worker_restarts", "Workers that were started again")
        self.log_lines_dropped = _log_lines_dropped().labels("serve")


@functools.cache
def dispatcher() -> DispatcherMetrics:
    """Returns the dispatcher's metrics, created by the first call."""
    return DispatcherMetrics()


@functools.cache
def worker() -> WorkerMetrics:
    """Returns the worker's metrics, created by the first call."""
    return WorkerMetrics()


@functools.cache
def supervisor() -> SupervisorMetrics:
    """Returns the metrics of `serve`'s parent, created by the first call."""
    return SupervisorMetrics()


def _counter(name: str, help_text: str, *labels: str) -> Counter:
    return Counter(f"{_PREFIX}{name}", help_text, labels, registry=_registry)  # the library adds _total


def _gauge(name: str, help_text: str, over_processes: Literal["livesum", "livemin"], *labels: str) -> Gauge:
    return Gauge(f"{_PREFIX}{name}", help_text, labels, registry=_registry, multiprocess_mode=over_processes)


def _histogram(name: str, help_text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
    return Histogram(f"{_PREFIX}{name}", help_text, labels, registry=_registry, buckets=buckets)
