"""Logs, metrics and probes, and the secrets that must not appear in them."""
