"""A reader of PromQL that finds the metrics of a query, and promtool, which finds its faults."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import yaml

from tests.helpers import needed_program

SUFFIXES = ("_total", "_bucket", "_sum", "_count")


def metrics(expr: str) -> set[str]:
    """Return the service's metrics in a query, as `tests.common.metric_table` names them."""
    names = set(re.findall(r"(?<![\w:])avr_sts_(\w+)", expr))
    return {_family(name) for name in names}


def recorded(expr: str) -> set[str]:
    """Return the recorded series in a query."""
    return set(re.findall(r"\w+:avr_sts_\w+(?::\w+)?", expr))


def faults(queries: Sequence[str], folder: Path) -> str:
    """Return what promtool finds wrong with these queries; empty: nothing."""
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    file = folder / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}), "utf-8")
    checked = subprocess.run(
        [needed_program("promtool"), "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    return "" if checked.returncode == 0 else checked.stdout + checked.stderr


def _family(name: str) -> str:
    return next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)
