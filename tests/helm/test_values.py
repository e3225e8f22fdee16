"""Wrong values are refused with their name, and valid ones are documented."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from tests.helm.matrix import MATRIX, Values
from tests.helm.release import CHART, load, merged, render, rendered_text, schema, walk

DEFAULTS: Values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))

WRONG = {
    "an unknown name": ({"replicas": 2}, "replicas"),
    "an unknown name within": ({"worker": {"replica": 2}}, "replica"),
    "a misspelt setting": ({"config": {"OPENAI_VOIC": "alloy"}}, "OPENAI_VOIC"),
    "a misspelt setting from a secret": (
        {"configFromSecrets": {"OPENAI_KEY": {"name": "a", "key": "b"}}},
        "OPENAI_KEY",
    ),
    "a setting that the chart sets": ({"config": {"PORT": 7000}}, "PORT"),
    "a setting of serve": ({"config": {"WORKERS": 7}}, "WORKERS"),
    "a secret in plain sight": ({"config": {"OPENAI_API_KEY": "sk-1"}}, "OPENAI_API_KEY"),
    "a token in plain sight": ({"config": {"STS_TOKEN": "t"}}, "STS_TOKEN"),
    "a choice that does not exist": ({"config": {"LOG_LEVEL": "loud"}}, "LOG_LEVEL"),
    "YAML's no for Norwegian": ({"config": {"OPENAI_LANGUAGE": False}}, "OPENAI_LANGUAGE"),
    "a fraction of a call": ({"config": {"WORKER_MAX_CALLS": 1.5}}, "WORKER_MAX_CALLS"),
    "a secret without its key": ({"configFromSecrets": {"STS_TOKEN": {"name": "a"}}}, "key"),
    "text for a number": ({"worker": {"replicas": "two"}}, "worker/replicas"),
    "no dispatcher": ({"dispatcher": {"replicas": 0}}, "dispatcher/replicas"),
    "a drain without end": ({"dispatcher": {"drainSeconds": 1_000_000}}, "drainSeconds"),
    "an unknown autoscaler": ({"worker": {"autoscaling": {"type": "vpa"}}}, "autoscaling/type"),
    "more than all": ({"worker": {"autoscaling": {"targetUtilizationPercent": 120}}}, "targetUtilizationPercent"),
    "a URL that is no Redis": ({"redis": {"url": "http://redis"}}, "redis/url"),
    "a digest that is none": ({"image": {"digest": "latest"}}, "image/digest"),
    "an unknown type of service": ({"dispatcher": {"service": {"type": "ExternalName"}}}, "service/type"),
    "a share of pods that is none": ({"worker": {"rollingUpdate": {"maxSurge": "half"}}}, "maxSurge"),
    "a label that is no text": ({"commonLabels": {"release": 1}}, "commonLabels/release"),
    "an ingress path that is relative": (
        {"dispatcher": {"ingress": {"hosts": [{"host": "a", "path": "b"}]}}},
        "path",
    ),
    "a resource of no kind": ({"worker": {"resources": {"cpu": 1}}}, "cpu"),
}

CONTRADICTORY = {
    "minReplicas of dispatchers over maxReplicas": (
        {"dispatcher": {"autoscaling": {"minReplicas": 11}}},
        "dispatcher.autoscaling.minReplicas: 11 is more than maxReplicas, 10",
    ),
    "minReplicas over maxReplicas": (
        {"worker": {"autoscaling": {"minReplicas": 9, "maxReplicas": 3}}},
        "worker.autoscaling.minReplicas: 9 is more than maxReplicas, 3",
    ),
    "KEDA without Prometheus": (
        {"worker": {"autoscaling": {"type": "keda"}}},
        "worker.autoscaling.keda.serverAddress: ",
    ),
    "an ingress for no host": ({"dispatcher": {"ingress": {"enabled": True}}}, "dispatcher.ingress.hosts: "),
    "a password in plain sight": (
        {"redis": {"url": "redis://:pw@redis/0"}},
        "redis.url: the URL contains a user or a password",
    ),
    "two Redis": (
        {"redis": {"url": "redis://a/0"}, "configFromSecrets": {"REDIS_URL": {"name": "a", "key": "b"}}},
        "redis.url: ",
    ),
    "a setting twice": (
        {"config": {"OPENAI_SESSION": {}}, "configFromSecrets": {"OPENAI_SESSION": {"name": "a", "key": "b"}}},
        "config.OPENAI_SESSION: ",
    ),
    "no key": ({"configFromSecrets": {"OPENAI_API_KEY": None}}, "configFromSecrets.OPENAI_API_KEY: "),
    "instructions twice": (
        {"instructions": {"text": "a"}, "config": {"OPENAI_INSTRUCTIONS": "b"}},
        "instructions: config.OPENAI_INSTRUCTIONS is also set",
    ),
    "recordings twice": (
        {"dispatcher": {"recordings": {"existingClaim": "a"}}, "config": {"RECORDINGS_DIR": "/b"}},
        "dispatcher.recordings.existingClaim: RECORDINGS_DIR is also set",
    ),
    "tools twice": ({"tools": {"files": {"a.py": ""}, "existingConfigMap": "b"}}, "tools.existingConfigMap: "),
    "a rollout that cannot begin": (
        {"worker": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}},
        "worker.rollingUpdate: ",
    ),
    "a variable of the chart's": (
        {"worker": {"extraEnv": [{"name": "WORKER_PORT", "value": "1"}]}},
        "worker.extraEnv: WORKER_PORT",
    ),
}


@pytest.mark.parametrize(("values", "named"), WRONG.values(), ids=WRONG.keys())
def test_wrong_value_is_refused_with_its_name(values: Values, named: str) -> None:
    with pytest.raises(helm_python.HelmValuesError, match=re.escape(named)):
        render(values)


@pytest.mark.parametrize(("values", "named"), CONTRADICTORY.values(), ids=CONTRADICTORY.keys())
def test_contradictory_values_are_refused_with_their_name(values: Values, named: str) -> None:
    with pytest.raises(helm_python.HelmRenderError, match=re.escape(named)):
        render(values)


def test_a_refusal_does_not_show_the_password() -> None:
    with pytest.raises(helm_python.HelmRenderError) as refused:
        render({"redis": {"url": "redis://:hunter2@redis/0"}})
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "file",
    [CHART / "Chart.yaml", CHART / "values.yaml", *(CHART / "examples").glob("*.yaml")],
    ids=lambda file: file.name,
)
def test_files_of_the_chart_have_no_key_twice(file: Path) -> None:
    assert load(file.read_text("utf-8"))


def test_schema_refuses_unknown_names_in_every_object() -> None:
    for path, each in walk(schema()):
        # Other charts of a release have global values, too.
        if (
            path[-1:] != ("global",)
            and isinstance(each, dict)
            and isinstance(each.get("properties"), dict)
            and path[-1:] != ("properties",)
        ):
            assert each["additionalProperties"] is False, path


def _named(each: dict[str, Any]) -> dict[str, Any]:
    """Return the names that a part of the schema lists; none for maps with people's own names."""
    properties: dict[str, Any] = each.get("properties", {})
    return properties


