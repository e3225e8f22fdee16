"""Run of promtool's unit tests over rules, wherever the rules come from."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.grafana import promql
from tests.grafana.cases.case import AlertCase, RecordingCase

Rule = dict[str, Any]


def check_cases(
    promtool: str, directory: Path, groups: list[dict[str, Any]], cases: tuple[AlertCase | RecordingCase, ...]
) -> None:
    """Let promtool evaluate the cases.

    Each case is evaluated with its own rule and with those that this rule reads. All rules for all cases take
    ten times as long.
    """
    rules = {rule.get("alert") or rule["record"]: rule for group in groups for rule in group["rules"]}
    tests: dict[tuple[str, str], list[Any]] = {}
    for case in cases:
        tests.setdefault((case.rule, case.every), []).append(case.wire())
    files = []
    for number, ((name, every), wired) in enumerate(tests.items()):
        rule_file, test_file = (directory / f"{number}_{kind}.yaml" for kind in ("rules", "tests"))
        needed = {"groups": [{"name": "needed", "rules": _needed(name, rules)}]}
        rule_file.write_text(yaml.safe_dump(needed, sort_keys=False), "utf-8")
        document = {
            "rule_files": [str(rule_file)],
            # Those with rare samples are evaluated as rarely.
            "evaluation_interval": "1m" if every == "30s" else every,
            "tests": wired,
        }
        test_file.write_text(yaml.safe_dump(document, sort_keys=False), "utf-8")
        files.append(str(test_file))
    tested = subprocess.run([promtool, "test", "rules", *files], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def _needed(name: str, rules: dict[str, Rule]) -> list[Rule]:
    """Return the rules that one rule reads, directly and indirectly, and then this rule."""
    found: dict[str, Rule] = {}

    def add(each: str) -> None:
        for read in sorted(promql.recorded(rules[each]["expr"]) - {each}):
            add(read)
        found[each] = rules[each]

    add(name)
    return list(found.values())
