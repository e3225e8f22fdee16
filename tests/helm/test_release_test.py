"""The pod of `helm test`, which asks whether the release takes calls."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import Any

import pytest

from common.runtime.cli import parse_arguments
from tests.helm.matrix import MATRIX
from tests.helm.release import Object, Release, render


def pod(release: Release) -> Object:
    (found,) = release.of_kind("Pod")
    return found


def test_pod_runs_only_for_helm_test() -> None:
    metadata = pod(render())["metadata"]
    assert metadata["annotations"] == {
        "helm.sh/hook": "test",
        "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded",
    }
    assert pod(render())["spec"]["restartPolicy"] == "Never"


def test_pod_waits_for_workers_as_a_new_dispatcher_does() -> None:
    release = render(MATRIX["redis by host"])
    (wait,) = pod(release)["spec"]["initContainers"]
    parse_arguments(wait["args"])
    assert wait["args"][0] == "await-workers"
    assert wait["env"] == release.container("dispatcher")["env"]
    assert wait["image"] == release.container("dispatcher")["image"]


def test_pod_connects_to_the_service_of_calls() -> None:
    release = render({"dispatcher": {"service": {"port": 80}}})
    (connect,) = pod(release)["spec"]["containers"]
    assert connect["command"][0] == "python"
    assert connect["args"] == ["demo-avr-sts-openai-dispatcher.telephony.svc", "80"]


def connects(port: int) -> bool:
    """Return whether the pod's own command succeeds, at a port of this machine."""
    (container,) = pod(render())["spec"]["containers"]
    command = [sys.executable, *container["command"][1:], "127.0.0.1", str(port)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_command_of_the_pod_tells_whether_something_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        assert connects(port)
    assert not connects(port)


def test_notes_name_the_test() -> None:
    assert "helm test demo --namespace telephony\n" in render().notes


def test_no_service_and_no_policy_selects_the_pod() -> None:
    release = render(MATRIX["monitoring"])
    labels = pod(release)["metadata"]["labels"]
    selectors: list[dict[str, Any]] = [each["spec"]["selector"] for each in release.of_kind("Service")]
    selectors += [each["spec"]["podSelector"]["matchLabels"] for each in release.of_kind("NetworkPolicy")]
    assert not [each for each in selectors if each.items() <= labels.items()]


@pytest.mark.parametrize(("policy", "port"), [("dispatcher", 6030), ("redis", 6379)])
def test_policies_let_the_pod_in(policy: str, port: int) -> None:
    release = render({"networkPolicy": {"callersFrom": [{"podSelector": {"matchLabels": {"app": "avr-core"}}}]}})
    rules = release.get("NetworkPolicy", policy)["spec"]["ingress"]
    (rule,) = (each for each in rules if each["ports"][0]["port"] == port)
    labels = pod(release)["metadata"]["labels"]
    assert [
        each
        for each in rule["from"]
        if "namespaceSelector" not in each and each["podSelector"]["matchLabels"].items() <= labels.items()
    ]
