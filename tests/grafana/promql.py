"""A reader of PromQL that finds the metrics of a query."""

from __future__ import annotations

import re

SUFFIXES = ("_total", "_bucket", "_sum", "_count")


def metrics(expr: str) -> set[str]:
    """Return the service's metrics in a query, as `tests.common.metric_table` names them."""
    names = set(re.findall(r"(?<![\w:])avr_sts_(\w+)", expr))
    return {_family(name) for name in names}


def recorded(expr: str) -> set[str]:
    """Return the recorded series in a query."""
    return set(re.findall(r"\w+:avr_sts_\w+(?::\w+)?", expr))


def _family(name: str) -> str:
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)
