"""The metrics of a dispatcher."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import Counter, Histogram

from common.observe.call_outcome import OUTCOMES, CallOutcome, EndReason
from common.observe.metrics.bounded import BoundedCounter
from common.observe.metrics.call_process import CALL_SECONDS, CallProcess
from common.observe.metrics.series import counter, gauge, histogram
from common.observe.metrics.tenant_series import LABEL as TENANT
from common.observe.metrics.tenant_series import TenantSeries
from common.observe.record_outcome import RecordOutcome
from common.observe.recording_drop import RecordingDrop
from common.observe.refusals import Refusal

_GREETING_SECONDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 15.0, 30.0)
_JITTER_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5)
_LEVEL_DBFS = (-70, -60, -50, -45, -40, -35, -30, -25, -20, -15, -10, -6, -3)
_RECOVERY_SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0)


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


class DispatcherMetrics(CallProcess):
    """The metrics of a dispatcher; create them with `dispatcher()`."""

    def __init__(self) -> None:
        super().__init__("dispatcher")
        calls = counter("calls", "Ended calls, by outcome and reason", "outcome", "reason", TENANT)
        duration = histogram(
            "call_duration_seconds",
            "Duration of a call from init to its end; rejected calls do not count",
            CALL_SECONDS,
            TENANT,
        )
        self._calls = TenantSeries("calls", functools.partial(CallMetrics.of, calls, duration))
        self.greeting_latency = histogram(
            "greeting_latency_seconds",
            "Time from init to the first frame sent, if the caller did not speak before",
            _GREETING_SECONDS,
        )
        self.interruptions = counter("interruptions", "Interruptions of the agent by callers")
        self.dtmf_digits = counter("dtmf_digits", "Digits that callers pressed")
        self._gaps = counter("caller_audio_gaps", "Pauses of over 100 ms in the callers' audio")
        self._gap_seconds = counter("caller_audio_gap_seconds", "Length of the pauses in the callers' audio")
        self.caller_audio_jitter = histogram(
            "caller_audio_jitter_seconds",
            "Jitter of the callers' audio (RFC 3550), a value for each call and 5 s",
            _JITTER_SECONDS,
        )
        self.caller_audio_level = histogram(
            "caller_audio_level_dbfs",
            "Level of the callers' speech in dB of full scale, a value for each call and 5 s with speech",
            _LEVEL_DBFS,
        )
        self.bad_input = BoundedCounter(
            "bad_input", "Messages of a core that the protocol does not allow", "reason"
        )
        repins = counter("repins", "Calls that were given to another worker, by reason", "reason")
        self.repins = {reason: repins.labels(reason) for reason in RepinReason}
        recovery = histogram(
            "recovery_seconds",
            "Time from the loss of a call's session to the conversation restored in another one",
            _RECOVERY_SECONDS,
            "reason",
        )
        self.recovery = {reason: recovery.labels(reason) for reason in RecoveryReason}
        fallbacks = counter("fallbacks", "Calls that could not continue, by outcome", "outcome")
        self.fallbacks = {outcome: fallbacks.labels(outcome) for outcome in FallbackOutcome}
        refused = counter("connections_refused", "Refused connections, by reason", "reason")
        self.connections_refused = {refusal: refused.labels(refusal.value) for refusal in Refusal}
        records = counter("call_records", "Records of ended calls, by outcome", "outcome")
        self.call_records = {outcome: records.labels(outcome.value) for outcome in RecordOutcome}
        self.call_records_waiting = gauge(
            "call_records_waiting", "Call records that wait for delivery in the dispatchers", "livesum"
        )
        self.call_records_oldest = gauge(
            "call_records_oldest_seconds", "Longest time that a call record has waited for delivery", "livemax"
        )
        self.recording_seconds = counter("recording_seconds", "Length of written recordings")
        dropped = counter("recording_dropped_seconds", "Sound that is missing in recordings, by reason", "reason")
        self.recording_dropped = {reason: dropped.labels(reason) for reason in RecordingDrop}
        self.recording_stopped = gauge(
            "recording_stopped", "Dispatchers whose disk takes no recordings", "livesum"
        )
        # 0 as soon as any dispatcher cannot reach Redis.
        self.redis_up = gauge("redis_up", "Whether all dispatchers reach Redis", "livemin")

    def expect_tenants(self, *tenants: str) -> None:
        """Create the series of tenants that are known in advance; "": there are no tenants."""
        self._calls.expect(*tenants, counted=True)

    def caller_gap(self, seconds: float) -> None:
        """Count a pause in a caller's audio."""
        self._gaps.inc()
        self._gap_seconds.inc(seconds)

    def call_ended(self, outcome: CallOutcome, reason: EndReason, tenant: str) -> None:
        """Count a call that ended, for its tenant; "" where there are no tenants."""
        self._calls.of(tenant).ended(outcome, reason)

    def call_lasted(self, seconds: float, tenant: str) -> None:
        """Measure the duration of a call that ended and was not rejected, for its tenant."""
        self._calls.of(tenant).duration.observe(seconds)


@dataclass(frozen=True, slots=True)
class CallMetrics:
    """The metrics of one tenant's calls."""

    tenant: str
    calls: Counter
    duration: Histogram

    @classmethod
    def of(cls, calls: Counter, duration: Histogram, tenant: str) -> CallMetrics:
        """Create the series of `tenant`."""
        made = cls(tenant, calls, duration.labels(tenant))
        for reason, outcomes in OUTCOMES.items():
            for outcome in outcomes:
                calls.labels(outcome.value, reason.value, tenant)
        return made

    def ended(self, outcome: CallOutcome, reason: EndReason) -> None:
        """Count a call that ended."""
        self.calls.labels(outcome.value, reason.value, self.tenant).inc()
