"""The objects for Prometheus' and Grafana's operators."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana import elsewhere
from tests.helm.matrix import MATRIX
from tests.helm.release import Release, copy_of_chart, render

EVERYTHING = MATRIX["monitoring"]
RULES = {
    "groups": [
        {
            "name": "avr-sts",
            "rules": [
                {
                    "alert": "Lost",
                    "expr": "up == 0",
                    "for": "1m",
                    "labels": {"severity": "warning"},
                    "annotations": {"summary": "{{ $labels.pod }} is {{ $value }}"},
                }
            ],
        }
    ]
}
RECORDING = {"name": "recording", "rules": [{"record": "a:b:sum", "expr": "sum(b)"}]}
DASHBOARD = {"title": "Fleet", "panels": [{"legendFormat": "{{pod}}"}]}


@pytest.fixture
def with_files(tmp_path: Path) -> Release:
    """Return a copy of the chart that contains rules and a dashboard."""
    chart = copy_of_chart(tmp_path)
    for folder, name, text in (
        ("rules", "alerts.yaml", yaml.safe_dump(RULES)),
        ("rules", "recording.yaml", yaml.safe_dump({"groups": [RECORDING]})),
        ("dashboards", "fleet.json", json.dumps(DASHBOARD, indent=2)),
    ):
        (chart / "files" / folder).mkdir(parents=True, exist_ok=True)
        for file in (chart / "files" / folder).glob(name):
            file.unlink()
        (chart / "files" / folder / name).write_text(text, "utf-8")
    return render(EVERYTHING, chart=chart)


def test_monitoring_is_off_by_default() -> None:
    kinds = {each["kind"] for each in render().objects}
    assert not kinds & {"ServiceMonitor", "PrometheusRule"}
    assert not [each for each in render().of_kind("ConfigMap") if "dashboard" in each["metadata"]["name"]]


def test_service_monitor_selects_only_both_admin_services() -> None:
    release = render(EVERYTHING)
    (monitor,) = release.of_kind("ServiceMonitor")
    selector: dict[str, Any] = monitor["spec"]["selector"]["matchLabels"]
    found = [each for each in release.of_kind("Service") if selector.items() <= each["metadata"]["labels"].items()]
    assert {each["metadata"]["name"] for each in found} == {
        "demo-avr-sts-openai-dispatcher-admin",
        "demo-avr-sts-openai-worker-admin",
    }
    (endpoint,) = monitor["spec"]["endpoints"]
    for service in found:
        assert endpoint["port"] in {each["name"] for each in service["spec"]["ports"]}
    assert endpoint["path"] == "/metrics"
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_series_have_the_name_of_the_release() -> None:
    release = render(EVERYTHING)
    (monitor,) = release.of_kind("ServiceMonitor")
    assert monitor["spec"]["targetLabels"] == ["app.kubernetes.io/instance"]
    for service in release.of_kind("Service"):
        assert service["metadata"]["labels"]["app.kubernetes.io/instance"] == "demo"


def test_series_can_be_relabelled() -> None:
    (monitor,) = render(EVERYTHING).of_kind("ServiceMonitor")
    (endpoint,) = monitor["spec"]["endpoints"]
    wanted = EVERYTHING["monitoring"]["serviceMonitor"]
    assert endpoint["relabelings"] == wanted["relabelings"]
    assert endpoint["metricRelabelings"] == wanted["metricRelabelings"]


def test_rules_keep_prometheus_own_templates(with_files: Release) -> None:
    (rule,) = with_files.of_kind("PrometheusRule")
    groups = {each["name"]: each for each in rule["spec"]["groups"]}
    assert groups["avr-sts"] == RULES["groups"][0]
    assert "recording" in groups
    assert rule["metadata"]["labels"]["release"] == "prometheus"


def test_each_dashboard_is_a_config_map_with_grafanas_label(with_files: Release) -> None:
    dashboard = with_files.get("ConfigMap", "dashboard-fleet")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert dashboard["metadata"]["annotations"] == {"grafana_folder": "Calls"}
    assert json.loads(dashboard["data"]["fleet.json"]) == DASHBOARD


def test_chart_without_rules_has_no_empty_object(tmp_path: Path) -> None:
    chart = copy_of_chart(tmp_path)
    for file in (chart / "files").glob("*/*"):
        file.unlink()
    assert render(EVERYTHING, chart=chart).of_kind("PrometheusRule") == []


@pytest.mark.parametrize("given", ["", 'https://calls.example.com/?a="b"'])
def test_dashboards_link_to_the_page_of_the_values(given: str) -> None:
    values = {"monitoring": {"dashboards": {"enabled": True, "pageUrl": given}}}
    maps = [
        each["data"] for each in render(values).of_kind("ConfigMap") if "dashboard" in each["metadata"]["name"]
    ]
    assert len(maps) == 4
    for data in maps:
        (text,) = data.values()
        (page,) = [link["url"] for link in json.loads(text)["links"] if link["title"] == "Live page"]
        assert page == given or (page == elsewhere.PAGE and not given)
