"""The names that documents may use: routes, headings, commands, log lines, and series of metrics."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Final

import yaml

from grafana import alerting
from tests.common.metric_table import METRICS, PROCESS_METRICS
from tests.docs.blocks import REPOSITORY

_SUFFIXES: Final = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count", "")}


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@functools.cache
def routes() -> frozenset[tuple[str, str]]:
    """Return method and path of each request that ADMIN_PORT answers, the page among them."""
    files = [*(REPOSITORY / "dispatcher/api").glob("*.py"), REPOSITORY / "common/observe/admin.py"]
    found = re.findall(r'web\.(get|post|delete)\("(/[^"]*)"', "".join(file.read_text("utf-8") for file in files))
    return frozenset({("GET", "/"), *((method.upper(), path) for method, path in found)})


@functools.cache
def source() -> str:
    """Return the text of all modules of the service."""
    folders = ("common", "dispatcher", "worker")
    files = (file for folder in folders for file in sorted((REPOSITORY / folder).rglob("*.py")))
    return "\n".join(file.read_text("utf-8") for file in files)


def is_logged(event: str) -> bool:
    """Return whether the code writes a log line with this `event`."""
    return f'"{event}"' in source()


def is_series(name: str) -> bool:
    """Return whether `name` is a series of a metric, or a recorded one, or the metric's own name."""
    if ":" in name:
        return name in {each.name for each in alerting.RECORDINGS}
    return _family(name) is not None


def labels_of(name: str) -> set[str]:
    """Return the labels of a series of a metric."""
    family = _family(name)
    if family is None:
        raise KeyError(name)
    labels = {"process", "slot"} if family in PROCESS_METRICS else {*METRICS[family][1]}
    return labels | ({"le"} if name.endswith("_bucket") else set())


def _family(series: str) -> str | None:
    """Return the metric of a series, as `tests.common.metric_table` names it."""
    kinds = {f"avr_sts_{name}": kind for name, (kind, *_) in METRICS.items()} | PROCESS_METRICS
    for name, kind in kinds.items():
        if series in {name + suffix for suffix in _SUFFIXES[kind]}:
            return name.removeprefix("avr_sts_")
    return None


@functools.cache
def compose_services() -> frozenset[str]:
    """Return the services of both Compose files."""
    files = ("docker-compose.yml", "docker-compose.single.yml")
    return frozenset(
        name for file in files for name in yaml.safe_load((REPOSITORY / file).read_text("utf-8"))["services"]
    )
