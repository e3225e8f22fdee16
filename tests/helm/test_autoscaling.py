"""Workers scale by their own figures, and a missing figure never scales in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.matrix import MATRIX
from tests.helm.release import CHART, NAMESPACE, Object, render

FIGURES = f'{{namespace="{NAMESPACE}",service="demo-avr-sts-openai-worker-admin",pod="%s"}}'


def behavior(release_values: dict[str, Any]) -> Object:
    release = render(release_values)
    found = release.of_kind("HorizontalPodAutoscaler") or [
        each["spec"]["advanced"]["horizontalPodAutoscalerConfig"] for each in release.of_kind("ScaledObject")
    ]
    (scaler,) = found
    behavior: Object = scaler.get("spec", scaler)["behavior"]
    return behavior


def adapter_rule() -> dict[str, Any]:
    """Return the rule of the example for prometheus-adapter."""
    values = yaml.safe_load((CHART / "examples" / "prometheus-adapter.yaml").read_text("utf-8"))
    (rule,) = values["rules"]["custom"]
    found: dict[str, Any] = rule
    return found


def triggers() -> dict[str, dict[str, str]]:
    """Return the fields of KEDA's triggers, by name."""
    (scaled,) = render(MATRIX["keda"]).of_kind("ScaledObject")
    return {each["name"]: each["metadata"] for each in scaled["spec"]["triggers"]}


@pytest.mark.parametrize("kind", ["hpa", "keda"])
def test_upgrade_keeps_the_autoscalers_number_of_workers(kind: str) -> None:
    assert render().get("Deployment", "worker")["spec"]["replicas"] == 2
    assert "replicas" not in render(MATRIX[kind]).get("Deployment", "worker")["spec"]


def test_only_the_chosen_autoscaler_is_rendered() -> None:
    kinds = {"HorizontalPodAutoscaler", "ScaledObject"}
    assert {each["kind"] for each in render().objects} & kinds == set()
    assert {each["kind"] for each in render(MATRIX["hpa"]).objects} & kinds == {"HorizontalPodAutoscaler"}
    assert {each["kind"] for each in render(MATRIX["keda"]).objects} & kinds == {"ScaledObject"}


@pytest.mark.parametrize("kind", ["hpa", "keda"])
def test_workers_are_added_at_once_and_removed_slowly(kind: str) -> None:
    assert behavior(MATRIX[kind])["scaleUp"]["stabilizationWindowSeconds"] == 0
    assert behavior(MATRIX[kind])["scaleDown"] == {
        "stabilizationWindowSeconds": 600,
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 120}],
    }


def test_hpa_uses_a_metric_per_pod() -> None:
    # With a metric per pod, Kubernetes knows which pods have no figure, and counts these as on target before it
    # scales in. One sum for all pods would not show this.
    (hpa,) = render(MATRIX["hpa"]).of_kind("HorizontalPodAutoscaler")
    assert hpa["spec"]["metrics"] == [
        {
            "type": "Pods",
            "pods": {
                "metric": {"name": "avr_sts_worker_utilization"},
                "target": {"type": "AverageValue", "averageValue": "700m"},
            },
        }
    ]
    assert (hpa["spec"]["minReplicas"], hpa["spec"]["maxReplicas"]) == (2, 20)


def test_dispatchers_scale_by_their_cpu() -> None:
    release = render(MATRIX["dispatchers by hpa"])
    hpa = release.get("HorizontalPodAutoscaler", "dispatcher")["spec"]
    assert hpa["metrics"] == [
        {
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}},
        }
    ]
    assert (hpa["minReplicas"], hpa["maxReplicas"]) == (2, 10)
    assert hpa["scaleTargetRef"]["name"] == "demo-avr-sts-openai-dispatcher"
    assert "replicas" not in release.get("Deployment", "dispatcher")["spec"]
    assert "cpu" in release.container("dispatcher")["resources"]["requests"], "a share of nothing is no figure"


def test_dispatchers_are_removed_one_at_a_time() -> None:
    # A removed dispatcher keeps its calls until these end, for an hour at most.
    hpa = render(MATRIX["dispatchers by hpa"]).get("HorizontalPodAutoscaler", "dispatcher")["spec"]
    assert hpa["behavior"]["scaleDown"] == {
        "stabilizationWindowSeconds": 1800,
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 600}],
    }


