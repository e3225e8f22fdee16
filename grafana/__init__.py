"""Dashboards, alert and recording rules as code.

`python -m grafana.generate` writes what Grafana and Prometheus read: `dashboards/*.json` and `rules/*.yaml`.
"""
