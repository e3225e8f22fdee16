"""Alert and recording rules: the required parts of each rule, and promtool's unit tests."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from common.observe.call_outcome import EndReason
from grafana import alerting, generate
from grafana.formulas import OTHERS_REASONS, OUR_REASONS
from grafana.rule import PLACEHOLDER, Alert, Recording
from grafana.thresholds import ALERTING
from tests.common.metric_table import METRICS
from tests.grafana import promql
from tests.grafana.case_check import check_cases
from tests.grafana.rule_cases import ALERT_CASES, RECORDING_CASES

every_alert = pytest.mark.parametrize("alert", alerting.ALERTS, ids=lambda alert: alert.name)
RULES: tuple[Alert | Recording, ...] = (*alerting.ALERTS, *alerting.RECORDINGS)
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)


@every_alert
def test_alert_names_the_fault_and_the_remedy(alert: Alert) -> None:
    assert alert.severity in ("critical", "warning")
    assert len(alert.summary) < 90
    assert len(alert.action) > 20
    assert re.fullmatch(r"AvrSts[A-Z][A-Za-z]+", alert.name)


@every_alert
def test_alert_says_what_callers_notice(alert: Alert) -> None:
    assert alert.callers.startswith("Callers ")
    assert alert.annotations["description"].startswith(alert.callers)
    assert all(text.endswith(".") for text in (alert.callers, alert.action))


@every_rule
def test_every_selector_of_a_rule_has_a_scope(rule: Alert | Recording) -> None:
    """A selector without it would read other releases' series, when the chart installs the rule."""
    selectors = re.findall(r"(?<![\w:])(?:\w+:)?(?:avr_sts|process)_\w+(?::\w+)?(\{[^}]*\})?", rule.template)
    assert selectors
    assert all(selector.endswith("@scope@}") for selector in selectors), rule.template


@every_rule
def test_a_written_rule_has_no_placeholder(rule: Alert | Recording) -> None:
    assert not PLACEHOLDER.search(yaml.safe_dump(alerting.plain(rule.wire())))


def test_alerts_lead_to_the_runbook_that_one_chooses() -> None:
    rules = generate.files("https://wiki.example.com/calls")[generate.DIRECTORY / "rules" / "alerts.yaml"]
    for alert in alerting.ALERTS:
        assert f"runbook_url: https://wiki.example.com/calls#{alert.name.lower()}\n" in rules
    assert "docs/runbook.md" not in rules


def test_every_threshold_is_used() -> None:
    used = set().union(*(PLACEHOLDER.findall(rule.template) for rule in RULES))
    assert used == {*ALERTING, "scope"}


def test_every_reason_is_ours_or_of_others() -> None:
    assert not set(OUR_REASONS) & set(OTHERS_REASONS)
    assert {*OUR_REASONS, *OTHERS_REASONS} == set(EndReason)


def test_inhibited_alerts_exist_and_are_no_circle() -> None:
    names = {alert.name for alert in alerting.ALERTS}
    for source, targets in alerting.INHIBITS.items():
        assert {source, *targets} <= names
        assert not any(source in alerting.INHIBITS.get(target, ()) for target in targets)


@every_rule
def test_a_rule_reads_metrics_that_exist(rule: Alert | Recording) -> None:
    known = {recording.name for recording in alerting.RECORDINGS}
    assert promql.metrics(rule.expr) <= METRICS.keys()
    assert promql.recorded(rule.expr) <= known
    assert promql.metrics(rule.expr) or promql.recorded(rule.expr) or "process_open_fds" in rule.expr


def test_names_of_rules_are_their_own() -> None:
    names = [rule.name for rule in RULES]
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
    files = [path for path in generate.files() if path.suffix == ".yaml"]
    groups = [group for path in files for group in yaml.safe_load(path.read_text("utf-8"))["groups"]]
    check_cases(promtool, tmp_path, groups, (*ALERT_CASES, *RECORDING_CASES))