def test_dispatchers_may_scale_by_another_metric() -> None:
    values = MATRIX["dispatchers by a metric of their own"]
    hpa = render(values).get("HorizontalPodAutoscaler", "dispatcher")["spec"]
    assert hpa["metrics"] == values["dispatcher"]["autoscaling"]["metrics"]


def test_rule_of_the_adapter_produces_the_hpas_metric() -> None:
    assert adapter_rule()["name"]["as"] == "avr_sts_worker_utilization"


def test_keda_treats_an_empty_answer_as_an_error() -> None:
    (scaled,) = render(MATRIX["keda"]).of_kind("ScaledObject")
    for each in scaled["spec"]["triggers"]:
        assert each["metricType"] == "Value"
        assert each["metadata"]["ignoreNullValues"] == "false"
        assert each["metadata"]["threshold"] == "0.7"
        assert each["metadata"]["authModes"] == "bearer"
        assert each["authenticationRef"] == {"name": "prometheus", "kind": "ClusterTriggerAuthentication"}
    # A fallback would invent a figure, and 0 workers could not report one.
    assert "fallback" not in scaled["spec"]
    assert scaled["spec"]["minReplicaCount"] >= 1


def _series(active: dict[str, int | None]) -> list[dict[str, str]]:
    """Return series of workers with a capacity of 100, by pod; None: the pod does not answer."""
    series = [
        {"series": f"up{FIGURES % pod}", "values": str(int(calls is not None))} for pod, calls in active.items()
    ]
    for pod, calls in active.items():
        if calls is not None:
            series.append({"series": f"avr_sts_calls_active{FIGURES % pod}", "values": str(calls)})
            series.append({"series": f"avr_sts_calls_capacity{FIGURES % pod}", "values": "100"})
    # A pod of another release, which must be ignored.
    other = FIGURES.replace("demo", "other") % "x"
    series.append({"series": f"avr_sts_calls_active{other}", "values": "100"})
    series.append({"series": f"avr_sts_calls_capacity{other}", "values": "100"})
    series.append({"series": f"up{other}", "values": "0"})
    return series


def _promtool() -> str:
    if promtool := shutil.which("promtool"):
        return promtool
    message = "promtool is missing: install the packages of .ci/packages"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.mark.system
def test_queries_give_the_expected_figures(tmp_path: Path) -> None:
    promtool = _promtool()
    keda = triggers()
    utilization, whole = keda["utilization"]["query"], keda["whole-figure"]["query"]
    per_pod = adapter_rule()["metricsQuery"].replace("<<.GroupBy>>", "pod")
    per_pod = per_pod.replace("<<.LabelMatchers>>", f'namespace="{NAMESPACE}",pod=~"a|b"')
    empty: list[Any] = []
    cases: list[tuple[dict[str, int | None], dict[str, list[Any]]]] = [
        ({"a": 60, "b": 20}, {utilization: [0.4], whole: [0.4]}),
        ({"a": 60, "b": None}, {utilization: [0.6], whole: empty}),
        ({"a": None, "b": None}, {utilization: empty, whole: empty}),
        ({"a": 0, "b": 0}, {utilization: [0], whole: [0]}),
    ]
    tests = [
        {
            "interval": "1m",
            "input_series": _series(active),
            "promql_expr_test": [
                {
                    "expr": query,
                    "eval_time": "0m",
                    "exp_samples": [{"labels": "{}", "value": value} for value in values],
                }
                for query, values in expected.items()
            ],
        }
        for active, expected in cases
    ]
    pods = [{"labels": f'{{pod="{pod}"}}', "value": value} for pod, value in (("a", 0.6), ("b", 0.2))]
    tests.append(
        {
            "interval": "1m",
            "input_series": _series({"a": 60, "b": 20}),
            "promql_expr_test": [{"expr": per_pod, "eval_time": "0m", "exp_samples": pods}],
        }
    )
    file = tmp_path / "queries.yaml"
    file.write_text(json.dumps({"tests": tests}), "utf-8")
    run = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
