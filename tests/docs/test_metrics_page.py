"""`docs/metrics.md` has each metric as the code exports it, with a query that Prometheus reads."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from common.observe.call_outcome import OUTCOMES
from common.observe.upstream_codes import OPERATOR_CODES
from tests.common.metric_table import METRICS, PROCESS, PROCESS_METRICS
from tests.docs.blocks import blocks, document
from tests.docs.names import labels_of
from tests.grafana import promql

NAME = "metrics.md"
TEXT = document(NAME)
ROWS = {
    name: (kind, tuple(re.findall(r"`(\w+)`", labels)), " ".join(re.findall(r"\w+", processes)))
    for name, kind, labels, processes in re.findall(
        r"^\| `avr_sts_(\w+)` \| (counter|gauge|histogram) \| ([^|]*) ?\| ([^|]+) \|", TEXT, re.MULTILINE
    )
}
QUERIES = [
    line
    for block in blocks(NAME)
    if block.language == "promql"
    for line in block.text.splitlines()
    if not line.startswith("#")
]
ALL_ROLES = "dispatcher worker serve"
VALUES = re.findall(r"^\| `(\w+)` \| `avr_sts_(\w+)` \| (.+) \|$", TEXT, re.MULTILINE)


def _exported(name: str, kind: str) -> str:
    return f"{name}_total" if kind == "counter" else name


def test_every_metric_has_a_row_with_type_and_labels() -> None:
    expected = {
        _exported(name, kind): (kind, labels, roles.replace(PROCESS, ALL_ROLES).replace("supervisor", "serve"))
        for name, (kind, labels, roles) in METRICS.items()
    }
    assert expected == ROWS


def test_every_metric_of_a_process_has_a_row() -> None:
    rows = dict(re.findall(r"^\| `(process_\w+)` \| (\w+) \| \S", TEXT, re.MULTILINE))
    assert rows == {_exported(name, kind): kind for name, kind in PROCESS_METRICS.items()}


def test_every_reason_has_its_outcomes() -> None:
    table = TEXT.partition("| `reason` | `outcome` | meaning |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| \S", table, re.MULTILINE)
    assert {reason: tuple(re.findall(r"\w+", outcomes)) for reason, outcomes in rows} == {
        reason.value: tuple(each.value for each in outcomes) for reason, outcomes in OUTCOMES.items()
    }


def test_every_metric_has_a_query() -> None:
    assert {metric for query in QUERIES for metric in promql.metrics(query)} == METRICS.keys()
    text = "\n".join(QUERIES)
    assert [name for name in PROCESS_METRICS if name not in text] == []


@pytest.mark.parametrize("query", QUERIES)
def test_query_uses_labels_of_its_metrics(query: str) -> None:
    series = re.findall(r"((?:avr_sts|process)_\w+)", query)
    known = set().union(*(labels_of(name) for name in series))
    grouped = {each.strip() for group in re.findall(r"by \(([^)]*)\)", query) for each in group.split(",")}
    matched = {each for found in re.findall(r"\{([^}]*)\}", query) for each in re.findall(r"(\w+)[=!]", found)}
    assert grouped | matched <= known


@pytest.mark.system
def test_promtool_reads_every_query(tmp_path: Path) -> None:
    assert promql.faults(QUERIES, tmp_path) == ""


# Both roles in one process, which the service itself never has: the test reads names and labels alone.
_ALL_SERIES = """
from common.observe import metrics
metrics.dispatcher().expect_tenants("")
metrics.supervisor()
metrics.ProcessMetrics("worker", "", release="1.2.3", compiled=True)
worker = metrics.worker()
worker.expect_tenants("")
worker.expect_model("model")
worker.expect_tools("tool")
for limit in metrics.RATE_LIMITS:
    worker.rate_limit(limit, 1.0)
print(metrics.render()[0].decode())
"""


@pytest.fixture(scope="module")
def values() -> dict[tuple[str, str], set[str]]:
    """Return the values that a fresh process exports, by metric and label."""
    run = subprocess.run([sys.executable, "-c", _ALL_SERIES], capture_output=True, text=True, check=True)
    found: dict[tuple[str, str], set[str]] = {}
    for family in text_string_to_metric_families(run.stdout):
        for sample in family.samples:
            for label, value in sample.labels.items():
                found.setdefault((family.name.removeprefix("avr_sts_"), label), set()).add(value)
    return found


@pytest.mark.parametrize(("label", "metric", "written"), VALUES, ids=[f"{each[1]}-{each[0]}" for each in VALUES])
def test_values_of_a_label_are_all_listed(
    label: str, metric: str, written: str, values: dict[tuple[str, str], set[str]]
) -> None:
    listed = set(re.findall(r"`([a-z_]+)`", written))
    assert listed == values[metric.removesuffix("_total"), label]


def test_labels_of_fixed_values_are_all_listed(values: dict[tuple[str, str], set[str]]) -> None:
    chosen_by_others = {"model", "tool", "code", "tenant", "le", "version", "python", "compiled", "slot"}
    listed = {label for label, _, _ in VALUES}
    assert {label for _, label in values} - chosen_by_others <= listed


def test_codes_that_need_a_person_are_those_of_the_code() -> None:
    paragraph = TEXT.partition("Codes of the API that need a person")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", paragraph)) == set(OPERATOR_CODES)
