"""Fields of Kubernetes that people add to pods, containers and Deployments, and objects of their own."""

from __future__ import annotations

from typing import Any

import helm_python
import pytest

from tests.helm.matrix import MATRIX, SIDECAR, Values
from tests.helm.release import Object, render

ROLES = ("dispatcher", "worker")
FIELDS = MATRIX["fields of Kubernetes"]


def named(entries: list[Object], name: str, key: str = "name") -> Object:
    (found,) = (each for each in entries if each[key] == name)
    return found


@pytest.mark.parametrize("role", ROLES)
def test_pod_spec_is_merged_over_that_of_the_chart(role: str) -> None:
    plain, pod = render().pod(role), render(FIELDS).pod(role)
    assert pod["dnsConfig"] == {"options": [{"name": "ndots", "value": "1"}]}
    assert pod["runtimeClassName"] == "gvisor"
    assert named(pod["volumes"], "tmp") == {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}
    assert [each["name"] for each in pod["containers"]] == [role, "sidecar"]
    for name in ("terminationGracePeriodSeconds", "serviceAccountName", "topologySpreadConstraints"):
        assert pod[name] == plain[name]


@pytest.mark.parametrize("role", ROLES)
def test_container_spec_is_merged_over_that_of_the_chart(role: str) -> None:
    plain, container = render().container(role), render(FIELDS).container(role)
    assert container["resources"]["limits"] == {"cpu": "2", **plain["resources"]["limits"]}
    assert container["resources"]["requests"] == plain["resources"]["requests"]
    assert container["image"] == plain["image"]
    assert container["env"][:-1] == plain["env"], "entries of a list are found by name"
    assert container["env"][-1] == {"name": "TZ", "value": "UTC"}
    known = [each["mountPath"] for each in plain["volumeMounts"]]
    paths = [each["mountPath"] for each in container["volumeMounts"]]
    assert paths == [*known, "/cache"], "one volume may have several mounts"
    assert container["lifecycle"].items() >= {"postStart": {"exec": {"command": ["true"]}}}.items()
    assert ("preStop" in container["lifecycle"]) == (role == "dispatcher")


@pytest.mark.parametrize("role", ROLES)
def test_null_in_a_spec_removes_the_field(role: str) -> None:
    values: Values = {
        role: {
            "podSpec": {"enableServiceLinks": None, "topologySpreadConstraints": None},
            "containerSpec": {"securityContext": {"readOnlyRootFilesystem": None}, "livenessProbe": None},
        }
    }
    release = render(values)
    assert not {"enableServiceLinks", "topologySpreadConstraints"} & release.pod(role).keys()
    assert "readOnlyRootFilesystem" not in release.container(role)["securityContext"]
    assert "allowPrivilegeEscalation" in release.container(role)["securityContext"]
    assert "livenessProbe" not in release.container(role)


@pytest.mark.parametrize("role", ROLES)
def test_list_without_names_is_replaced(role: str) -> None:
    tolerations = [{"key": "b", "operator": "Exists"}]
    values: Values = {
        role: {
            "tolerations": [{"key": "a", "operator": "Exists"}],
            "podSpec": {"tolerations": tolerations},
            "containerSpec": {"args": [role, "--help"]},
        }
    }
    assert render(values).pod(role)["tolerations"] == tolerations
    assert render(values).container(role)["args"] == [role, "--help"]


def test_spec_of_one_role_leaves_the_other() -> None:
    release = render({"worker": {"podSpec": {"hostname": "a"}, "containerSpec": {"tty": True}}})
    assert release.get("Deployment", "dispatcher") == render().get("Deployment", "dispatcher")


def test_pod_spec_reaches_the_wait_for_workers() -> None:
    values: Values = {
        "dispatcher": {
            "podSpec": {"initContainers": [{"name": "await-workers", "args": ["await-workers", "--seconds", "9"]}]}
        }
    }
    (wait,) = render(values).pod("dispatcher")["initContainers"]
    assert wait["args"] == ["await-workers", "--seconds", "9"]
    assert wait["image"] == render().container("dispatcher")["image"]


