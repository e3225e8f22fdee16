"""A dashboard: its variables, its links to other dashboards, and its rows of panels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard

from grafana import elsewhere
from grafana.formulas import PREFIX, Formulas
from grafana.panels import Panel
from grafana.source import SOURCE

TAG: Final = "avr-sts"
ALL: Final = ".*"
"""Value of `All` in a variable. It also matches series without the label."""

# Grafana's `$__rate_interval` is at least four scrapes, so that a rate has two samples at every zoom.
NOW: Final = Formulas(('namespace=~"$namespace"', 'pod=~"$pod"'), "$__rate_interval")
SHOWN: Final = Formulas(NOW.matchers, "$__range")
"""Figures over all that the dashboard shows."""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One dashboard.

    Attributes:
        name: name of the file, and part of the dashboard's address in Grafana.
        title: title for people.
        description: purpose of the dashboard.
        rows: rows from top to bottom.
        shows: time range, such as `6h`.
    """

    name: str
    title: str
    description: str
    rows: Sequence[Row]
    shows: str = "3h"

    def wire(self) -> dict[str, Any]:
        """Return the dashboard as Grafana reads it."""
        built = (
            dashboards.Dashboard(f"AVR STS / {self.title}")
            .uid(f"{TAG}-{self.name}")
            .description(self.description)
            .tags([TAG])
            .readonly()
            .timezone("browser")
            .refresh("30s")
            .time(f"now-{self.shows}", "now")
            .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
            .variables(
                [
                    dashboards.DatasourceVariable("datasource").label("Data source").type("prometheus"),
                    _variable("namespace", "Namespace", f"{PREFIX}event_loop_lag_seconds_count"),
                    _variable("pod", "Pod", f'{PREFIX}event_loop_lag_seconds_count{{namespace=~"$namespace"}}'),
                    *elsewhere.variables(),
                ]
            )
            .link(
                dashboards.DashboardLink("AVR STS")
                .type(dashboard.DashboardLinkType.DASHBOARDS)
                .tags([TAG])
                .include_vars(True)
                .keep_time(True)
            )
        )
        for link in elsewhere.links():
            built.link(link)
        for row in self.rows:
            built.with_row(dashboards.Row(row.title))
            for panel in row.panels:
                built.with_panel(panel)
        whole: dict[str, Any] = json.loads(json.dumps(built.build(), cls=JSONEncoder))
        for number, panel in enumerate(whole["panels"], 1):
            panel["id"] = number  # part of a panel's address
        whole["annotations"] = {"list": elsewhere.marks(NOW)}
        return whole


def _variable(name: str, label: str, series: str) -> dashboards.QueryVariable:
    query = f"label_values({series}, {name})"
    return (
        dashboards.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"query": query, "refId": name})
        .multi(True)
        .include_all(True)
        .all_value(ALL)
        .current(dashboard.VariableOption(text="All", value="$__all"))
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
    )
