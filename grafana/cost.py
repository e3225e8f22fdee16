"""Dashboard *Cost*: tokens and their price."""

from __future__ import annotations

from typing import Final

from grafana import thresholds
from grafana.dashboard import NOW, SHOWN, Dashboard, Row
from grafana.formulas import Formulas
from grafana.panels import Query, lines, number

_1H: Final = Formulas(NOW.matchers, "1h")

COST: Final = Dashboard(
    "cost",
    "Cost",
    "What calls use up: tokens by class, and US dollars by the price file (PRICES_FILE, or the built-in one).",
    (
        Row(
            "Over all that is shown",
            (
                number("Total cost", "All that was spent.", "currencyUSD", SHOWN.increase("cost_usd_total")),
                number("Mean cost per hour", "Over all that is shown.", "currencyUSD", SHOWN.cost_per_hour()),
                number(
                    "Mean cost per call",
                    "Over the calls that ended. A call that moved to another worker is one call.",
                    "currencyUSD",
                    SHOWN.cost_per_call(),
                ),
                number(
                    "Mean cost per minute of a call",
                    "Over all that is shown.",
                    "currencyUSD",
                    SHOWN.cost_per_call_minute(),
                    limits=thresholds.COST_USD_PER_CALL_MINUTE,
                ),
                number(
                    "Cached input tokens",
                    "Part of the input tokens that the API had cached, at a fraction of the price.",
                    "percentunit",
                    SHOWN.cached_input(),
                    limits=thresholds.CACHED_INPUT,
                ),
                number(
                    "Tokens without a price",
                    "Part of all tokens that are of models which the price file does not have: their cost is not"
                    " here.",
                    "percentunit",
                    SHOWN.unpriced(),
                    limits=thresholds.UNPRICED,
                ),
            ),
        ),
        Row(
            "US dollars",
            (
                lines(
                    "Cost per hour",
                    "At the present rate, by model.",
                    "currencyUSD",
                    Query(NOW.cost_per_hour("model"), "{{model}}"),
                    stacked=True,
                ),
                lines(
                    "Cost per hour and tenant",
                    "At the present rate. Without TENANT_KEY there is one line, without a name.",
                    "currencyUSD",
                    Query(NOW.cost_per_hour("tenant"), "{{tenant}}"),
                    stacked=True,
                ),
                lines(
                    "Cost per call",
                    "Spent in an hour, by the calls that ended in it.",
                    "currencyUSD",
                    Query(_1H.cost_per_call(), "a call"),
                ),
                lines(
                    "Cost per minute of a call",
                    "Spent in a minute of one call.",
                    "currencyUSD",
                    Query(NOW.cost_per_call_minute(), "a minute"),
                    limits=thresholds.COST_USD_PER_CALL_MINUTE,
                ),
            ),
        ),
        Row(
            "Tokens",
            (
                lines(
                    "Tokens by class",
                    "In a minute. Each token counts once: cached input is not part of the other input.",
                    "cpm",
                    Query(
                        f"60 * {NOW.rate('tokens_total', 'direction', 'modality', 'cached')}",
                        "{{direction}} {{modality}} cached={{cached}}",
                    ),
                    stacked=True,
                ),
                lines(
                    "Tokens by model",
                    "In a minute.",
                    "cpm",
                    Query(f"60 * {NOW.rate('tokens_total', 'model')}", "{{model}}"),
                    stacked=True,
                ),
                lines(
                    "Cached input",
                    "Part of the input tokens that the API had cached. It falls when instructions or tools change"
                    " in a call, and with OPENAI_TRUNCATION.",
                    "percentunit",
                    Query(NOW.cached_input("modality"), "{{modality}}"),
                    limits=thresholds.CACHED_INPUT,
                ),
                lines(
                    "Tokens of a minute of a call",
                    "Input grows with the conversation, as each response reads all of it; output is what was"
                    " said.",
                    "short",
                    Query(f"60 * {NOW.tokens_per_call_second()}", "{{direction}}"),
                ),
            ),
        ),
    ),
)
