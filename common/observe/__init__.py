"""Logs, metrics and probes, and the secrets that they must not show."""
