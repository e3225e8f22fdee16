"""What Grafana is told at its start: where the data comes from, and where the dashboards are."""

from __future__ import annotations

from typing import Any

import yaml

from grafana import generate
from grafana.generate import DASHBOARDS

PROVISIONING = generate.DIRECTORY / "provisioning"


def _read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((PROVISIONING / name).read_text("utf-8"))
    assert document["apiVersion"] == 1
    return document


def test_dashboards_choose_the_one_data_source() -> None:
    (source,) = _read("datasources/prometheus.yaml")["datasources"]
    assert source["type"] == "prometheus"
    assert source["isDefault"]
    # None is written into the dashboards: the variable takes the default one of its type.
    for dashboard in DASHBOARDS:
        variable = dashboard.wire()["templating"]["list"][0]
        assert (variable["type"], variable["query"]) == ("datasource", source["type"])
        assert "current" not in variable


def test_dashboards_come_from_files() -> None:
    (provider,) = _read("dashboards/avr-sts.yaml")["providers"]
    assert provider["type"] == "file"
    assert not provider["allowUiUpdates"]
    assert provider["options"]["path"].startswith("/")
    assert not any(dashboard.wire()["editable"] for dashboard in DASHBOARDS)


def test_no_other_files_are_there() -> None:
    files = {str(file.relative_to(PROVISIONING)) for file in PROVISIONING.rglob("*") if file.is_file()}
    assert files == {"datasources/prometheus.yaml", "dashboards/avr-sts.yaml"}
