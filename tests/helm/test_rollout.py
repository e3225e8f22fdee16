"""The effects of a rollout, a drain and an upgrade on pods and their calls."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.runtime.cli import parse_arguments
from common.runtime.release import RELEASE
from common.settings.roles import DEFAULT_DRAIN_SECONDS, Role
from tests.helm.matrix import MATRIX, Values
from tests.helm.release import CHART, Object, Release, copy_of_chart, render

ROLES = ("dispatcher", "worker")
EVERYTHING = MATRIX["example production"]


def templates(release: Release) -> dict[str, Object]:
    """Return the pod templates of the Deployments; a changed template restarts the pods."""
    return {
        each["metadata"]["name"]: copy.deepcopy(each["spec"]["template"]) for each in release.of_kind("Deployment")
    }


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "production"])
def test_new_chart_version_alone_restarts_no_pod(tmp_path: Path, values: Values) -> None:
    newer = render(values, chart=copy_of_chart(tmp_path, version="9.9.9"), revision=2, is_upgrade=True)
    before = render(values, revision=1, is_install=True)
    assert templates(newer) == templates(before)
    assert newer.get("Service", "dispatcher")["metadata"]["labels"]["helm.sh/chart"] == "avr-sts-openai-9.9.9"


def test_new_service_release_changes_only_the_image(tmp_path: Path) -> None:
    newer = templates(render(EVERYTHING, chart=copy_of_chart(tmp_path, appVersion="9.9.9")))
    before = templates(render(EVERYTHING))
    for template in (*newer.values(), *before.values()):
        for container in (*template["spec"]["containers"], *template["spec"].get("initContainers", [])):
            container["image"] = container["image"].replace(":9.9.9", f":{RELEASE}")
    assert newer == before


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX.keys())
def test_selectors_are_stable(values: Values) -> None:
    # Kubernetes refuses changed selectors, so even people's own labels must not be part of them.
    kept = {name: values[name] for name in ("nameOverride",) if name in values}
    expected = render(kept)
    for component in ROLES:
        for release in (render(values), expected):
            (deployment,) = (
                each
                for each in release.of_kind("Deployment")
                if each["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"] == component
            )
            assert deployment["spec"]["selector"]["matchLabels"] == {
                "app.kubernetes.io/name": values.get("nameOverride", "avr-sts-openai"),
                "app.kubernetes.io/instance": "demo",
                "app.kubernetes.io/component": component,
            }


def test_two_releases_side_by_side_share_no_name_and_no_pod() -> None:
    one, other = render(name="one"), render(name="other")

    def names(release: Release) -> set[tuple[str, str]]:
        return {(each["kind"], each["metadata"]["name"]) for each in release.objects}

    assert not names(one) & names(other)
    for service in one.of_kind("Service"):
        selector = service["spec"]["selector"].items()
        assert not [each for each in templates(other).values() if selector <= each["metadata"]["labels"].items()]


@pytest.mark.parametrize("role", ROLES)
def test_the_default_drain_is_that_of_the_service(role: str) -> None:
    assert float(render().text(role, "DRAIN_SECONDS")) == DEFAULT_DRAIN_SECONDS[Role(role)]


@pytest.mark.parametrize("drain_seconds", [30, 3600, 86_400])
@pytest.mark.parametrize("role", ROLES)
def test_grace_period_covers_the_pause_and_the_drain(role: str, drain_seconds: int) -> None:
    release = render({role: {"drainSeconds": drain_seconds}})
    container = release.container(role)
    pause_seconds = 0
    if "lifecycle" in container:
        sleep, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
        assert sleep == "sleep"
        pause_seconds = int(seconds)
    assert float(release.text(role, "DRAIN_SECONDS")) == drain_seconds
    assert release.pod(role)["terminationGracePeriodSeconds"] >= pause_seconds + drain_seconds + 10


def test_only_dispatchers_pause_before_sigterm() -> None:
    release = render()
    assert release.container("dispatcher")["lifecycle"] == {"preStop": {"exec": {"command": ["sleep", "15"]}}}
    assert "lifecycle" not in release.container("worker")


@pytest.mark.parametrize("role", ROLES)
def test_probes_use_the_admin_port(role: str) -> None:
    container = render().container(role)
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "admin"}
    assert container["startupProbe"]["httpGet"] == {"path": "/livez", "port": "admin"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "admin"}
    # A pod that stalls for a moment still has calls.
    assert container["livenessProbe"]["periodSeconds"] * container["livenessProbe"]["failureThreshold"] >= 60


@pytest.mark.parametrize("role", ROLES)
def test_new_pods_are_ready_before_old_ones_drain(role: str) -> None:
    strategy = render().get("Deployment", role)["spec"]["strategy"]
    assert strategy["type"] == "RollingUpdate"
    assert strategy["rollingUpdate"]["maxUnavailable"] == 0


def test_a_new_dispatcher_waits_for_workers_of_its_release() -> None:
    release = render(EVERYTHING)
    (wait,) = release.pod("dispatcher")["initContainers"]
    container = release.container("dispatcher")
    assert "command" not in wait, "the image's entrypoint runs it"
    assert wait["args"] == ["await-workers", "--seconds", "600"]
    parse_arguments(wait["args"])
    assert wait["env"] == container["env"]
    assert wait["image"] == container["image"]
    assert wait["volumeMounts"] == container["volumeMounts"]
    assert release.get("Deployment", "dispatcher")["spec"]["progressDeadlineSeconds"] > 600
    assert "initContainers" not in release.pod("worker")


def test_the_wait_can_be_switched_off() -> None:
    assert "initContainers" not in render({"dispatcher": {"waitForWorkersSeconds": 0}}).pod("dispatcher")


@pytest.mark.parametrize(
    "change",
    [
        {"config": {"OPENAI_VOICE": "cedar"}},
        {"configFromSecrets": {"OPENAI_API_KEY": {"name": "other", "key": "key"}}},
        {"tools": {"existingConfigMap": "ours"}},
        {"worker": {"drainSeconds": 60}},
    ],
    ids=["voice", "key", "tools", "worker's drain"],
)
def test_setting_of_workers_alone_restarts_no_dispatcher(change: Values) -> None:
    before, after = templates(render()), templates(render(change))
    assert after["demo-avr-sts-openai-worker"] != before["demo-avr-sts-openai-worker"]
    assert after["demo-avr-sts-openai-dispatcher"] == before["demo-avr-sts-openai-dispatcher"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"instructions": {"text": "a"}}, {"instructions": {"text": "b"}}),
        ({"tools": {"files": {"a.py": "a"}}}, {"tools": {"files": {"a.py": "b", "c.py": ""}}}),
        ({}, {"dispatcher": {"replicas": 9}, "worker": {"replicas": 9}}),
        ({}, {"commonLabels": {"team": "phones"}}),
        ({}, {"monitoring": {"serviceMonitor": {"enabled": True}}}),
        ({}, {"networkPolicy": {"enabled": False}}),
        ({}, {"worker": {"autoscaling": {"type": "hpa"}}}),
    ],
    ids=["instructions", "tools", "replicas", "labels", "monitoring", "network policy", "autoscaling"],
)
def test_value_that_no_pod_reads_at_start_restarts_none(before: Values, after: Values) -> None:
    assert templates(render(before)) == templates(render(after))


def test_nodes_with_dispatchers_are_kept_unless_configured() -> None:
    def annotations(values: Values) -> dict[str, Any]:
        found: dict[str, Any] = templates(render(values))["demo-avr-sts-openai-dispatcher"]["metadata"][
            "annotations"
        ]
        return found

    assert (
        annotations({}).items()
        >= {
            "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
            "karpenter.sh/do-not-disrupt": "true",
        }.items()
    )
    assert annotations({"dispatcher": {"safeToEvict": True}}).keys() == {"kubectl.kubernetes.io/default-container"}


@pytest.mark.parametrize("role", ROLES)
def test_one_pod_of_a_role_is_evicted_at_a_time(role: str) -> None:
    budget = render().get("PodDisruptionBudget", role)["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@pytest.mark.parametrize("role", ROLES)
def test_budget_may_name_available_pods(role: str) -> None:
    budget = render(MATRIX["a budget of available pods"]).get("PodDisruptionBudget", role)["spec"]
    assert budget["minAvailable"] == "50%"
    assert "maxUnavailable" not in budget, "Kubernetes allows one of both"


@pytest.mark.parametrize("role", ROLES)
def test_pods_of_a_role_are_spread_over_zones_and_nodes(role: str) -> None:
    release = render()
    constraints = release.pod(role)["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in constraints] == [
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    ]
    for each in constraints:
        assert each["whenUnsatisfiable"] == "ScheduleAnyway"
        assert (
            each["labelSelector"]["matchLabels"]
            == release.get("Deployment", role)["spec"]["selector"]["matchLabels"]
        )
        assert each["matchLabelKeys"] == ["pod-template-hash"]


def test_chart_has_the_projects_release() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    with (CHART.parent / "pyproject.toml").open("rb") as file:
        assert chart["appVersion"] == tomllib.load(file)["project"]["version"]
