"""Alert and recording rules: what each needs to be of use, and promtool's unit tests of each."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana import alerting, generate
from grafana.alerting import Alert, Recording
from tests.common.metric_table import METRICS
from tests.grafana import promql
from tests.grafana.rule_cases import ALERT_CASES, RECORDING_CASES, AlertCase

REPOSITORY = Path(__file__).resolve().parents[2]
GUIDE = REPOSITORY / "docs" / "operations.md"

every_alert = pytest.mark.parametrize("alert", alerting.ALERTS, ids=lambda alert: alert.name)
every_rule = pytest.mark.parametrize("rule", [*alerting.ALERTS, *alerting.RECORDINGS], ids=lambda rule: rule.name)


@every_alert
def test_alert_names_the_fault_and_the_remedy(alert: Alert) -> None:
    assert alert.severity in ("critical", "warning")
    assert len(alert.summary) < 90
    assert len(alert.description) > 100
    assert alert.description.endswith(".")
    assert re.fullmatch(r"AvrSts[A-Z][A-Za-z]+", alert.name)


@every_alert
def test_an_alert_is_explained_in_the_guide(alert: Alert) -> None:
    file, _, anchor = alert.wire()["annotations"]["runbook"].partition("#")
    assert REPOSITORY / file == GUIDE
    headings = re.findall(r"^#+ (.+)$", GUIDE.read_text("utf-8"), re.MULTILINE)
    assert alert.name in headings
    assert anchor == alert.name.lower()


@every_rule
def test_a_rule_reads_metrics_that_exist(rule: Alert | Recording) -> None:
    known = {recording.name for recording in alerting.RECORDINGS}
    assert promql.metrics(rule.expr) <= METRICS.keys()
    assert promql.recorded(rule.expr) <= known
    assert promql.metrics(rule.expr) or promql.recorded(rule.expr)


def test_names_of_rules_are_their_own() -> None:
    names = [rule.name for rule in (*alerting.ALERTS, *alerting.RECORDINGS)]
    assert len(set(names)) == len(names)


def test_every_rule_has_a_unit_test() -> None:
    fires = {case.alert for case in ALERT_CASES if case.firing}
    silent = {case.alert for case in ALERT_CASES if not case.firing}
    assert fires == silent == {alert.name for alert in alerting.ALERTS}
    assert {case.name for case in RECORDING_CASES} == {recording.name for recording in alerting.RECORDINGS}


@pytest.mark.system
def test_promtool_accepts_the_rules(promtool: str) -> None:
    files = [str(path) for path in generate.files() if path.suffix == ".yaml"]
    checked = subprocess.run([promtool, "check", "rules", *files], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.system
def test_promtools_unit_tests_pass(promtool: str, tmp_path: Path) -> None:
    document = {
        "rule_files": [str(path) for path in generate.files() if path.suffix == ".yaml"],
        "evaluation_interval": "1m",
        "group_eval_order": ["avr-sts-recording", "avr-sts-alerts"],
        "tests": [
            *(_alert_test(case) for case in ALERT_CASES),
            *(case.wire() for case in RECORDING_CASES),
        ],
    }
    file = tmp_path / "rules_test.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False), "utf-8")
    tested = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def _alert_test(case: AlertCase) -> dict[str, Any]:
    alert = next(alert for alert in alerting.ALERTS if alert.name == case.alert)
    return case.wire(alert)
