"""Our Compose files run beside those of avr-infra: no name, port or network is in two hands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.docker import avr_infra
from tests.docker.image import REPOSITORY
from tests.docker.test_compose import CLUSTER, FILES, KEY, SINGLE, compose, services


def _names_on_the_shared_network(file: str) -> Iterator[str]:
    for name, service in services(file).items():
        if "avr" in service.get("networks", {}):
            yield name
            yield from (service["networks"]["avr"] or {}).get("aliases", [])


@pytest.mark.parametrize("file", FILES)
def test_no_name_on_the_shared_network_is_avr_infras(file: str) -> None:
    names = list(_names_on_the_shared_network(file))
    assert "core" in names
    assert not set(names) & avr_infra.NAMES
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("file", FILES)
def test_container_names_begin_with_our_project(file: str) -> None:
    assert not [name for name, each in services(file).items() if "container_name" in each]
    project = json.loads(compose(file, KEY).stdout)["name"]
    assert not [name for name in avr_infra.NAMES if name.startswith(f"{project}-{next(iter(services(file)))}")]


@pytest.mark.parametrize("file", FILES)
def test_no_port_of_the_host_is_avr_infras(file: str) -> None:
    ports = [int(port["published"]) for each in services(file).values() for port in each.get("ports", [])]
    assert ports
    assert not set(ports) & avr_infra.PORTS
    assert len(set(ports)) == len(ports)


@pytest.mark.parametrize("file", FILES)
def test_every_port_of_the_host_can_be_changed(file: str) -> None:
    for port in re.findall(r'^    ports: \["(.*)"\]$', (REPOSITORY / file).read_text("utf-8"), re.MULTILINE):
        assert re.fullmatch(r"(127\.0\.0\.1:)?\$\{[A-Z]+_PORT:-\d+\}:\d+", port), port


@pytest.mark.parametrize("file", FILES)
def test_shared_network_is_defined_as_avr_infra_defines_it(file: str) -> None:
    networks: dict[str, Any] = json.loads(compose(file, KEY).stdout)["networks"]
    assert networks["avr"] == avr_infra.NETWORK


def test_redis_and_monitoring_are_not_on_the_shared_network() -> None:
    reached = {name for name, each in services(CLUSTER).items() if "avr" in (each.get("networks") or {})}
    assert reached == {"core", "dispatcher", "worker", "ami"}


@pytest.mark.parametrize(("file", "host"), [(CLUSTER, "avr-sts-dispatcher"), (SINGLE, "avr-sts-serve")])
def test_head_of_the_file_tells_how_to_use_avr_app(file: str, host: str) -> None:
    head = (REPOSITORY / file).read_text("utf-8").partition("\nname:")[0]
    assert f"STS_URL=ws://{host}:6030" in head
    assert host in _names_on_the_shared_network(file)
    assert "avr-app" in head


def test_dispatchers_find_the_avr_ami_of_either_side() -> None:
    found = services(CLUSTER)
    host = "avr-ami"
    assert found["dispatcher"]["environment"]["AMI_URL"] == f"http://{host}:6006"
    assert host in avr_infra.NAMES
    # Our own is reached by the same name, but in the private network alone.
    assert found["ami"]["networks"]["private"]["aliases"] == [host]
    assert set(found["dispatcher"]["networks"]) == {"avr", "private"}