def test_values_yaml_and_schema_have_the_same_names() -> None:
    def compare(values: Values, part: dict[str, Any], path: str) -> None:
        assert _named(part).keys() == values.keys(), path or "top"
        for name, each in _named(part).items():
            of_people = f"{path}{name}" in {"config", "configFromSecrets"} or name == "authenticationRef"
            if _named(each) and not of_people:
                compare(values[name], each, f"{path}{name}.")

    compare(DEFAULTS, schema(), "")


def _maps_and_leaves(values: Values, path: str = "") -> list[str]:
    paths = []
    for name, value in values.items():
        paths.append(f"{path}{name}")
        if isinstance(value, dict):
            paths += _maps_and_leaves(value, f"{path}{name}.")
    return paths


def _refusal(values: Values) -> str | None:
    try:
        render(values)
    except (helm_python.HelmValuesError, helm_python.HelmRenderError) as error:
        return str(error)
    return None


@pytest.mark.parametrize("path", _maps_and_leaves(DEFAULTS))
def test_null_is_a_choice_or_is_refused_with_its_name(path: str) -> None:
    folder, _, name = path.rpartition(".")
    refusals = (f"at '{folder and '/'}{folder.replace('.', '/')}': missing property '{name}'", f"{path}: ")
    told = _refusal(_at(path, None))
    assert told is None or any(each in told for each in refusals)


@pytest.mark.parametrize("path", ["worker", "redis.bundled", "dispatcher.service.port", "worker.autoscaling.keda"])
def test_null_in_place_of_a_needed_value_is_refused(path: str) -> None:
    with pytest.raises(helm_python.HelmValuesError, match=path.rpartition(".")[2]):
        render(_at(path, None))


BASES: tuple[Values, ...] = (
    {},
    MATRIX["hpa"],
    MATRIX["keda"],
    MATRIX["tools and instructions"],
    MATRIX["node port"],
    {"dispatcher": {"ingress": {"hosts": [{"host": "a.example.com"}]}}},
    {"dispatcher": {"ingress": {"enabled": True, "hosts": [{"host": "a.example.com"}]}}},
    {"monitoring": {name: {"enabled": True} for name in ("serviceMonitor", "prometheusRule", "dashboards")}},
    {"serviceAccount": {"create": False}},
    MATRIX["redis by secret"],
    MATRIX["redis by sentinels"],
    {"redis": {"host": "redis", "existingSecret": "redis"}},
    MATRIX["ports of URLs in secrets"],
    MATRIX["dispatchers by hpa"],
    {"dispatcher": {"httpRoute": {"enabled": True, "parentRefs": [{"name": "edge"}]}}},
    {"dispatcher": {"httpRoute": {"parentRefs": [{"name": "edge"}]}}},
)
"""Bases of values, such that every value has an effect in one of them."""

