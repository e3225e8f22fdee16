"""NOTES.txt names only objects of the release."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest

from tests.helm.matrix import MATRIX, Values
from tests.helm.release import NAMESPACE, Release, render

KINDS = {
    "deployment": "Deployment",
    "service": "Service",
    "hpa": "HorizontalPodAutoscaler",
    "scaledobject": "ScaledObject",
}


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX.keys())
def test_every_command_names_an_object_of_the_release(values: Values) -> None:
    release = render(values)
    commands = re.findall(r"^ .*?(kubectl .*)$", release.notes, re.MULTILINE)
    assert len(commands) >= 3
    for command in commands:
        assert command.startswith(f"kubectl --namespace {values.get('namespaceOverride', NAMESPACE)} ")
        if " create secret " in command:
            continue
        kind, name = re.findall(r"\b(deployment|service|hpa|scaledobject)[/ ]([-a-z0-9]+)", command)[0]
        assert name in {each["metadata"]["name"] for each in release.of_kind(KINDS[kind])}


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX.keys())
def test_notes_create_each_needed_secret_with_one_command(values: Values) -> None:
    release = render(values)
    redis = values.get("redis", {})
    of_redis = {each.get("existingSecret") for each in (redis, redis.get("sentinel", {}))}
    made = dict(re.findall(r" create secret (?:generic|tls) (\S+) (.*)$", release.notes, re.MULTILINE))
    assert len(made) == release.notes.count(" create secret "), "the second command would find the Secret there"
    for deployment in release.of_kind("Deployment"):
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            for variable in container.get("env", []):
                source = variable.get("valueFrom", {}).get("secretKeyRef")
                # Redis's own Secrets are there before the release.
                if source and source["name"] not in of_redis:
                    assert f"--from-literal={source['key']}=" in made[source["name"]]
        for volume in deployment["spec"]["template"]["spec"]["volumes"]:
            if "secret" in volume:
                assert volume["secret"]["secretName"] in made
            for source in volume.get("projected", {}).get("sources", []):
                for item in source["secret"]["items"]:
                    assert f"--from-literal={item['key']}=" in made[source["secret"]["name"]]


def urls(release: Release) -> list[str]:
    return re.findall(r"STS_URL=(\S+)", release.notes)


@pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX.keys())
def test_the_url_within_the_cluster_is_that_of_the_service(values: Values) -> None:
    release = render(values)
    url = urlsplit(urls(release)[0])
    services = {each["metadata"]["name"]: each["spec"] for each in release.of_kind("Service")}
    assert url.hostname is not None
    name, namespace, svc = url.hostname.split(".")
    assert (namespace, svc) == (values.get("namespaceOverride", NAMESPACE), "svc")
    (port,) = services[name]["ports"]
    assert port["port"] == url.port
    assert port["targetPort"] == "calls"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "ws://demo-avr-sts-openai-dispatcher.telephony.svc:6030"),
        (MATRIX["tls"], "wss://demo-avr-sts-openai-dispatcher.telephony.svc:6030"),
        (
            {
                "configFromSecrets": {"STS_TOKEN": {"name": "a", "key": "b"}},
                "dispatcher": {"service": {"port": 80}},
            },
            "ws://demo-avr-sts-openai-dispatcher.telephony.svc:80?token=THE_TOKEN",
        ),
        (MATRIX["example ingress-nginx"], "wss://calls.example.com/"),
        (
            {"dispatcher": {"ingress": {"enabled": True, "hosts": [{"host": "a.b", "path": "/calls"}]}}},
            "ws://a.b/calls",
        ),
    ],
)
def test_notes_give_the_external_url_for_avr_core(values: Values, expected: str) -> None:
    assert urls(render(values))[-1] == expected


def test_notes_warn_of_the_bundled_redis() -> None:
    assert "NOTE: The chart runs a Redis for trials" in render().notes
    assert "NOTE: The chart runs a Redis" not in render(MATRIX["redis by url"]).notes


def test_notes_warn_if_everybody_can_call() -> None:
    assert "NOTE: Everybody with access to the dispatchers can call" in render().notes
    assert "Everybody" not in render({"configFromSecrets": {"STS_TOKEN": {"name": "a", "key": "b"}}}).notes
    assert "Everybody" not in render({"config": {"STS_TOKEN_FILE": "/vault/sts"}}).notes


def test_notes_ask_for_no_secret_if_there_is_none() -> None:
    assert "Create these Secrets" in render().notes
    assert "Create these Secrets" not in render(MATRIX["a key of vault"]).notes
