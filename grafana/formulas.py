"""Queries to Prometheus, in one place for dashboards and rules.

No query needs a label that only some installations have. Without the label `namespace`, all series are one group.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from common.observe.upstream_codes import OPERATOR_CODES

PREFIX: Final = "avr_sts_"

FIRING_ALERTS: Final = 'count(ALERTS{alertname=~"AvrSts.+", alertstate="firing"}) or vector(0)'
"""Number of alerts of this service that fire; 0 also where its rules are not loaded."""

OUR_REASONS: Final = ("internal", "lost", "no_answer", "no_capacity", "no_worker", "stopped", "upstream")
"""Reasons of ended calls that count against the service (`EndReason`). The Realtime API is a part of the service:
callers cannot tell the two apart."""

OTHERS_REASONS: Final = (
    "agent_hung_up",
    "api_hung_up",
    "caller_hung_up",
    "caller_lost",
    "caller_silent",
    "protocol",
    "too_long",
    "transferred",
)
"""Reasons that do not: the call ended as it should, or AVR Core or the network before it broke it off."""

CALLERS_LOST: Final = 'reason=~"caller_lost|protocol"'
"""Matcher of calls that AVR Core or the network broke off."""

NOT_OF_A_CALL: Final = 'key!="call"'
"""Matcher of errors with our own key. Series of an older release have no label `key`, and match, too."""

OF_A_CALL: Final = 'key="call"'
"""Matcher of errors of calls that brought a key of their own."""


_OUR_PROCESSES: Final = 'process=~"dispatcher|worker|serve"'
"""Matcher of our processes among all that export figures of the same names."""


def _one_of(label: str, values: tuple[str, ...]) -> str:
    return f'{label}=~"{"|".join(values)}"'


@dataclass(frozen=True, slots=True)
class Formulas:
    """PromQL queries over the series that `matchers` select.

    Attributes:
        matchers: matchers of each selector, such as `namespace="voice"`.
        window: range of rates.
        by: labels that separate the figures.
    """

    matchers: tuple[str, ...] = ()
    window: str = "5m"
    by: tuple[str, ...] = ()

    def series(self, name: str, *matchers: str) -> str:
        """Return the selector of a metric, given without its prefix."""
        selected = ", ".join((*matchers, *self.matchers))
        return f"{PREFIX}{name}{{{selected}}}" if selected else PREFIX + name

    def grouped(self, aggregation: str, inner: str, *labels: str) -> str:
        """Return `inner`, aggregated to one value for each group and each value of `labels`."""
        by = ", ".join((*self.by, *labels))
        return f"{aggregation} by ({by}) ({inner})" if by else f"{aggregation}({inner})"

    def total(self, name: str, *labels: str) -> str:
        """Return the sum of a gauge."""
        return self.grouped("sum", self.series(name), *labels)

    def rate(self, name: str, *labels: str, match: tuple[str, ...] = ()) -> str:
        """Return the rate of a counter, per second."""
        return self.grouped("sum", f"rate({self.series(name, *match)}[{self.window}])", *labels)

    def increase(self, name: str, *labels: str, match: tuple[str, ...] = ()) -> str:
        """Return the increase of a counter over the window."""
        return self.grouped("sum", f"increase({self.series(name, *match)}[{self.window}])", *labels)

    def quantile(self, share: float, histogram: str, *labels: str) -> str:
        """Return a quantile of a histogram over the window."""
        return f"histogram_quantile({share:g}, {self.rate(f'{histogram}_bucket', 'le', *labels)})"

    def p95(self, histogram: str, *labels: str) -> str:
        """Return the value of a histogram that 5% of the observations exceed, over the window."""
        return self.quantile(0.95, histogram, *labels)

    def buckets(self, histogram: str) -> str:
        """Return the observations in each bucket over the window, for a heatmap."""
        return self.increase(f"{histogram}_bucket", "le")

    # Calls

    def rejected(self) -> str:
        """Return the calls that found no worker with room, over the window."""
        # A connection that AVR Core's protocol does not allow is rejected, too, and is no caller.
        return self.increase("calls_total", match=('reason=~"no_capacity|no_worker"', 'outcome="rejected"'))

    def failed_by_us(self) -> str:
        """Return the calls that ended by a fault of the service, over the window."""
        return self._failed_by_us(self.increase)

    def failed_by_us_rate(self) -> str:
        """Return the rate of calls that ended by a fault of the service; 0 if others ended."""
        return f"{self._failed_by_us(self.rate)} or 0 * {self.rate('calls_total')}"

    def _failed_by_us(self, measured: Callable[..., str]) -> str:
        """Leave out calls that brought a key which the API refused: each ends with one such error."""
        failed = measured("calls_total", match=(_one_of("reason", OUR_REASONS),))
        refused = measured("upstream_errors_total", match=(_one_of("code", OPERATOR_CODES), OF_A_CALL))
        return f"clamp_min({failed} - ({refused} or 0 * {failed}), 0)"

    def callers_lost(self) -> str:
        """Return the share of calls that AVR Core or the network broke off, by reason; empty if none ended."""
        lost = self.rate("calls_total", "reason", match=(CALLERS_LOST,))
        return f"{lost} / {self._beside(('reason',))}({self.rate('calls_total')} > 0)"

    def load(self) -> str:
        """Return calls under way, as a share of the workers' capacity."""
        return f"{self.total('calls_active')} / {self.total('calls_capacity')}"

    def failed_share(self) -> str:
        """Return the share of calls that ended by a fault of the service; empty if none ended."""
        calls = self.increase("calls_total")
        return f"({self.failed_by_us()} or 0 * {calls}) / ({calls} > 0)"

    def tenants_failed(self) -> str:
        """Return the calls that ended by a fault, of the service or of the tenant's own key, by tenant."""
        return self.increase("calls_total", "tenant", match=(_one_of("reason", OUR_REASONS),))

    def tenants_failed_share(self) -> str:
        """Return the share of a tenant's calls that ended by a fault; empty if none ended."""
        calls = self.increase("calls_total", "tenant")
        return f"({self.tenants_failed()} or 0 * {calls}) / ({calls} > 0)"

    def failed(self, *labels: str) -> str:
        """Return the calls that failed or were turned away, over the window."""
        return self.increase("calls_total", *labels, match=('outcome!="completed"',))

    def failed_rate(self, *labels: str) -> str:
        """Return the calls that failed or were turned away, per second."""
        return self.rate("calls_total", *labels, match=('outcome!="completed"',))

    def budget_left(self, objective: float) -> str:
        """Return the share of the permitted faults that is left, over the window; empty if no call ended."""
        return f"1 - ({self.failed_share()}) / {1 - objective:g}"

    def budget_used(self, objective: float, whole: Formulas) -> str:
        """Return the share of a whole window's permitted faults that the faults of this window took."""
        permitted = f"({1 - objective:g} * {whole.increase('calls_total')} > 0)"
        return f"({self.failed_by_us()} or 0 * {self.increase('calls_total')}) / {permitted}"

    def calls(self) -> str:
        """Return the average number of calls under way; empty without calls."""
        average = self.grouped("sum", f"avg_over_time({self.series('calls_active')}[{self.window}])")
        return f"({average} > 0)"

    def per_call_second(self, name: str, *labels: str, match: tuple[str, ...] = ()) -> str:
        """Return the rate of a counter in a second of one call."""
        rate = self.rate(name, *labels, match=match)
        return f"{rate} / {self._beside(labels)}{self.calls()}"

    def audio_dropped(self) -> str:
        """Return seconds of dropped audio in a second of a call, by direction."""
        return self.per_call_second("audio_dropped_seconds_total", "direction")

    # Processes

    def processes(self, process: str) -> str:
        """Return the running processes of a role. The event loop of each is measured once a second."""
        ticks = self.rate("event_loop_lag_seconds_count", match=(f'process="{process}"',))
        return f"round({ticks})"

    def workers(self) -> str:
        """Return targets with workers; 0 if dispatchers have none."""
        none = self.grouped("count", self.series("redis_up"))
        return f"({self.grouped('count', self.series('calls_capacity'))} or 0 * {none})"

    def dispatchers(self) -> str:
        """Return targets with dispatchers."""
        return self.grouped("count", self.series("redis_up"))

    def releases(self) -> str:
        """Return the number of versions that run."""
        versions = self.grouped("count", self.series("build_info"), "version")
        return self.grouped("count", versions)

    def files_used(self) -> str:
        """Return the open files of the fullest process, as a share of its limit, by kind of process."""
        used = f"{self.of_process('process_open_fds')} / {self.of_process('process_max_fds')}"
        return self.grouped("max", used, "process")

    def grouping_interval(self) -> str:
        """Return the longest interval at which sockets are read, by kind of process."""
        return self.grouped("max", self.series("grouping_interval_seconds"), "process")

    def worker_restarts(self) -> str:
        """Return restarts of workers over the window."""
        return self._restarts("worker")

    def dispatcher_restarts(self) -> str:
        """Return restarts of dispatchers over the window."""
        return self._restarts("dispatcher")

    def redis_restarts(self) -> str:
        """Return restarts of the Redis of `serve` over the window; 0 where Redis is another one."""
        return f"{self.increase('redis_restarts_total')} or 0 * {self.redis()}"

    def _restarts(self, process: str) -> str:
        """Return restarts counted by `serve`, or by the cluster, whose restarted containers count from 0."""
        ticks = self.series("event_loop_lag_seconds_count", f'process="{process}"')
        resets = self.grouped("sum", f"resets({ticks}[{self.window}])")
        return f"{resets} + ({self.increase(f'{process}_restarts_total')} or 0 * {resets})"

    def redis(self) -> str:
        """Return 1 if all dispatchers reach Redis, otherwise 0."""
        return self.grouped("min", self.series("redis_up"))

    def worker_redis(self) -> str:
        """Return the workers that do not reach Redis."""
        return self.grouped("sum", f"1 - {self.series('worker_redis_up')}")

    def task_failures(self) -> str:
        """Return failures in a minute, by process and task."""
        return f"60 * {self.rate('task_failures_total', 'process', 'task')}"

    def illegal_transitions(self) -> str:
        """Return faults of our state machines in a minute."""
        return f"60 * {self.rate('illegal_transitions_total')}"

    def connections_refused(self) -> str:
        """Return refused connections over the window, by reason."""
        return self.increase("connections_refused_total", "reason")

    def recording_stopped(self) -> str:
        """Return dispatchers whose disk takes no recordings."""
        return self.total("recording_stopped")

    def records_oldest(self) -> str:
        """Return the longest time that a call record has waited for delivery."""
        return self.grouped("max", self.series("call_records_oldest_seconds"))

    def records_lost(self) -> str:
        """Return the call records that were dropped, or that a sink did not take, over the window."""
        return self.increase("call_records_total", match=('outcome=~"dropped|dead"',))

    def recording_dropped(self, *labels: str) -> str:
        """Return the seconds of calls that are missing in recordings, over the window."""
        return self.increase("recording_dropped_seconds_total", *labels)

    def processes_total(self, name: str, *labels: str) -> str:
        """Return the sum of a figure of all processes, such as `process_open_fds`."""
        return self.grouped("sum", self.of_process(name), *labels)

    def of_process(self, name: str) -> str:
        """Return the selector of a figure that each process has under its usual name, without our prefix."""
        return f"{name}{{{', '.join((_OUR_PROCESSES, *self.matchers))}}}"

    def cpu(self, *labels: str) -> str:
        """Return the CPU cores that processes use."""
        return self.grouped("sum", f"rate({self.of_process('process_cpu_seconds_total')}[{self.window}])", *labels)

    # Conversation

    def turn_part(self) -> str:
        """Return the mean time of each part of a turn's latency; they add up to the mean latency."""
        seconds = self.rate("turn_part_seconds_sum", "part")
        return f"{seconds} / ({self.rate('turn_part_seconds_count', 'part')} > 0)"

    def barge_in(self) -> str:
        """Return interruptions for each turn of the caller; empty without turns."""
        return f"{self.rate('interruptions_total')} / ({self.rate('turn_latency_seconds_count')} > 0)"

    def tool_failed(self, *labels: str) -> str:
        """Return the share of tool calls that failed; empty without tool calls."""
        failed = self.rate("tool_calls_total", *labels, match=('outcome!="completed"',))
        return f"{failed} / ({self.rate('tool_calls_total', *labels)} > 0)"

    def upstream_errors(self) -> str:
        """Return errors in a minute of a call, without those of calls that brought a key of their own."""
        return f"60 * {self.per_call_second('upstream_errors_total', match=(NOT_OF_A_CALL,))}"

    def upstream_refusals(self, key: str = NOT_OF_A_CALL) -> str:
        """Return errors that last until the account or the settings are mended, by code; `key` is a matcher."""
        return self.increase("upstream_errors_total", "code", match=(_one_of("code", OPERATOR_CODES), key))

    def upstream_refused(self) -> str:
        """Return 1 if the last attempt of any worker with our own key was refused, otherwise 0."""
        return self.grouped("max", self.series("upstream_refused"))

    def rate_limit_remaining(self) -> str:
        """Return the remaining part of the API's limits, by limit, at workers with calls.

        A worker without calls is told nothing, so its last value is old.
        """
        with_calls = f"{self.series('calls_active')} > 0"
        figure = f"{self.series('upstream_rate_limit_remaining')} and ignoring (limit) ({with_calls})"
        return self.grouped("min", figure, "limit")

    def caller_audio_gaps(self) -> str:
        """Return seconds without a frame of the caller in a second of a call."""
        return self.per_call_second("caller_audio_gap_seconds_total")

    def fallbacks_failed(self) -> str:
        """Return the calls that should have gone to people and ended instead, over the window."""
        return self.increase("fallbacks_total", match=('outcome="failed"',))

    def recovery(self) -> str:
        """Return p95 of recoveries that callers notice; a worker or session replaced in time causes no silence."""
        buckets = self.rate("recovery_seconds_bucket", "le", match=('reason=~"worker_lost|dropped"',))
        return f"histogram_quantile(0.95, {buckets})"

    def upstream_drops(self) -> str:
        """Return Realtime connections that broke, in an hour of a call."""
        drops = self.per_call_second("upstream_reconnects_total", match=('reason="dropped"',))
        return f"3600 * {drops}"

    # Cost

    def cost_per_hour(self, *labels: str) -> str:
        """Return US dollars per hour."""
        return f"3600 * {self.rate('cost_usd_total', *labels)}"

    def cost_per_call_minute(self) -> str:
        """Return US dollars for a minute of a call."""
        return f"60 * {self.per_call_second('cost_usd_total')}"

    def cost_per_call(self) -> str:
        """Return US dollars for a call; empty if none ended. A call has a session for each worker that had it."""
        return f"{self.increase('cost_usd_total')} / ({self.increase('call_duration_seconds_count')} > 0)"

    def cost_per_token(self) -> str:
        """Return US dollars for a token, by model; 0 for a model without a price, empty for an unused model."""
        tokens = self.increase("tokens_total", "model")
        return f"({self.increase('cost_usd_total', 'model')} or 0 * {tokens}) / ({tokens} > 0)"

    def unpriced(self) -> str:
        """Return the share of tokens that are of models without a price."""
        priced = f"{self.rate('cost_usd_total', 'model')} > 0"
        on = ", ".join((*self.by, "model"))
        unpriced = self.grouped("sum", f"{self.rate('tokens_total', 'model')} unless on ({on}) ({priced})")
        tokens = self.rate("tokens_total")
        return f"({unpriced} or 0 * {tokens}) / ({tokens} > 0)"

    def tokens_per_call_second(self) -> str:
        """Return tokens in a second of a call, by direction."""
        return self.per_call_second("tokens_total", "direction")

    def cached_input(self, *labels: str) -> str:
        """Return the share of input tokens that were cached; empty without input."""
        cached = self.rate("tokens_total", *labels, match=('direction="input"', 'cached="true"'))
        everything = self.rate("tokens_total", *labels, match=('direction="input"',))
        return f"{cached} / ({everything} > 0)"

    def _beside(self, labels: tuple[str, ...]) -> str:
        return f"on ({', '.join(self.by)}) group_left () " if labels else ""
