"""The objects of each row of the matrix are valid for Kubernetes and its operators, and refer to each other."""

from __future__ import annotations

import copy
import functools
import json
import pkgutil
import re
from pathlib import Path
from typing import Any

import helm_python
import jsonschema
import kubernetes_validate  # type: ignore[import-untyped]  # it has no types
import pytest
import yaml
from pydantic import BaseModel, ValidationError

from common.settings.fields import SECRETS
from common.settings.roles import Role
from common.settings.settings import Settings
from tests.helm.gateway import HTTP_ROUTE
from tests.helm.matrix import MATRIX, OWN_LABELS, Values
from tests.helm.release import CHART, FULLNAME, NAME, NAMESPACE, Object, Release, copy_of_chart, render, walk

KUBERNETES = ("1.27", "1.37")
"""The oldest supported release of Kubernetes, and the newest one with schemas."""

# Imported by the first test that needs one: otherwise each test process would take 1.6 s to collect this file.
OPERATORS = {
    "ScaledObject": "cloudcoil.models.keda.v1alpha1:ScaledObject",
    "ServiceMonitor": "cloudcoil.models.prometheus_operator.v1:ServiceMonitor",
    "PrometheusRule": "cloudcoil.models.prometheus_operator.v1:PrometheusRule",
}

DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


@pytest.fixture(scope="module", params=MATRIX.values(), ids=[*MATRIX])
def release(request: pytest.FixtureRequest) -> Release:
    """Render each row of the matrix."""
    values: Values = request.param
    return render(values)


def check_operators_object(each: Object) -> None:
    """Raise ValidationError for an invalid object, or AssertionError for an unknown field."""
    kind: type[BaseModel] = pkgutil.resolve_name(OPERATORS[each["kind"]])
    understood = kind.model_validate(each).model_dump(by_alias=True, exclude_unset=True, mode="json")
    for path, _ in walk(each["spec"]):
        found: Any = understood["spec"]
        for part in path:
            assert isinstance(found, list) or part in found, f"{each['kind']} has no {part} at {path}"
            found = found[part]


@functools.cache
def check(each: str, version: str) -> None:
    """Raise if Kubernetes or its operator would refuse an object (JSON)."""
    parsed = json.loads(each)
    if parsed["kind"] in OPERATORS:
        check_operators_object(parsed)
    elif parsed["kind"] == "HTTPRoute":
        jsonschema.validate(parsed, HTTP_ROUTE)
    else:
        kubernetes_validate.validate(parsed, version, strict=True)


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_is_valid_for_kubernetes_and_operators(release: Release, version: str) -> None:
    assert len(release.objects) >= 6
    for each in release.objects:
        check(json.dumps(each), version)


def test_check_refuses_unknown_fields_of_kubernetes() -> None:
    deployment = copy.deepcopy(render().get("Deployment", "worker"))
    deployment["spec"]["template"]["spec"]["containers"][0]["livenessProb"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="livenessProb"):
        kubernetes_validate.validate(deployment, KUBERNETES[-1], strict=True)


def test_check_refuses_unknown_fields_of_operators() -> None:
    scaled = copy.deepcopy(render(MATRIX["keda"]).get("ScaledObject", "worker"))
    scaled["spec"]["triggers"][0]["metricTyp"] = "Value"
    with pytest.raises(AssertionError, match="ScaledObject has no metricTyp"):
        check_operators_object(scaled)
    del scaled["spec"]["triggers"][0]["metadata"]
    with pytest.raises(ValidationError, match="metadata"):
        check_operators_object(scaled)


