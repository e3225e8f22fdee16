"""`docs/metrics.md` has every metric with its type, labels and roles, and every reason with its outcomes."""

from __future__ import annotations

import re

from common.observe.call_outcome import OUTCOMES
from tests.common.metric_table import METRICS, PROCESS, PROCESS_METRICS
from tests.docs.blocks import document

_LETTERS = {"dispatcher": "D", "worker": "W", "supervisor": "S", PROCESS: "D W S"}


def _rows(heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading."""
    section = document("metrics.md").split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("| `") and not line.endswith("| meaning |")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def _names(cell: str) -> tuple[str, ...]:
    return tuple(re.findall(r"`([^`]+)`", cell))


def test_every_metric_stands_in_the_table() -> None:
    shown = {
        _names(name)[0].removesuffix("_total"): (kind, _names(labels), roles)
        for name, kind, labels, roles, _ in _rows("The service")
    }
    assert shown == {
        name: (kind, labels, " ".join(_LETTERS[role] for role in roles.split()))
        for name, (kind, labels, roles) in METRICS.items()
    }


def test_every_metric_of_a_process_stands_in_its_table() -> None:
    shown = {_names(name)[0].removesuffix("_total"): kind for name, kind, _ in _rows("The process")}
    assert shown == PROCESS_METRICS


def test_every_reason_has_its_outcomes() -> None:
    shown = {_names(reason)[0]: _names(outcomes) for reason, outcomes, _ in _rows("Reasons of ended calls")}
    assert shown == {reason.value: tuple(each.value for each in outcomes) for reason, outcomes in OUTCOMES.items()}


def test_every_metric_has_a_meaning() -> None:
    assert all(row[-1] for heading in ("The service", "The process") for row in _rows(heading))
