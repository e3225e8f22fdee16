"""Network policies, Services and Ingress: permitted connections between pods and to other hosts."""

from __future__ import annotations

import ipaddress

import pytest

from tests.helm.matrix import MATRIX, Values
from tests.helm.release import Object, example, merged, render


def policy(role: str, values: Values | None = None) -> Object:
    spec: Object = render(values).get("NetworkPolicy", role)["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"], "a direction that is not named is open"
    return spec


def ports(rule: Object) -> set[int]:
    return {each["port"] for each in rule.get("ports", [])}


def rule_for(port: int, rules: list[Object]) -> Object:
    (found,) = (each for each in rules if port in ports(each))
    return found


def pods(component: str) -> Object:
    return {
        "podSelector": {
            "matchLabels": {
                "app.kubernetes.io/name": "avr-sts-openai",
                "app.kubernetes.io/instance": "demo",
                "app.kubernetes.io/component": component,
            }
        }
    }


def test_calls_are_permitted_from_anywhere_by_default() -> None:
    assert "from" not in rule_for(6030, policy("dispatcher")["ingress"])
    peers = [{"ipBlock": {"cidr": "10.0.0.0/8"}}]
    assert rule_for(6030, policy("dispatcher", {"networkPolicy": {"callersFrom": peers}})["ingress"])["from"] == [
        *peers,
        pods("test"),
    ]


@pytest.mark.parametrize("role", ["dispatcher", "worker"])
def test_probes_and_metrics_are_for_the_cluster_by_default(role: str) -> None:
    assert rule_for(9090, policy(role)["ingress"])["from"] == [{"namespaceSelector": {}}]
    peers = [{"ipBlock": {"cidr": "10.0.0.0/8"}}]
    assert rule_for(9090, policy(role, {"networkPolicy": {"adminFrom": peers}})["ingress"])["from"] == peers


def test_only_dispatchers_may_connect_to_workers() -> None:
    assert rule_for(7000, policy("worker")["ingress"])["from"] == [pods("dispatcher")]
    assert rule_for(7000, policy("dispatcher")["egress"])["to"] == [pods("worker")]


def test_bundled_redis_accepts_only_both_roles_and_has_no_egress() -> None:
    redis = policy("redis")
    assert redis["ingress"] == [
        {
            "ports": [{"port": 6379, "protocol": "TCP"}],
            "from": [pods(each) for each in ("dispatcher", "worker", "test")],
        }
    ]
    assert redis["egress"] == []


@pytest.mark.parametrize("role", ["dispatcher", "worker"])
@pytest.mark.parametrize(
    ("values", "port"),
    [
        (MATRIX["redis by url"], 6380),
        ({"redis": {"url": "redis://redis/0"}}, 6379),
        ({"redis": {"url": "redis://[fd00::1]:6381/0"}}, 6381),
        (MATRIX["redis by secret"], 6379),
        (MATRIX["redis by host"], 6380),
        *((MATRIX["redis by sentinels"], port) for port in (6380, 26379, 26380)),
        (merged(MATRIX["redis by secret"], {"networkPolicy": {"sentinelPort": 26999}}), 26999),
        (MATRIX["restricted egress"], 16379),
    ],
)
def test_redis_can_be_reached_at_its_port(role: str, values: Values, port: int) -> None:
    assert "to" not in rule_for(port, policy(role, values)["egress"])


@pytest.mark.parametrize("role", ["dispatcher", "worker"])
def test_names_can_be_resolved(role: str) -> None:
    dns = rule_for(53, policy(role)["egress"])
    assert "to" not in dns
    assert {"UDP", "TCP"} == {each["protocol"] for each in dns["ports"]}


@pytest.mark.parametrize(
    ("url", "port"),
    [
        (None, 6006),
        ("http://avr-ami.avr:6106", 6106),
        ("http://ami.example.com", 80),
        ("https://ami.example.com", 443),
    ],
)
def test_dispatchers_reach_avr_ami_and_nothing_else(url: str | None, port: int) -> None:
    egress = policy("dispatcher", {"config": {"AMI_URL": url}} if url else {})["egress"]
    assert set.union(*(ports(each) for each in egress)) == {53, 5353, 6379, 7000, port}


@pytest.mark.parametrize(
    ("values", "more"),
    [
        ({"config": {"CALL_RECORDS_WEBHOOK": "https://crm.example/records"}}, {443}),
        ({"config": {"CALL_RECORDS_WEBHOOK": "http://crm/records"}}, {80}),
        ({"config": {"CALL_RECORDS_WEBHOOK": "http://crm:8080/records"}}, {8080}),
        ({"configFromSecrets": {"CALL_RECORDS_WEBHOOK": {"name": "a", "key": "b"}}}, {443}),
        ({"configFromSecrets": {"CALL_RECORDS_REDIS_URL": {"name": "a", "key": "b"}}}, set()),
    ],
)
def test_dispatchers_reach_the_receiver_of_records(values: Values, more: set[int]) -> None:
    egress = policy("dispatcher", values)["egress"]
    assert set.union(*map(ports, egress)) == {53, 5353, 6006, 6379, 7000} | more
    with_targets = [each for each in egress if ports(each) == {6379} and "to" not in each]
    assert bool(with_targets) == ("CALL_RECORDS_REDIS_URL" in str(values))


@pytest.mark.parametrize("port", [16006, 18443, 16379, 14317, 12345])
def test_ports_of_urls_in_secrets_can_be_opened(port: int) -> None:
    assert "to" not in rule_for(port, policy("dispatcher", MATRIX["ports of URLs in secrets"])["egress"])


