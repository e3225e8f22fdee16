"""The metrics of a worker."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from prometheus_client import Counter, Histogram

from common.observe.label_values import OTHER
from common.observe.metrics.bounded import Bounded
from common.observe.metrics.call_process import CALL_SECONDS, CallProcess
from common.observe.metrics.series import counter, gauge, histogram
from common.observe.metrics.tenant_series import CostCounter
from common.observe.tool_outcome import ToolOutcome

_TURN_SECONDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
_TURN_PART_SECONDS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0)
_CONNECT_SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
_TOOL_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 20.0, 30.0, 60.0)
_WAIT_SECONDS = (0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0, 35.0)


class ReconnectReason(StrEnum):
    """Why a worker opens another Realtime session for a call."""

    DROPPED = "dropped"
    """The connection broke."""
    ROLLOVER = "rollover"
    """The session neared the API's time limit."""
    REPIN = "repin"
    """The call came from another worker."""


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


class KeyOwner(StrEnum):
    """Whose API key a session uses."""

    OURS = "ours"
    """The worker's: OPENAI_API_KEY."""
    CALL = "call"
    """The call brought its own key: in `init`, or from the instructions service."""


TURN_PARTS: Final = ("end_of_speech", "model", "service")
"""Parts of a turn's latency: see `worker/session/turn_clock.py`."""

RATE_LIMITS: Final = ("requests", "tokens")
"""Names of the Realtime API's limits (`rate_limits.updated`)."""


class WorkerMetrics(CallProcess):
    """The metrics of a worker; create them with `worker()`."""

    def __init__(self) -> None:
        super().__init__("worker")
        self.calls_active = gauge("calls_active", "Calls under way", "livesum")
        # 0 as soon as any worker cannot reach Redis.
        self.redis_up = gauge("worker_redis_up", "Whether all workers reach Redis", "livemin")
        self.calls_capacity = gauge("calls_capacity", "Maximum number of calls of the workers", "livesum")
        sessions = histogram("session_duration_seconds", "Duration of a call's session", CALL_SECONDS, "outcome")
        self.session_completed = sessions.labels("completed")
        self.session_failed = sessions.labels("failed")
        self.turn_latency = histogram(
            "turn_latency_seconds",
            "Time from the end of the caller's speech to the reply's first audio",
            _TURN_SECONDS,
        )
        parts = histogram(
            "turn_part_seconds",
            "Parts of the turn latency: until the end of speech is known, the model's work, and the rest",
            _TURN_PART_SECONDS,
            "part",
        )
        self.turn_part = {part: parts.labels(part) for part in TURN_PARTS}
        self.upstream_connect = histogram(
            "upstream_connect_seconds", "Time to open a connection to the Realtime API", _CONNECT_SECONDS
        )
        self.sessions_waiting = gauge(
            "upstream_sessions_waiting",
            "Realtime sessions that wait to be opened, because many are opened at once",
            "livesum",
        )
        self.upstream_errors = UpstreamErrors()
        self.upstream_refused = gauge(
            "upstream_refused",
            "Whether the Realtime API refused the worker's own key at the last attempt",
            "livemax",
        )
        retried = counter("answers_retried", "Repeated requests for an answer of the model, by reason", "reason")
        self.answers_retried = {reason: retried.labels(reason) for reason in RetryReason}
        given_up = counter("answers_given_up", "Abandoned answers, by reason", "reason")
        self.answers_given_up = {reason: given_up.labels(reason) for reason in RetryReason}
        self.answer_wait = histogram(
            "answer_wait_seconds", "Time from an answer being owed to its first audio", _WAIT_SECONDS
        )
        # Its series appear when the API first names a limit, because 0 would mean an exhausted limit.
        self._rate_limit_remaining = gauge(
            "upstream_rate_limit_remaining", "Remaining part of the rate limits of our own key", "livemin", "limit"
        )
        reconnects = counter(
            "upstream_reconnects", "Realtime sessions opened to continue a call, by reason", "reason"
        )
        self.reconnects = {reason: reconnects.labels(reason) for reason in ReconnectReason}
        tokens = counter("tokens", "Tokens used", "model", "direction", "modality", "cached")
        self._tokens = Bounded("tokens", "model", functools.partial(TokenCounters.of, tokens))
        self.cost_usd = CostCounter()
        calls = counter("tool_calls", "Calls of tools, by outcome", "tool", "outcome")
        seconds = histogram("tool_duration_seconds", "Duration of a tool's call", _TOOL_SECONDS, "tool", "outcome")
        self._tools = Bounded("tool_calls", "tool", functools.partial(ToolMetrics.of, calls, seconds))

    def rate_limit(self, limit: str, remaining: float) -> None:
        """Set the remaining part of a limit, one of RATE_LIMITS."""
        self._rate_limit_remaining.labels(limit).set(remaining)

    def expect_model(self, model: str) -> None:
        """Create the series of a model that is known in advance; it does not count for the bound."""
        self._tokens.expect(model)
        self.cost_usd.expect_model(model)

    def expect_tenants(self, *tenants: str) -> None:
        """Create the series of tenants that are known in advance; "": there are no tenants."""
        self.cost_usd.expect_tenants(*tenants)

    def tokens(self, model: str) -> TokenCounters:
        """Return the counters of `model`, or of `other` for a name beyond the bound or unfit for a label."""
        return self._tokens.of(model)

    def expect_tools(self, *names: str) -> None:
        """Create the series of tools that are known in advance; they do not count for the bound."""
        self._tools.expect(*names)

    def tool(self, name: str) -> ToolMetrics:
        """Return the metrics of a tool, or of `other` for a name beyond the bound or unfit for a label."""
        return self._tools.of(name)


class UpstreamErrors:
    """The errors of the Realtime API, by code and by whose key met them."""

    def __init__(self) -> None:
        errors = counter(
            "upstream_errors", "Errors of the Realtime API, by code and by whose key was used", "code", "key"
        )

        def make(code: str) -> dict[KeyOwner, Counter]:
            return {owner: errors.labels(code, owner.value) for owner in KeyOwner}

        self._codes = Bounded("upstream_errors", "code", make)
        self._codes.expect(OTHER)

    def expect(self, *codes: str) -> None:
        """Create the series of codes that are known in advance; they do not count for the bound."""
        self._codes.expect(*codes)

    def inc(self, code: str, owner: KeyOwner = KeyOwner.OURS) -> None:
        """Count an error; a code beyond the bound, or unfit for a label, counts as `other`."""
        self._codes.of(code)[owner].inc()


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