def test_names_are_unique_and_within_the_limits_of_dns(release: Release) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in release.objects]
    assert len({*names}) == len(names)
    for _, name in names:
        assert DNS_LABEL.fullmatch(name), name
    for each in release.objects:
        for value in each["metadata"].get("labels", {}).values():
            assert re.fullmatch(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", value), value


def test_labels_of_people_replace_no_selector(release: Release) -> None:
    for each in release.objects:
        labels = each["metadata"].get("labels", {})
        if "app.kubernetes.io/component" in labels:
            assert labels["app.kubernetes.io/instance"] == NAME
            assert labels["app.kubernetes.io/name"] != OWN_LABELS["app.kubernetes.io/name"]
            assert labels["app.kubernetes.io/component"] != OWN_LABELS["app.kubernetes.io/component"]


@pytest.mark.parametrize(("values", "namespace"), [({}, NAMESPACE), (MATRIX["a namespace of its own"], "calls")])
def test_every_object_names_its_namespace(values: Values, namespace: str) -> None:
    release = render(values)
    assert {each["metadata"]["namespace"] for each in release.objects} == {namespace}
    assert f"--namespace {namespace} " in release.notes
    assert f".{namespace}.svc" in release.notes


def test_annotations_of_people_replace_those_of_the_chart() -> None:
    release = render(MATRIX["labels and annotations of the chart's"])
    metadata = release.get("Deployment", "dispatcher")["spec"]["template"]["metadata"]
    assert metadata["annotations"] == {
        "kubectl.kubernetes.io/default-container": "sidecar",
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
        "karpenter.sh/do-not-disrupt": "false",
    }
    assert metadata["labels"]["team"] == "phones"
    assert release.get("Service", "dispatcher")["metadata"]["labels"]["app.kubernetes.io/version"] == "ours"


def test_names_of_digits_stay_text() -> None:
    release = render({"nameOverride": "404", "fullnameOverride": "a404"}, name="12e3")
    assert {each["metadata"]["labels"]["app.kubernetes.io/instance"] for each in release.objects} == {"12e3"}
    for each in release.of_kind("Deployment"):
        assert each["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"] == "404"


def test_loader_of_the_tests_refuses_a_key_twice(tmp_path: Path) -> None:
    chart = copy_of_chart(tmp_path)
    (chart / "templates" / "twice.yaml").write_text("kind: A\nmetadata: {name: a, name: b}\n", "utf-8")
    with pytest.raises(yaml.constructor.ConstructorError, match="name is there twice"):
        render(chart=chart)


def test_references_between_objects_resolve(release: Release) -> None:
    for deployment in release.of_kind("Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        volumes = {each["name"] for each in pod["volumes"]}
        ports: set[str] = set()
        mounted: set[str] = set()
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            ports |= {each["name"] for each in container.get("ports", [])}
            mounted |= {each["name"] for each in container["volumeMounts"]}
            names = [each["name"] for each in container.get("env", [])]
            assert len({*names}) == len(names)
            for probe in (probe for name, probe in container.items() if name.endswith("Probe")):
                asked = probe.get("httpGet") or probe.get("tcpSocket")
                assert asked is None or asked["port"] in ports
        assert mounted == volumes
        account = pod["serviceAccountName"]
        assert account == "default" or account in {
            each["metadata"]["name"] for each in release.of_kind("ServiceAccount")
        }
        made = {each["metadata"]["name"] for each in release.of_kind("ConfigMap")}
        for volume in pod["volumes"]:
            name = volume.get("configMap", {}).get("name", "")
            assert not name.startswith(FULLNAME) or name in made


def _pods(release: Release, selector: dict[str, str]) -> list[Object]:
    templates = (each["spec"]["template"] for each in release.of_kind("Deployment"))
    return [each for each in templates if selector.items() <= each["metadata"]["labels"].items()]


def test_every_selector_finds_the_pods_of_one_role(release: Release) -> None:
    for service in release.of_kind("Service"):
        (template,) = _pods(release, service["spec"]["selector"])
        assert {each["targetPort"] for each in service["spec"]["ports"]} <= {
            each["name"] for container in template["spec"]["containers"] for each in container["ports"]
        }
    for deployment in release.of_kind("Deployment"):
        assert _pods(release, deployment["spec"]["selector"]["matchLabels"]) == [deployment["spec"]["template"]]
    for budget in release.of_kind("PodDisruptionBudget"):
        assert len(_pods(release, budget["spec"]["selector"]["matchLabels"])) == 1
    for policy in release.of_kind("NetworkPolicy"):
        assert len(_pods(release, policy["spec"]["podSelector"]["matchLabels"])) == 1
    deployments = {each["metadata"]["name"] for each in release.of_kind("Deployment")}
    for kind in ("HorizontalPodAutoscaler", "ScaledObject"):
        for scaler in release.of_kind(kind):
            assert scaler["spec"]["scaleTargetRef"]["name"] in deployments


def test_every_variable_is_a_setting_with_a_valid_value(release: Release) -> None:
    known = {name.upper() for name in Settings.model_fields} | {f"{name.upper()}_FILE" for name in SECRETS}
    for deployment in release.of_kind("Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            variables = {each["name"] for each in container.get("env", []) if "OTEL_" not in each["name"]}
            assert variables - {"NODE_EXTRA_CA_CERTS", "TZ"} <= known
    for role in ("dispatcher", "worker"):
        if f"{FULLNAME}-{role}" in {each["metadata"]["name"] for each in release.of_kind("Deployment")}:
            Settings.parse(release.variables(role), Role(role))


def test_pods_have_minimal_rights(release: Release) -> None:
    pods = [each["spec"]["template"]["spec"] for each in release.of_kind("Deployment")]
    for pod in [*pods, *(each["spec"] for each in release.of_kind("Pod"))]:
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert not any("hostPath" in volume for volume in pod["volumes"])
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert not any("hostPort" in port for port in container.get("ports", []))
    for account in release.of_kind("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    of_the_chart = {each["kind"] for each in release.objects if "labels" in each["metadata"]}
    assert not of_the_chart & {"Role", "ClusterRole", "RoleBinding", "Secret"}


def test_pods_run_as_the_user_of_the_image_by_default() -> None:
    # The tools of AVR's users belong to uid 1000, so that a volume with files of mode 0600 stays readable.
    for deployment in render({"redis": {"url": "redis://redis:6379/0"}}).of_kind("Deployment"):
        context = deployment["spec"]["template"]["spec"]["securityContext"]
        assert [context[name] for name in ("runAsUser", "runAsGroup", "fsGroup")] == [1000, 1000, 1000]


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX.keys())
def test_helm_lint_finds_nothing(values: Values) -> None:
    report = helm_python.lint(CHART, values, strict=True, kube_version="v1.31.0")
    assert report["errors"] == []
    assert report["messages"] == []


def test_packaged_chart_contains_its_files(tmp_path: Path) -> None:
    packed = helm_python.package(CHART, destination=tmp_path)
    helm_python.expand(tmp_path, packed)
    assert render(chart=tmp_path / "avr-sts-openai") == render()
    examples = {file.name for file in (CHART / "examples").iterdir()}
    assert {file.name for file in (tmp_path / "avr-sts-openai" / "examples").iterdir()} == examples
    assert (tmp_path / "avr-sts-openai" / "README.md").is_file()
