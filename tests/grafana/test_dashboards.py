"""Dashboards: the files agree with the code, and each panel names its content."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import fields
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from grafana import elsewhere, generate, thresholds
from grafana.dashboard import Dashboard
from grafana.generate import DASHBOARDS
from grafana.thresholds import Limits
from tests.common.metric_table import METRICS
from tests.grafana import promql

# None of these has a value that is bad by itself.
WITHOUT_THRESHOLD = {
    "overview": {"Calls", "Calls by outcome", "Failures by reason", "All endings", "Length of calls"}
    | {"Calls by tenant", "Failures and reasons", "Tenants"},
    "fleet": {"Calls now", "Calls against capacity", "Processes", "Releases", "Memory", "CPU"}
    | {"Event loops: intervals"}
    | {"Calls pinned to each worker", "Calls given to another worker", "Sessions that ended"}
    | {"Invalid messages of AVR Core", "Connections refused at the door", "Log lines dropped"}
    | {"Call records", "Call records that wait", "Recordings", "Spans dropped"},
    "conversation": {"Barge-ins per turn", "Sessions reopened", "Turns and barge-ins", "Barge-ins for each turn"}
    | {"Keys", "Calls of tools", "Errors by code", "Calls that could not go on", "Waiting for an answer"}
    | {"Answers asked for again", "Answers given up", "Reconnects", "Parts of the wait for an answer"}
    | {"Slowest tools", "Number of gaps", "Sessions that wait"},
    "cost": {"Total cost", "Cost per hour", "Cost per hour and tenant", "Cost per call", "Tokens by class"}
    | {"Tokens by model", "Tokens of a minute of a call", "Mean cost per hour", "Mean cost per call"},
}


PANELS = [
    (dashboard, panel)
    for dashboard in DASHBOARDS
    for panel in dashboard.wire()["panels"]
    if panel["type"] != "row"
]

every_dashboard = pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)
every_panel = pytest.mark.parametrize(
    ("dashboard", "panel"),
    PANELS,
    ids=[f"{dashboard.name}: {panel['title']} ({panel['type']})" for dashboard, panel in PANELS],
)


def test_written_dashboards_agree_with_the_code() -> None:
    written = generate.files()
    there = {path for folder in ("dashboards", "rules") for path in (generate.DIRECTORY / folder).iterdir()}
    assert there == written.keys()
    for path, text in written.items():
        assert path.read_text("utf-8") == text, "run python -m grafana.generate"


def test_written_dashboards_are_strict_json() -> None:
    for path, text in generate.files().items():
        if path.suffix == ".json":
            json.loads(text, parse_constant=_not_json)


def _not_json(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


@every_panel
def test_a_panel_has_a_title_a_unit_and_a_description(dashboard: Dashboard, panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    if panel["type"] == "heatmap":
        assert panel["options"]["yAxis"]["unit"] == panel["fieldConfig"]["defaults"]["unit"]


@every_panel
def test_a_panel_has_a_threshold_or_a_reason_for_none(dashboard: Dashboard, panel: dict[str, Any]) -> None:
    if panel["type"] == "heatmap":  # coloured by the number of observations
        return
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert (len(steps) == 1) == (panel["title"] in WITHOUT_THRESHOLD[dashboard.name])
    assert steps[0]["value"] is None
    bounds = [step["value"] for step in steps[1:]]
    assert bounds == sorted(bounds)
    if len(steps) > 1 and panel["type"] == "timeseries":
        assert panel["fieldConfig"]["defaults"]["custom"]["thresholdsStyle"]["mode"] == "dashed"


@every_panel
def test_a_panel_asks_the_chosen_source_about_the_chosen_pods(dashboard: Dashboard, panel: dict[str, Any]) -> None:
    assert panel["datasource"]["uid"] == "${datasource}"
    assert panel["targets"]
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == "${datasource}"
        selectors = len(re.findall(r"(?<![\w:])(?:avr_sts|process)_\w+\{", target["expr"]))
        assert target["expr"].count('namespace=~"$namespace", pod=~"$pod"') == selectors
        assert selectors or "ALERTS" in target["expr"]
        # Each series of a figure has its own name.
        assert panel["type"] in ("stat", "table") or target["legendFormat"]


@every_panel
def test_a_panel_asks_for_metrics_that_exist(dashboard: Dashboard, panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        assert promql.metrics(target["expr"]) <= METRICS.keys()
        # Dashboards also work without loaded rules.
        assert not promql.recorded(target["expr"])


def test_every_metric_is_on_a_dashboard() -> None:
    exprs = [target["expr"] for _, panel in PANELS for target in panel["targets"]]
    assert set.union(*map(promql.metrics, exprs)) == METRICS.keys()


@every_dashboard
def test_panels_do_not_lie_on_each_other(dashboard: Dashboard) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard.wire()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


@every_dashboard
def test_a_dashboard_has_its_variables_and_links_to_the_others(dashboard: Dashboard) -> None:
    wire = dashboard.wire()
    variables = {variable["name"]: variable for variable in wire["templating"]["list"]}
    assert list(variables) == ["datasource", "namespace", "pod", "logs", "traces"]
    assert variables["datasource"]["query"] == "prometheus"
    for name in ("namespace", "pod"):
        assert variables[name]["includeAll"]
        assert variables[name]["multi"]
        # A missing label is empty, and All includes an empty one.
        assert variables[name]["allValue"] == ".*"
        assert variables[name]["query"]["query"].endswith(f", {name})")
    assert wire["links"][0]["tags"] == wire["tags"]
    assert wire["links"][0]["includeVars"]
    assert wire["description"]
    assert len({panel["id"] for panel in wire["panels"]}) == len(wire["panels"])


def test_dashboards_are_told_apart() -> None:
    assert len({dashboard.wire()["uid"] for dashboard in DASHBOARDS}) == len(DASHBOARDS)
    assert [dashboard.title for dashboard in DASHBOARDS] == ["Overview", "Fleet", "Conversation", "Cost"]


@every_dashboard
def test_no_two_panels_have_one_title(dashboard: Dashboard) -> None:
    titles = Counter(panel["title"] for panel in dashboard.wire()["panels"] if panel["type"] != "row")
    assert not [title for title, number in titles.items() if number > 1]


@every_panel
def test_a_single_point_can_be_seen(dashboard: Dashboard, panel: dict[str, Any]) -> None:
    if panel["type"] == "timeseries":
        custom = panel["fieldConfig"]["defaults"]["custom"]
        assert custom["showPoints"] == "auto"
        assert custom["pointSize"] >= 4


@every_panel
def test_a_table_names_its_columns(dashboard: Dashboard, panel: dict[str, Any]) -> None:
    if panel["type"] != "table":
        return
    assert all(target["format"] == "table" and target["instant"] for target in panel["targets"])
    (organize,) = [each for each in panel["transformations"] if each["id"] == "organize"]
    renamed = organize["options"]["renameByName"]
    overridden = {each["matcher"]["options"] for each in panel["fieldConfig"]["overrides"]}
    assert len(renamed) == len(panel["targets"]) + 1
    assert overridden < set(renamed.values())
    # Rows are merged by their only label.
    label = next(iter(renamed))
    assert all(
        f"by ({label})" in target["expr"] or f"by (le, {label})" in target["expr"] for target in panel["targets"]
    )


@every_dashboard
def test_a_dashboard_leads_to_page_logs_and_traces(dashboard: Dashboard) -> None:
    _, page, logs, traces = dashboard.wire()["links"]
    assert page["url"] == elsewhere.PAGE
    for link, name in ((logs, "logs"), (traces, "traces")):
        address = link["url"].replace(f"${{{name}}}", "uid").replace("${__from}", "1").replace("${__to}", "2")
        (panes,) = parse_qs(urlsplit(address).query)["panes"]
        pane = json.loads(panes)[name]
        assert pane["datasource"] == "uid"
        assert pane["range"] == {"from": "1", "to": "2"}
        assert pane["queries"][0].keys() >= {"refId", "datasource"}


@every_dashboard
def test_rollouts_are_marked(dashboard: Dashboard) -> None:
    releases, starts = dashboard.wire()["annotations"]["list"]
    assert promql.metrics(releases["expr"]) <= METRICS.keys()
    assert releases["enable"]
    assert not starts["enable"]
    for mark in (releases, starts):
        assert mark["datasource"]["uid"] == "${datasource}"
        assert 'namespace=~"$namespace", pod=~"$pod"' in mark["expr"]


def test_length_and_cost_count_calls_not_sessions() -> None:
    exprs = {panel["title"]: panel["targets"][0]["expr"] for _, panel in PANELS}
    for title in ("Length of calls", "Cost per call", "Mean cost per call"):
        assert "call_duration_seconds" in exprs[title]
        assert "session_duration" not in exprs[title]


@pytest.mark.parametrize(
    "name", [name for name in dir(thresholds) if isinstance(getattr(thresholds, name), Limits)]
)
def test_red_is_worse_than_yellow(name: str) -> None:
    limits = getattr(thresholds, name)
    assert limits.red < limits.yellow if limits.low_is_bad else limits.red > limits.yellow
    assert len(fields(limits)) == 3
