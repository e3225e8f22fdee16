"""Dashboards and rules know the metrics, and nothing of the processes that write them."""

from __future__ import annotations

import ast
from pathlib import Path

import grafana


def test_grafana_imports_nothing_of_a_role() -> None:
    imported = set()
    for file in Path(grafana.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                imported.add(str(node.module).partition(".")[0])
            elif isinstance(node, ast.Import):
                imported.update(each.name.partition(".")[0] for each in node.names)
    assert not imported & {"dispatcher", "worker", "simulator", "tests"}