OTHER: dict[str, Any] = {
    **{f"{path}image.digest": f"sha256:{'1' * 64}" for path in ("", "redis.bundled.")},
    **{f"{path}image.pullPolicy": "Always" for path in ("", "redis.bundled.")},
    "imagePullSecrets": [{"name": "a"}],
    "redis.url": "redis://other/0",
    "dispatcher.service.type": "LoadBalancer",
    "worker.rollingUpdate.maxSurge": "50%",
    "dispatcher.service.nodePort": 30000,
    "dispatcher.service.loadBalancerClass": "a",
    "dispatcher.service.loadBalancerSourceRanges": ["10.0.0.0/8"],
    "dispatcher.service.externalTrafficPolicy": "Cluster",
    "dispatcher.ingress.hosts": [{"host": "b.example.com"}],
    "dispatcher.ingress.tls": [{"secretName": "a"}],
    "worker.autoscaling.type": "hpa",
    "worker.autoscaling.keda.serverAddress": "http://other:9090",
    "worker.autoscaling.keda.authenticationRef": {"name": "a"},
    **{
        f"networkPolicy.{name}Port": 7777
        for name in ("redis", "sentinel", "ami", "webhook", "recordsRedis", "otlp")
    },
    "networkPolicy.dispatcherPorts": [7777],
    "redis.host": "other",
    "redis.sentinel.hosts": ["other"],
    "ipFamilyPolicy": "PreferDualStack",
    "ipFamilies": ["IPv6"],
    "dispatcher.httpRoute.hostnames": ["a.example.com"],
    **{f"dispatcher.httpRoute.timeouts.{name}": "7s" for name in ("request", "backendRequest")},
    **{f"{role}.podDisruptionBudget.minAvailable": 1 for role in ("dispatcher", "worker")},
    "config": {"LOG_LEVEL": "debug"},
    "extraObjects": MATRIX["objects of their own"]["extraObjects"],
    "monitoring.serviceMonitor.interval": "31s",
    "monitoring.dashboards.pageUrl": "https://calls.example.com/",
    "monitoring.prometheusRule.runbookUrlBase": "https://wiki.example.com",
    "monitoring.prometheusRule.alerts": {"AvrStsCostHigh": {"enabled": False}},
    "monitoring.prometheusRule.additionalGroups": [{"name": "a", "rules": []}],
    "monitoring.serviceMonitor.scrapeTimeout": "7s",
    **{f"{role}.topologySpreadConstraints": [{"topologyKey": "rack"}] for role in ("dispatcher", "worker")},
    **{f"{role}.extraEnv": [{"name": "A", "value": "b"}] for role in ("dispatcher", "worker")},
}
"""Values other than the default, for those whose type does not suggest one."""


def _another(path: str, default: object) -> object:
    if path in OTHER:
        return OTHER[path]
    match default:
        case bool():
            return not default
        case int():
            return default + 1
        case str():
            return f"{default}1"
        case list():
            return [{"name": "a"}]
    return {"a": "b"}


def _leaves(values: Values, path: str = "") -> dict[str, object]:
    leaves: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            leaves |= _leaves(value, f"{path}{name}.")
        else:
            leaves[f"{path}{name}"] = value
    return leaves


def _at(path: str, value: object) -> Values:
    for name in reversed(path.split(".")):
        value = {name: value}
    assert isinstance(value, dict)
    return value


def _changes(plain: dict[str, str], values: Values) -> bool:
    try:
        return rendered_text(values) != plain
    except helm_python.HelmRenderError:  # the value contradicts another value of this base
        return False


def test_every_value_has_an_effect() -> None:
    made = [(base, rendered_text(base)) for base in BASES]
    without_files = {
        f"monitoring.{name}"
        for name, folder in (("prometheusRule", "rules"), ("dashboards", "dashboards"))
        if not [*(CHART / "files" / folder).glob("*")]
    }
    for path, default in _leaves(DEFAULTS).items():
        if path.startswith("monitoring.prometheusRule.thresholds."):
            continue  # tests/helm/test_rules.py looks at each
        values = _at(path, _another(path, default))
        if path.rpartition(".")[0] in without_files or path.startswith("monitoring.dashboards.labels"):
            continue
        place = next((n for n, (base, plain) in enumerate(made) if _changes(plain, merged(base, values))), None)
        assert place is not None, f"{path} changes nothing"
        # The next value stands beside this one, and mostly has its effect with the same base.
        made.insert(0, made.pop(place))
