"""The route of a Gateway to the dispatchers."""

from __future__ import annotations

import helm_python
import pytest

from tests.helm.matrix import MATRIX, Values
from tests.helm.release import Object, example, merged, render

ROUTE: Values = {
    "dispatcher": {
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "edge", "namespace": "gateways"}]},
    }
}


def spec(values: Values) -> Object:
    found: Object = render(values).get("HTTPRoute", "dispatcher")["spec"]
    return found


def test_there_is_no_route_by_default() -> None:
    assert render().of_kind("HTTPRoute") == []


def test_route_sends_all_calls_to_the_service() -> None:
    release = render(ROUTE)
    service = release.get("Service", "dispatcher")
    (rule,) = spec(ROUTE)["rules"]
    assert spec(ROUTE)["parentRefs"] == [{"name": "edge", "namespace": "gateways"}]
    assert "hostnames" not in spec(ROUTE)
    assert rule["matches"] == [{"path": {"type": "PathPrefix", "value": "/"}}]
    assert rule["backendRefs"] == [
        {"name": service["metadata"]["name"], "port": service["spec"]["ports"][0]["port"]}
    ]


def test_gateway_may_not_end_a_call_after_a_time() -> None:
    (rule,) = spec(ROUTE)["rules"]
    assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}


def test_timeouts_can_be_left_out() -> None:
    # Not every Gateway accepts them.
    values = merged(ROUTE, {"dispatcher": {"httpRoute": {"timeouts": None}}})
    (rule,) = spec(values)["rules"]
    assert "timeouts" not in rule


def test_parts_of_the_route_have_values() -> None:
    values = MATRIX["a route of everything"]
    (rule,) = spec(values)["rules"]
    assert spec(values)["hostnames"] == ["calls.example.com"]
    assert rule["matches"][0]["path"]["value"] == "/calls"
    assert rule["filters"][0]["type"] == "RequestHeaderModifier"
    assert rule["timeouts"] == {"request": "2h", "backendRequest": "0s"}
    metadata = render(values).get("HTTPRoute", "dispatcher")["metadata"]
    assert metadata["annotations"] == {"a": "b"}
    assert metadata["labels"]["team"] == "phones"


def test_route_without_a_gateway_is_refused() -> None:
    with pytest.raises(helm_python.HelmRenderError, match=r"dispatcher\.httpRoute\.parentRefs: name the Gateway"):
        render({"dispatcher": {"httpRoute": {"enabled": True}}})


def test_notes_name_the_host_of_the_route() -> None:
    assert "STS_URL=wss://calls.example.com/calls\n" in render(MATRIX["a route of everything"]).notes


def test_example_lets_the_gateway_reach_dispatchers() -> None:
    release = render(example("gateway"))
    (route,) = release.of_kind("HTTPRoute")
    (parent,) = route["spec"]["parentRefs"]
    ingress = release.get("NetworkPolicy", "dispatcher")["spec"]["ingress"]
    (calls,) = (each for each in ingress if each["ports"][0]["port"] == 6030)
    (peer,) = (each for each in calls["from"] if "namespaceSelector" in each)
    assert peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] == parent["namespace"]