def test_ports_of_urls_in_secrets_replace_the_guesses() -> None:
    egress = policy("dispatcher", MATRIX["ports of URLs in secrets"])["egress"]
    assert set.union(*map(ports, egress)) == {53, 5353, 6379, 7000, 16006, 18443, 16379, 14317, 12345}


def test_collector_in_a_secret_is_reached_at_its_usual_port() -> None:
    values: Values = {"configFromSecrets": {"OTEL_EXPORTER_OTLP_ENDPOINT": {"name": "a", "key": "b"}}}
    assert "to" not in rule_for(4317, policy("dispatcher", values)["egress"])


def test_workers_reach_everything_but_link_local_addresses() -> None:
    (anywhere,) = (each for each in policy("worker")["egress"] if not each.get("ports"))
    assert anywhere["to"][0] == {"namespaceSelector": {}}, "a plug-in may not count pods as addresses"
    blocks = [each["ipBlock"] for each in anywhere["to"][1:]]

    def reached(address: str) -> bool:
        wanted = ipaddress.ip_address(address)

        def inside(network: str) -> bool:
            return wanted in ipaddress.ip_network(network)

        return any(inside(each["cidr"]) and not any(map(inside, each["except"])) for each in blocks)

    assert reached("104.18.7.192")
    assert reached("10.1.2.3")
    assert reached("2606:4700::6812:7c0")
    assert not reached("169.254.169.254")
    assert not reached("fd00:ec2::254")


def test_own_egress_rules_replace_those_of_the_chart() -> None:
    egress = policy("worker", MATRIX["restricted egress"])["egress"]
    assert set.union(*map(ports, egress)) == {53, 5353, 16379, 443}
    assert all(each.get("ports") for each in egress)


def test_disabled_policies_are_not_rendered() -> None:
    assert render({"networkPolicy": {"enabled": False}}).of_kind("NetworkPolicy") == []


# Services and Ingress


def test_load_balancers_expose_only_the_port_for_calls() -> None:
    service = render(example("aws-nlb")).get("Service", "dispatcher")["spec"]
    assert [each["targetPort"] for each in service["ports"]] == ["calls"]


def test_every_service_has_the_families_of_addresses() -> None:
    services = render(MATRIX["two families of addresses"]).of_kind("Service")
    assert len(services) == 4
    for service in services:
        assert service["spec"]["ipFamilyPolicy"] == "PreferDualStack"
        assert service["spec"]["ipFamilies"] == ["IPv6", "IPv4"]
    for service in render().of_kind("Service"):
        assert not {"ipFamilyPolicy", "ipFamilies"} & service["spec"].keys()


def test_metrics_of_draining_pods_stay_reachable() -> None:
    for role in ("dispatcher", "worker"):
        admin = render().get("Service", f"{role}-admin")["spec"]
        assert admin["publishNotReadyAddresses"] is True
        assert admin["clusterIP"] == "None"
    assert "publishNotReadyAddresses" not in render().get("Service", "dispatcher")["spec"], (
        "calls go to who takes them"
    )


def test_ingress_keeps_long_calls() -> None:
    release = render(example("ingress-nginx"))
    ingress = release.get("Ingress", "dispatcher")
    annotations = ingress["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"] == "3600"
    assert annotations["nginx.ingress.kubernetes.io/proxy-send-timeout"] == "3600"
    assert annotations["nginx.ingress.kubernetes.io/proxy-request-buffering"] == "off"
    (rule,) = ingress["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    backend = path["backend"]["service"]
    service = release.get("Service", "dispatcher")
    assert backend["name"] == service["metadata"]["name"]
    assert backend["port"]["name"] in {each["name"] for each in service["spec"]["ports"]}


def test_own_annotation_overrides_the_charts() -> None:
    values = {
        "dispatcher": {
            "ingress": {
                "enabled": True,
                "hosts": [{"host": "a.example.com"}],
                "annotations": {"nginx.ingress.kubernetes.io/proxy-read-timeout": "7200"},
            }
        }
    }
    annotations = render(values).get("Ingress", "dispatcher")["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"] == "7200"


def test_behind_an_ingress_port_may_speak_tls() -> None:
    values = {"dispatcher": {"tls": {"secretName": "a"}, "ingress": {"enabled": True, "hosts": [{"host": "a.b"}]}}}
    annotations = render(values).get("Ingress", "dispatcher")["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/backend-protocol"] == "HTTPS"


def test_network_load_balancer_keeps_calls_during_a_drain() -> None:
    release = render(example("aws-nlb"))
    prefix = "service.beta.kubernetes.io/aws-load-balancer"
    annotations = release.get("Service", "dispatcher")["metadata"]["annotations"]
    attributes = dict(
        each.split("=") for each in annotations[f"{prefix}-target-group-attributes"].strip().split(",")
    )
    assert attributes["target_health_state.unhealthy.connection_termination.enabled"] == "false"
    assert attributes["deregistration_delay.connection_termination.enabled"] == "false"
    drain_seconds = float(release.text("dispatcher", "DRAIN_SECONDS"))
    # AWS permits a maximum of an hour.
    assert int(attributes["deregistration_delay.timeout_seconds"]) == min(drain_seconds, 3600)
    assert annotations[f"{prefix}-healthcheck-path"] == "/livez", "/readyz fails while it drains"
    assert int(annotations[f"{prefix}-healthcheck-port"]) == 9090


def test_dispatchers_reach_the_collector_of_traces() -> None:
    values: Values = {"config": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://tempo.monitoring:14317"}}
    assert "to" not in rule_for(14317, policy("dispatcher", values)["egress"])
    without_port: Values = {"config": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://tempo.monitoring"}}
    rule_for(4317, policy("dispatcher", without_port)["egress"])
    assert not any(4317 in ports(rule) for rule in policy("dispatcher")["egress"])
