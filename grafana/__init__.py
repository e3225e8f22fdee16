"""Dashboards, alert and recording rules as code.

`python -m grafana.generate` writes the files of Grafana and Prometheus: `dashboards/*.json` and `rules/*.yaml`.
"""
