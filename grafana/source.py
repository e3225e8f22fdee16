"""The data source of panels and marks: the Prometheus that the reader chooses."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.models import dashboard

SOURCE: Final = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
