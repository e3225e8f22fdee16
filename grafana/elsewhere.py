"""Links from a dashboard to the live page, the logs and the traces, and marks of rollouts on its panels.

Logs and traces are at data sources that the reader chooses: Loki and Tempo, or what speaks their languages.
"""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote

from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.models import dashboard

from grafana.formulas import Formulas
from grafana.source import SOURCE

PAGE: Final = "http://localhost:9080/"
"""Address of the live page in docker-compose.yml. The chart puts `monitoring.dashboards.pageUrl` in its place."""

LOGS: Final = '{container=~"(avr-sts.*)?(dispatcher|worker).*"} | json | level=~"warning|error|critical"'
"""LogQL of what went wrong. Collectors of Kubernetes and of Docker set the label `container`."""

TRACES: Final = '{resource.service.name="avr-sts-openai" && status=error}'
"""TraceQL of calls with an error (docs/tracing.md)."""


def variables() -> list[dashboards.DatasourceVariable]:
    """Return the variables that the links need."""
    return [
        dashboards.DatasourceVariable("logs").label("Logs").type("loki"),
        dashboards.DatasourceVariable("traces").label("Traces").type("tempo"),
    ]


def links() -> list[dashboards.DashboardLink]:
    """Return the links in the order of a search: the page, the logs, the traces."""
    return [
        _link("Live page", PAGE, "The calls under way, workers and problems (needs ADMIN_TOKEN)"),
        _link("Logs", _explore("logs", {"expr": LOGS}), "Warnings and errors of the time that is shown"),
        _link(
            "Traces",
            _explore("traces", {"queryType": "traceql", "query": TRACES}),
            "Calls with an error, in the time that is shown",
        ),
    ]


def marks(figures: Formulas) -> list[dict[str, Any]]:
    """Return the annotations of rollouts, as Grafana reads them; the SDK lacks some of their fields.

    A release appears when its first process runs. A change of settings alone shows as started processes, which are
    off until they are asked for, because each worker would have a mark.
    """
    info = figures.series("build_info")
    running = figures.grouped("count", info, "version")
    earlier = figures.grouped("count", f"last_over_time({info}[1h] offset 5m)", "version")
    started = f"1000 * {figures.of_process('process_start_time_seconds')}"
    return [
        _mark("Releases", f"{running} unless {earlier}", "Release {{version}}", "blue", is_on=True),
        _mark("Process starts", started, "{{process}} {{pod}} started", "purple", is_on=False)
        | {"useValueForTime": True},
    ]


def _mark(name: str, expr: str, title: str, colour: str, *, is_on: bool) -> dict[str, Any]:
    return {
        "name": name,
        "datasource": SOURCE.to_json(),
        "enable": is_on,
        "hide": False,
        "iconColor": colour,
        "expr": expr,
        "step": "60s",
        "titleFormat": title,
    }


def _link(title: str, url: str, tooltip: str) -> dashboards.DashboardLink:
    return (
        dashboards.DashboardLink(title)
        .type(dashboard.DashboardLinkType.LINK)
        .url(url)
        .tooltip(tooltip)
        .icon("external link")
        .target_blank(True)
    )


def _explore(source: str, query: dict[str, str]) -> str:
    """Return the address of Grafana's Explore, with the data source and the time range of the dashboard."""
    pane = {
        "datasource": f"${{{source}}}",
        "queries": [{"refId": "A", "datasource": {"uid": f"${{{source}}}"}} | query],
        "range": {"from": "${__from}", "to": "${__to}"},
    }
    # Grafana replaces its variables in the address, so `$`, `{` and `}` stay as they are.
    return "/explore?schemaVersion=1&panes=" + quote(json.dumps({source: pane}), safe="${}")
