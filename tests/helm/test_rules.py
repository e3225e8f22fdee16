"""The rules of a release: its own series alone, with the thresholds, labels and alerts that its values choose."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from grafana import alerting
from grafana.rule import PLACEHOLDER, RELEASE, RUNBOOK_URL
from grafana.thresholds import ALERTING
from tests.grafana.case_check import check_cases
from tests.grafana.cases.case import AlertCase, RecordingCase
from tests.grafana.rule_cases import ALERT_CASES, RECORDING_CASES
from tests.helm.matrix import Values
from tests.helm.release import CHART, NAME, NAMESPACE, merged, render
from tests.helpers import needed_program

ENABLED: Values = {"monitoring": {"prometheusRule": {"enabled": True}}}
SCOPE = f'{RELEASE}="{NAME}", namespace="{NAMESPACE}"'


def _values(**changes: Any) -> Values:
    return merged(ENABLED, {"monitoring": {"prometheusRule": changes}})


def _groups(values: Values = ENABLED, **options: Any) -> list[dict[str, Any]]:
    (rule,) = render(values, **options).of_kind("PrometheusRule")
    groups: list[dict[str, Any]] = rule["spec"]["groups"]
    return groups


def _rules(values: Values = ENABLED) -> dict[str, dict[str, Any]]:
    return {each.get("alert") or each["record"]: each for group in _groups(values) for each in group["rules"]}


def test_release_has_every_rule() -> None:
    names = {*(alert.name for alert in alerting.ALERTS), *(each.name for each in alerting.RECORDINGS)}
    assert _rules().keys() == names


def test_rules_without_values_are_those_of_plain_prometheus() -> None:
    """The chart fills the same defaults in, apart from the scope."""
    rendered = _groups(_values(matchers={}))
    plain = [alerting.plain(group.wire()) for groups in alerting.FILES.values() for group in groups]
    for group in (*rendered, *plain):
        for rule in group["rules"]:
            rule["expr"] = rule["expr"].replace(", }", "}").replace("{}", "")
    assert {group["name"]: group for group in rendered} == {group["name"]: group for group in plain}


def test_every_selector_names_release_and_namespace() -> None:
    for name, rule in _rules().items():
        selectors = re.findall(r"(?<![\w:])(?:\w+:)?(?:avr_sts|process)_\w+(?::\w+)?(\{[^}]*\})?", rule["expr"])
        assert selectors, name
        assert all(each.endswith(f"{SCOPE}}}") for each in selectors), rule["expr"]


def test_no_placeholder_is_left() -> None:
    assert not PLACEHOLDER.search(yaml.safe_dump(_groups()))


def test_recorded_series_carry_the_matchers() -> None:
    recorded = _rules(_values(matchers={"job": 'a "b"'}))["namespace:avr_sts_calls_active:sum"]
    assert recorded["labels"] == {"job": 'a "b"'}
    assert recorded["expr"].endswith(r'(avr_sts_calls_active{job="a \"b\""})')


def test_scraped_series_have_the_label_of_the_release() -> None:
    release = render({"monitoring": {"serviceMonitor": {"enabled": True}}})
    (monitor,) = release.of_kind("ServiceMonitor")
    (label,) = monitor["spec"]["targetLabels"]
    assert re.sub(r"\W", "_", label) == RELEASE
    selector = monitor["spec"]["selector"]["matchLabels"].items()
    services = [
        each["metadata"] for each in release.of_kind("Service") if selector <= each["metadata"]["labels"].items()
    ]
    assert len(services) == 2
    assert {each["labels"][label] for each in services} == {NAME}
    assert {each["namespace"] for each in services} == {NAMESPACE}


def test_values_yaml_has_the_thresholds_of_the_code() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))["monitoring"]["prometheusRule"]
    assert values["thresholds"] == {name: each.default for name, each in ALERTING.items()}


@pytest.mark.parametrize("name", ALERTING)
def test_threshold_is_a_value(name: str) -> None:
    other = 0.953 if name == "callsObjective" else 0.123
    rules = _rules(_values(thresholds={name: other}))
    before = _rules()
    changed = [each for each in rules if rules[each] != before[each]]
    assert changed
    assert all(f"{other}" in rules[each]["expr"] for each in changed)


def test_single_alert_is_switched_off() -> None:
    rules = _rules(_values(alerts={"AvrStsCostHigh": {"enabled": False}}))
    assert _rules().keys() - rules.keys() == {"AvrStsCostHigh"}


def test_single_alert_gets_severity_time_and_labels() -> None:
    changes = {"severity": "page", "for": "7m", "labels": {"team": "phones"}, "annotations": {"summary": "Full"}}
    values = _values(alerts={"AvrStsNearCapacity": changes}, alertLabels={"team": "all", "severity": "none"})
    rules = _rules(values)
    changed = rules["AvrStsNearCapacity"]
    assert changed["labels"] == {"severity": "page", "team": "phones"}
    assert changed["for"] == "7m"
    assert changed["annotations"]["summary"] == "Full"
    assert changed["annotations"]["runbook_url"] == f"{RUNBOOK_URL}#avrstsnearcapacity"
    # Common labels leave the severity of each alert as it is.
    assert rules["AvrStsNoWorkers"]["labels"] == {"severity": "critical", "team": "all"}


def test_every_alert_gets_annotations_and_another_runbook() -> None:
    values = _values(alertAnnotations={"dashboard": "https://g"}, runbookUrlBase="https://wiki.example.com/calls")
    alerts = [rule for rule in _rules(values).values() if "alert" in rule]
    assert len(alerts) == len(alerting.ALERTS)
    for alert in alerts:
        assert alert["annotations"]["dashboard"] == "https://g"
        name = alert["alert"].lower()
        assert alert["annotations"]["runbook_url"] == f"https://wiki.example.com/calls#{name}"


def test_groups_of_ones_own_are_added() -> None:
    own = {"name": "own", "rules": [{"alert": "Own", "expr": "up == 0"}]}
    assert _groups(_values(additionalGroups=[own]))[-1] == own


WRONG = {
    "an unknown alert": ({"alerts": {"AvrStsCostHih": {"enabled": False}}}, "AvrStsCostHih"),
    "an unknown field of an alert": ({"alerts": {"AvrStsCostHigh": {"enable": False}}}, "enable"),
    "an unknown threshold": ({"thresholds": {"callLoad": 0.5}}, "callLoad"),
    "a threshold that is no number": ({"thresholds": {"callsLoad": "80%"}}, "thresholds/callsLoad"),
    "a share above one": ({"thresholds": {"callsLoad": 80}}, "thresholds/callsLoad"),
    "an objective that no burn rate reaches": (
        {"thresholds": {"callsObjective": 0.9}},
        "thresholds/callsObjective",
    ),
    "an objective of all calls": ({"thresholds": {"callsObjective": 1}}, "thresholds/callsObjective"),
    "a threshold of null": ({"thresholds": {"callsLoad": None}}, "callsLoad"),
    "a time without a unit": ({"alerts": {"AvrStsCostHigh": {"for": "5"}}}, "AvrStsCostHigh/for"),
    "a runbook that is no address": ({"runbookUrlBase": "docs"}, "runbookUrlBase"),
    "a label that cannot be one": ({"matchers": {"a-b": "c"}}, "a-b"),
}


@pytest.mark.parametrize(("changes", "named"), WRONG.values(), ids=WRONG.keys())
def test_wrong_rule_value_is_refused_with_its_name(changes: Values, named: str) -> None:
    with pytest.raises(helm_python.HelmValuesError, match=re.escape(named)):
        render(_values(**changes))


# promtool's tests of the plain rules, for the release `calls` in the namespace `voice`.
_IN_CHART = merged(ENABLED, {"namespaceOverride": "voice"})
_LABELS = {"namespace": "voice", RELEASE: "calls"}


def _labelled(series: str) -> str:
    return series if RELEASE in series else series.replace("{", f'{{{RELEASE}="calls", ', 1)


def _in_release(case: AlertCase) -> AlertCase:
    series = {_labelled(name): values for name, values in case.series.items()}
    return dataclasses.replace(case, series=series, labels={**_LABELS, **case.labels})


def _recorded_in_release(case: RecordingCase) -> RecordingCase:
    series = {_labelled(name): values for name, values in case.series.items()}
    return dataclasses.replace(case, series=series, labels=f'{RELEASE}="calls", {case.labels}')


_LATER = [
    # The chart's rules know the release by name, so they miss it until it is uninstalled.
    dataclasses.replace(case, firing=True) if case.alert == "AvrStsNoDispatcher" and case.at == "6h35m" else case
    for case in ALERT_CASES
]


@pytest.mark.system
def test_promtools_unit_tests_pass_for_a_release(tmp_path: Path) -> None:
    cases = tuple(map(_in_release, _LATER)) + tuple(map(_recorded_in_release, RECORDING_CASES))
    check_cases(needed_program("promtool"), tmp_path, _groups(_IN_CHART, name="calls"), cases)


@pytest.mark.system
def test_another_release_fires_nothing(tmp_path: Path) -> None:
    """Each faulty series of `calls` is none of the neighbour's; only the missing neighbour itself is noticed."""
    about_absence = ("AvrStsNoDispatcher", "AvrStsNoWorkers")
    cases = tuple(
        dataclasses.replace(_in_release(case), firing=False)
        for case in ALERT_CASES
        if case.firing and case.alert not in about_absence
    )
    groups = _groups(_IN_CHART, name="next")
    check_cases(needed_program("promtool"), tmp_path, groups, cases)


@pytest.mark.system
@pytest.mark.parametrize("matchers", [None, {}, {"job": 'a "b"'}], ids=["release", "none", "quotes"])
def test_promtool_accepts_the_rendered_rules(tmp_path: Path, matchers: dict[str, str] | None) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": _groups(_values(matchers=matchers))}), "utf-8")
    checked = subprocess.run(
        [needed_program("promtool"), "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