def test_container_spec_cannot_rename_the_container() -> None:
    values: Values = {"worker": {"containerSpec": {"name": "other", "tty": True}}}
    assert [each["name"] for each in render(values).pod("worker")["containers"]] == ["worker"]


@pytest.mark.parametrize("role", ROLES)
def test_own_containers_run_beside_those_of_the_chart(role: str) -> None:
    pod = render(FIELDS).pod(role)
    assert named(pod["containers"], "sidecar") == {
        **SIDECAR,
        "ports": [{"name": "proxy", "containerPort": 15001}],
        "tty": True,
    }
    names = [each["name"] for each in pod["initContainers"]]
    # A proxy that has to run before anything connects must start before the wait.
    assert names == (["warm-up", "await-workers"] if role == "dispatcher" else ["warm-up"])


@pytest.mark.parametrize("role", ROLES)
def test_variables_from_maps_and_secrets_reach_the_role(role: str) -> None:
    release = render(FIELDS)
    expected = [{"secretRef": {"name": "more", "optional": True}}]
    assert release.container(role)["envFrom"] == expected
    for wait in release.pod(role)["initContainers"]:
        assert wait.get("envFrom") == (expected if wait["name"] == "await-workers" else None)


def test_empty_label_or_annotation_stays() -> None:
    values: Values = {
        "commonLabels": {"app.kubernetes.io/version": ""},
        "worker": {
            "podAnnotations": {"kubectl.kubernetes.io/default-container": "", "a": ""},
            "podLabels": {"b": ""},
        },
    }
    deployment = render(values).get("Deployment", "worker")
    metadata = deployment["spec"]["template"]["metadata"]
    assert metadata["annotations"] == {"kubectl.kubernetes.io/default-container": "", "a": ""}
    assert metadata["labels"]["b"] == ""
    assert deployment["metadata"]["labels"]["app.kubernetes.io/version"] == ""


@pytest.mark.parametrize("role", ROLES)
def test_metadata_of_a_deployment_restarts_no_pod(role: str) -> None:
    values: Values = {
        role: {
            "deploymentLabels": {"tier": "calls"},
            "deploymentAnnotations": {"reloader.stakater.com/auto": "true"},
        }
    }
    deployment, plain = render(values).get("Deployment", role), render().get("Deployment", role)
    assert deployment["metadata"]["labels"]["tier"] == "calls"
    assert deployment["metadata"]["annotations"] == {"reloader.stakater.com/auto": "true"}
    assert deployment["spec"] == plain["spec"]


@pytest.mark.parametrize("role", ROLES)
def test_probes_can_be_changed_in_parts(role: str) -> None:
    container = render(FIELDS).container(role)
    assert container["startupProbe"] == {**render().container(role)["startupProbe"], "failureThreshold": 120}
    assert container["readinessProbe"]["periodSeconds"] == 5
    assert container["livenessProbe"]["exec"] == {"command": ["avr-sts-openai", "healthcheck"]}
    assert "httpGet" not in container["livenessProbe"]


@pytest.mark.parametrize("role", ROLES)
def test_null_probe_is_not_rendered(role: str) -> None:
    container = render(MATRIX["no probes"]).container(role)
    assert not [name for name in container if name.endswith("Probe")]


def test_own_objects_are_templates() -> None:
    release = render(MATRIX["objects of their own"])
    more = release.get("ConfigMap", "more")
    assert more["data"] == {"release": "demo", "count": "3"}
    assert more["metadata"]["namespace"] == "telephony"
    (secret,) = release.of_kind("Secret")
    assert secret["metadata"]["name"] == "demo-more"
    assert secret["stringData"] == {"a": "2"}


@pytest.mark.parametrize("wrong", ["just text", "- a\n- list\n", "kind: Unfinished\n"])
def test_own_object_that_is_none_is_refused_with_its_place(wrong: Any) -> None:
    with pytest.raises(helm_python.HelmRenderError, match=r"extraObjects\[1\]: "):
        render({"extraObjects": [MATRIX["objects of their own"]["extraObjects"][0], wrong]})
