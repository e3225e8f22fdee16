"""Counter of the tokens, costs and measurements of a worker's sessions."""

from __future__ import annotations

from collections.abc import Callable

from common.observe.metrics import RetryReason, WorkerMetrics
from worker.config.prices import Prices
from worker.realtime.bad_input import BadInput
from worker.realtime.usage import TranscriptionUsage, Usage
from worker.runner.own_key import SessionKey
from worker.runner.session_figures import SessionFigures
from worker.session.actions import Measurement, Metric


class UsageCounter:
    """The counter of one call's measurements, tokens and cost.

    Attributes:
        tenant: of the call; empty: there are no tenants.
    """

    def __init__(self, metrics: WorkerMetrics, prices: Prices, figures: SessionFigures, key: SessionKey) -> None:
        self.tenant = ""
        self._metrics = metrics
        self._key = key
        self._prices = prices
        self._figures = figures

    def measured(self, measurement: Measurement) -> None:
        """Count a measurement of the session's."""
        report = _REPORTS.get(measurement.seen)
        if report is not None:
            report(self._metrics, measurement.value, measurement.label)
        match measurement.seen:
            case Metric.TURN_LATENCY_SECONDS:
                self._figures.answered(measurement.value)
            case Metric.TURN_PART_SECONDS:
                self._figures.took(measurement.label, measurement.value)
            case Metric.ANSWER_WAIT_SECONDS:
                self._key.answered()
            case Metric.UPSTREAM_ERROR:
                self._key.failed(measurement.label)
            case Metric.SIDE_ERROR:
                self._key.error(measurement.label)
            case Metric.RATE_LIMIT_REMAINING:
                self._key.remaining(measurement.label, measurement.value, measurement.of)
            case Metric.ANSWER_RETRIED:
                self._figures.retried()
            case Metric.ANSWER_GIVEN_UP:
                self._figures.gave_up()
            case _:
                pass

    def tokens(self, model: str, usage: Usage) -> None:
        """Count the tokens of a response."""
        tokens = self._metrics.tokens(model)
        tokens.input_text.inc(usage.input_text)
        tokens.input_audio.inc(usage.input_audio)
        tokens.input_text_cached.inc(usage.cached_text)
        tokens.input_audio_cached.inc(usage.cached_audio)
        tokens.output_text.inc(usage.output_text)
        tokens.output_audio.inc(usage.output_audio)
        cost_usd = self._prices.cost_usd(model, usage)
        self._figures.used(model, usage, cost_usd)
        self._count_cost(model, cost_usd)

    def transcription(self, model: str, reported: object) -> None:
        """Count the usage of a transcription, as the API reports it."""
        try:
            usage = TranscriptionUsage.from_event(reported)
        except ValueError:
            self._key.error(BadInput.USAGE)
            return
        tokens = self._metrics.tokens(model)
        tokens.input_text.inc(usage.input_text)
        tokens.input_audio.inc(usage.input_audio)
        tokens.output_text.inc(usage.output_text)
        cost_usd = self._prices.transcription_cost_usd(model, usage)
        self._figures.transcribed(model, usage, cost_usd)
        self._count_cost(model, cost_usd)

    def _count_cost(self, model: str, cost_usd: float | None) -> None:
        if cost_usd is not None:
            self._metrics.cost_usd.inc(model, self.tenant, cost_usd)


_REPORTS: dict[Metric, Callable[[WorkerMetrics, float, str], None]] = {
    Metric.TURN_LATENCY_SECONDS: lambda metrics, seconds, _: metrics.turn_latency.observe(seconds),
    Metric.TURN_PART_SECONDS: lambda metrics, seconds, part: metrics.turn_part[part].observe(seconds),
    Metric.ANSWER_WAIT_SECONDS: lambda metrics, seconds, _: metrics.answer_wait.observe(seconds),
    Metric.ANSWER_RETRIED: lambda metrics, _, reason: metrics.answers_retried[RetryReason(reason)].inc(),
    Metric.ANSWER_GIVEN_UP: lambda metrics, _, reason: metrics.answers_given_up[RetryReason(reason)].inc(),
    Metric.CALLER_AUDIO_DROPPED_SECONDS: lambda metrics, seconds, _: metrics.audio_dropped_in.inc(seconds),
    Metric.REPLY_AUDIO_DROPPED_SECONDS: lambda metrics, seconds, _: metrics.audio_dropped_out.inc(seconds),
}
