"""What is asked of Prometheus, in one place for dashboards and rules.

Nothing here needs a label that only some set-ups have: grouped by `namespace` where there is none, all is one
group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from common.observe.upstream_codes import OPERATOR_CODES

PREFIX: Final = "avr_sts_"


@dataclass(frozen=True, slots=True)
class Formulas:
    """PromQL over the series that `matchers` select.

    Attributes:
        matchers: what every selector has, such as `namespace="voice"`.
        window: the range that rates are taken over.
        by: labels that figures are kept apart by.
    """

    matchers: tuple[str, ...] = ()
    window: str = "5m"
    by: tuple[str, ...] = ()

    def series(self, name: str, *matchers: str) -> str:
        """A metric, without its prefix."""
        selected = ", ".join((*matchers, *self.matchers))
        return f"{PREFIX}{name}{{{selected}}}" if selected else PREFIX + name

    def grouped(self, aggregation: str, inner: str, *labels: str) -> str:
        """`inner`, aggregated to one value for each group, and for each value of `labels`."""
        by = ", ".join((*self.by, *labels))
        return f"{aggregation} by ({by}) ({inner})" if by else f"{aggregation}({inner})"

    def total(self, name: str, *labels: str) -> str:
        """Sum of a gauge."""
        return self.grouped("sum", self.series(name), *labels)

    def rate(self, name: str, *labels: str, match: tuple[str, ...] = ()) -> str:
        """Of a counter, per second."""
        return self.grouped("sum", f"rate({self.series(name, *match)}[{self.window}])", *labels)

    def increase(self, name: str, *labels: str, match: tuple[str, ...] = ()) -> str:
        """Of a counter, over the window."""
        return self.grouped("sum", f"increase({self.series(name, *match)}[{self.window}])", *labels)

    def quantile(self, share: float, histogram: str, *labels: str) -> str:
        """Of a histogram, over the window."""
        return f"histogram_quantile({share:g}, {self.rate(f'{histogram}_bucket', 'le', *labels)})"

    def p95(self, histogram: str, *labels: str) -> str:
        """Of a histogram, over the window: what one in twenty exceeds."""
        return self.quantile(0.95, histogram, *labels)

    def buckets(self, histogram: str) -> str:
        """What fell into each bucket over the window, for a heatmap."""
        return self.increase(f"{histogram}_bucket", "le")

    # Calls

    def rejected(self) -> str:
        """Calls that found no worker with room, over the window."""
        return self.increase("calls_total", match=('outcome="rejected"',))

    def load(self) -> str:
        """Calls under way, as a part of those that workers take."""
        return f"{self.total('calls_active')} / {self.total('calls_capacity')}"

    def calls_failed(self) -> str:
        """Part of the calls that ended by a fault; nothing where none ended."""
        failed = self.rate("calls_total", match=('outcome="failed"',))
        return f"{failed} / ({self.rate('calls_total')} > 0)"

    def calls(self) -> str:
        """Calls under way on the average; nothing where there were none."""
        average = self.grouped("sum", f"avg_over_time({self.series('calls_active')}[{self.window}])")
        return f"({average} > 0)"

    def per_call_second(self, name: str, *labels: str, match: tuple[str, ...] = ()) -> str:
        """A counter's rate in a second of one call."""
        rate = self.rate(name, *labels, match=match)
        return f"{rate} / {self._beside(labels)}{self.calls()}"

    def audio_dropped(self) -> str:
        """Seconds thrown away in a second of a call, by direction."""
        return self.per_call_second("audio_dropped_seconds_total", "direction")

    # Processes

    def processes(self, process: str) -> str:
        """Processes of a role that run. The event loop of each is looked at once a second."""
        ticks = self.rate("event_loop_lag_seconds_count", match=(f'process="{process}"',))
        return f"round({ticks})"

    def workers(self) -> str:
        """Targets with workers; 0 where dispatchers have none."""
        none = self.grouped("count", self.series("redis_up"))
        return f"({self.grouped('count', self.series('calls_capacity'))} or 0 * {none})"

    def worker_restarts(self) -> str:
        """By `serve`, which counts them, or by the cluster, where a restarted container counts from 0 again."""
        ticks = self.series("event_loop_lag_seconds_count", 'process="worker"')
        resets = self.grouped("sum", f"resets({ticks}[{self.window}])")
        return f"{resets} + ({self.increase('worker_restarts_total')} or 0 * {resets})"

    def redis(self) -> str:
        """1 where every dispatcher reaches Redis, else 0."""
        return self.grouped("min", self.series("redis_up"))

    # Conversation

    def barge_in(self) -> str:
        """Interruptions for each turn of the caller; nothing where nobody spoke."""
        return f"{self.rate('interruptions_total')} / ({self.rate('turn_latency_seconds_count')} > 0)"

    def tool_failed(self, *labels: str) -> str:
        """Part of the calls of tools that did not end well; nothing where none was called."""
        failed = self.rate("tool_calls_total", *labels, match=('outcome!="completed"',))
        return f"{failed} / ({self.rate('tool_calls_total', *labels)} > 0)"

    def upstream_errors(self) -> str:
        """In a minute of a call."""
        return f"60 * {self.per_call_second('upstream_errors_total')}"

    def upstream_refusals(self) -> str:
        """Errors that go on until somebody mends the account or the settings, by code."""
        codes = "|".join(OPERATOR_CODES)
        return self.increase("upstream_errors_total", "code", match=(f'code=~"{codes}"',))

    def recovery(self) -> str:
        """p95 of what callers notice: where a worker or session is replaced in good time, nothing falls silent."""
        buckets = self.rate("recovery_seconds_bucket", "le", match=('reason=~"worker_lost|dropped"',))
        return f"histogram_quantile(0.95, {buckets})"

    def upstream_drops(self) -> str:
        """Realtime connections that broke, in an hour of a call."""
        drops = self.per_call_second("upstream_reconnects_total", match=('reason="dropped"',))
        return f"3600 * {drops}"

    # Cost

    def cost_per_hour(self, *labels: str) -> str:
        """US dollars."""
        return f"3600 * {self.rate('cost_usd_total', *labels)}"

    def cost_per_call_minute(self) -> str:
        """US dollars."""
        return f"60 * {self.per_call_second('cost_usd_total')}"

    def cost_per_call(self) -> str:
        """US dollars; nothing where no call ended."""
        return f"{self.increase('cost_usd_total')} / ({self.increase('session_duration_seconds_count')} > 0)"

    def cost_per_token(self) -> str:
        """US dollars, by model; 0 where a model has no price, nothing where it was not used."""
        tokens = self.increase("tokens_total", "model")
        return f"({self.increase('cost_usd_total', 'model')} or 0 * {tokens}) / ({tokens} > 0)"

    def unpriced(self) -> str:
        """Part of the tokens that are of models without a price."""
        priced = f"{self.rate('cost_usd_total', 'model')} > 0"
        on = ", ".join((*self.by, "model"))
        unpriced = self.grouped("sum", f"{self.rate('tokens_total', 'model')} unless on ({on}) ({priced})")
        tokens = self.rate("tokens_total")
        return f"({unpriced} or 0 * {tokens}) / ({tokens} > 0)"

    def tokens_per_call_second(self) -> str:
        """By direction."""
        return self.per_call_second("tokens_total", "direction")

    def cached_input(self, *labels: str) -> str:
        """Part of the input tokens that was cached; nothing where there were none."""
        cached = self.rate("tokens_total", *labels, match=('direction="input"', 'cached="true"'))
        everything = self.rate("tokens_total", *labels, match=('direction="input"',))
        return f"{cached} / ({everything} > 0)"

    def _beside(self, labels: tuple[str, ...]) -> str:
        return f"on ({', '.join(self.by)}) group_left () " if labels else ""
