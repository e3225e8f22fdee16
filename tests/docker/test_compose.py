"""Compose's files, as Compose itself reads them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.runtime.cli import parse_arguments
from common.runtime.release import RELEASE
from common.settings.roles import Role
from common.settings.settings import Settings
from tests.docker.image import REPOSITORY, environment, last_stage

COMPOSE = Path(sys.executable).with_name("docker-compose")
CLUSTER = "docker-compose.yml"
SINGLE = "docker-compose.single.yml"
FILES = (CLUSTER, SINGLE)

KEY = {"OPENAI_API_KEY": "sk-of-the-test"}
TOKENS = {name: f"{name.lower()}-of-the-test" for name in ("STS_TOKEN", "CLUSTER_TOKEN", "ADMIN_TOKEN")}

GRAFANA = REPOSITORY / "grafana"

Service = dict[str, Any]


def compose(file: str, variables: dict[str, str], folder: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    """`docker compose config` with these variables, and no .env."""
    return subprocess.run(
        [COMPOSE, "--file", file, "--env-file", os.devnull, "--profile", "*", "config", "--format", "json"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def services(file: str, **variables: str) -> dict[str, Service]:
    """The services of a file, with everything filled in."""
    run = compose(file, {**KEY, **variables})
    assert run.returncode == 0, run.stderr
    found: dict[str, Service] = json.loads(run.stdout)["services"]
    return found


def ours(file: str, **variables: str) -> dict[str, Service]:
    """Those that run this service, by their role."""
    return {
        (each["command"] or ["serve"])[0]: each
        for each in services(file, **variables).values()
        if each["image"].startswith("avr-sts-openai:")
    }


def settings_of(role: str, service: Service) -> Settings:
    """The settings that the process would have."""
    return Settings.parse(environment_of_the_image() | service["environment"], Role(role))


def environment_of_the_image() -> dict[str, str]:
    return {name: value for name, value in environment().items() if name.lower() in Settings.model_fields}


@pytest.mark.parametrize("file", FILES)
def test_compose_takes_the_file(file: str) -> None:
    run = compose(file, KEY)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("file", FILES)
def test_a_missing_key_is_named_with_what_to_do(file: str) -> None:
    run = compose(file, {})
    assert run.returncode != 0
    assert "required variable OPENAI_API_KEY is missing a value: set it in .env" in run.stderr


def test_the_cluster_is_all_of_it() -> None:
    found = services(CLUSTER)
    assert found.keys() == {"avr-core", "avr-ami", "dispatcher", "worker", "redis", "prometheus", "grafana"}
    assert ours(CLUSTER).keys() == {"dispatcher", "worker"}


def test_one_container_is_the_service_and_avr_core() -> None:
    assert services(SINGLE).keys() == {"avr-core", "avr-sts-openai"}
    assert ours(SINGLE).keys() == {"serve"}


@pytest.mark.parametrize("file", FILES)
def test_every_variable_is_a_setting_and_every_value_one_that_the_service_takes(file: str) -> None:
    for role, service in ours(file).items():
        assert {name.lower() for name in service["environment"]} <= Settings.model_fields.keys()
        assert settings_of(role, service).port == 6030


@pytest.mark.parametrize("file", FILES)
def test_every_variable_that_is_filled_in_is_a_setting_or_of_another_image(file: str) -> None:
    names = set(re.findall(r"\$\{(\w+)", (REPOSITORY / file).read_text("utf-8")))
    others = {name for name in names if name.startswith(("AVR_", "AMI_"))} | {"GRAFANA_PASSWORD"}
    assert {name.lower() for name in names - others} <= Settings.model_fields.keys()


@pytest.mark.parametrize("file", FILES)
def test_every_path_exists(file: str) -> None:
    for service in services(file).values():
        for volume in service.get("volumes", []):
            if volume["type"] != "bind":
                continue
            source = Path(volume["source"])
            if source == REPOSITORY / "tools":
                assert volume["target"] == environment()["TOOLS_DIR"]
            elif GRAFANA.is_dir() or not source.is_relative_to(GRAFANA):
                assert source.exists(), source
            assert volume["read_only"]
        if "build" in service:
            assert (Path(service["build"]["context"]) / service["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize("file", FILES)
def test_every_image_is_of_this_release_or_pinned(file: str) -> None:
    for name, service in services(file).items():
        tag = service["image"].rpartition(":")[2]
        if "build" in service:
            assert tag == RELEASE
        elif name != "avr-ami":
            assert re.fullmatch(r"v?\d+\.\d+\.\d+(-\w+)?", tag), service["image"]


@pytest.mark.parametrize("file", FILES)
def test_docker_waits_for_a_drain_before_it_kills(file: str) -> None:
    for role, service in ours(file).items():
        minutes, seconds = re.fullmatch(r"(?:(\d+)m)?(\d+)s", service["stop_grace_period"]).groups()  # type: ignore[union-attr]  # else it fails, too
        assert int(minutes or 0) * 60 + int(seconds) >= settings_of(role, service).drain_seconds + 2


@pytest.mark.parametrize("file", FILES)
def test_no_container_has_more_rights_than_it_needs(file: str) -> None:
    for name, service in services(file).items():
        if "build" in service or name == "redis":
            assert service["read_only"]
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]
            assert service["tmpfs"]
        assert not service.get("privileged")


@pytest.mark.parametrize("file", FILES)
def test_service_runs_as_the_user_of_the_image(file: str) -> None:
    ((user,),) = last_stage("USER")
    assert {each["user"] for each in ours(file).values()} == {user}


@pytest.mark.parametrize("file", FILES)
def test_only_asterisk_reaches_a_port_from_other_machines(file: str) -> None:
    ports = [(name, port) for name, each in services(file).items() for port in each.get("ports", [])]
    assert {name for name, port in ports if port.get("host_ip") != "127.0.0.1"} == {"avr-core"}


@pytest.mark.parametrize("file", FILES)
def test_avr_core_waits_for_a_service_that_is_ready_and_finds_it(file: str) -> None:
    found = services(file)
    core = found["avr-core"]
    ((name, condition),) = core["depends_on"].items()
    assert condition["condition"] == "service_healthy"
    assert core["environment"]["STS_URL"] == f"ws://{name}:{found[name]['environment']['PORT']}"
    check = found[name]["healthcheck"]["test"]
    assert check == ["CMD", *last_stage("HEALTHCHECK")[0][1:], "/readyz"]
    parse_arguments(check[2:])


@pytest.mark.parametrize("file", FILES)
def test_a_token_for_callers_is_told_to_avr_core(file: str) -> None:
    assert services(file, **TOKENS)["avr-core"]["environment"]["STS_URL"].endswith(
        f":6030?token={TOKENS['STS_TOKEN']}"
    )


def test_the_key_reaches_no_dispatcher_and_tokens_reach_it() -> None:
    variables = ours(CLUSTER, **TOKENS)["dispatcher"]["environment"]
    assert not {name for name in variables if name.startswith("OPENAI_")}
    assert variables.items() >= TOKENS.items()


def test_settings_of_the_env_file_reach_workers(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / CLUSTER, tmp_path)
    (tmp_path / ".env").write_text('OPENAI_VOICE=marin\nOPENAI_INSTRUCTIONS="Be brief."\nPORT=1\n', "utf-8")
    run = compose(CLUSTER, KEY, tmp_path)
    found = json.loads(run.stdout)["services"]
    settings = settings_of("worker", found["worker"])
    assert settings.openai_voice == "marin"
    assert settings.openai_instructions == "Be brief."
    assert found["dispatcher"]["environment"]["PORT"] == "6030"


def test_dispatchers_and_workers_can_be_more_than_one() -> None:
    for service in ours(CLUSTER).values():
        assert "ports" not in service, "only one container can have a port of the host"
        assert "container_name" not in service
    assert ours(CLUSTER)["worker"]["deploy"]["replicas"] == 2


def test_one_container_is_a_drop_in_for_the_image_of_avrs_own_files() -> None:
    # As agentvoiceresponse/avr-sts-openai is started there: list form, quotes and all.
    theirs = {
        "PORT": "6030",
        "OPENAI_API_KEY": "sk-1",
        "OPENAI_MODEL": "gpt-realtime-2",
        "OPENAI_INSTRUCTIONS": '"You are a helpful assistant."',
        "AMI_URL": "http://avr-ami:6006",
    }
    settings = Settings.parse(environment_of_the_image() | theirs, Role.SERVE)
    assert settings.openai_instructions == "You are a helpful assistant."
    assert settings.tools_dir == Path("/usr/src/app/tools")


# Prometheus and Grafana


def prometheus() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((REPOSITORY / "compose" / "prometheus.yml").read_text("utf-8"))
    return config


def test_prometheus_finds_every_dispatcher_and_worker() -> None:
    (job,) = prometheus()["scrape_configs"]
    (discovery,) = job["dns_sd_configs"]
    assert {*discovery["names"]} == {"dispatcher", "worker"} <= services(CLUSTER).keys()
    for service in ours(CLUSTER).values():
        assert int(service["environment"]["ADMIN_PORT"]) == discovery["port"]


def test_its_series_have_the_labels_that_dashboards_choose_by() -> None:
    (job,) = prometheus()["scrape_configs"]
    assert {each["target_label"] for each in job["relabel_configs"]} == {"namespace", "pod"}


def test_rules_and_configuration_are_where_prometheus_looks() -> None:
    targets = {each["target"]: each["source"] for each in services(CLUSTER)["prometheus"]["volumes"]}
    (pattern,) = prometheus()["rule_files"]
    assert str(Path(pattern).parent) in targets
    assert "/etc/prometheus/prometheus.yml" in targets


def test_dashboards_are_where_grafana_looks() -> None:
    service = services(CLUSTER)["grafana"]
    targets = {each["target"] for each in service["volumes"]}
    home = Path(service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) in targets
    if GRAFANA.is_dir():
        assert (GRAFANA / "dashboards" / home.name).is_file()
        (provider,) = (GRAFANA / "provisioning" / "dashboards").glob("*.yaml")
        (found,) = yaml.safe_load(provider.read_text("utf-8"))["providers"]
        assert found["options"]["path"] == str(home.parent)


@pytest.mark.system
def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        message = "promtool is missing: install the packages of .ci/packages"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    config = {**prometheus(), "rule_files": [str(GRAFANA / "rules" / "*.yaml")]}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
    run = subprocess.run(
        [promtool, "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
