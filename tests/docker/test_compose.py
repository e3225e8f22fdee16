"""The Compose files, parsed by Compose itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from common.runtime.cli import parse_arguments
from common.runtime.release import RELEASE
from common.settings.fields import SECRETS
from common.settings.role_secrets import is_withheld
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

# `NAME_FILE` names the file of a secret.
OF_FILES = {f"{name}_file" for name in SECRETS}
PORTS = {"AUDIOSOCKET_PORT", "PAGE_PORT", "GRAFANA_PORT", "PROMETHEUS_PORT", "ALERTMANAGER_PORT"}
"""Variables for ports of the host."""

Service = dict[str, Any]


def compose(file: str, variables: dict[str, str], folder: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    """Run `docker compose config` with these variables and without .env."""
    return subprocess.run(
        [COMPOSE, "--file", file, "--env-file", os.devnull, "--profile", "*", "config", "--format", "json"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def services(file: str, **variables: str) -> dict[str, Service]:
    """Return the services of a file, with all variables substituted."""
    run = compose(file, {**KEY, **variables})
    assert run.returncode == 0, run.stderr
    found: dict[str, Service] = json.loads(run.stdout)["services"]
    return found


def ours(file: str, **variables: str) -> dict[str, Service]:
    """Return the services that run this project's image, by role."""
    return {
        (each["command"] or ["serve"])[0]: each
        for each in services(file, **variables).values()
        if each["image"].startswith("avr-sts-openai:") and not each["entrypoint"]
    }


def settings_of(role: str, service: Service) -> Settings:
    """Return the settings of the process."""
    # The file of the token is in a volume.
    variables = {name: value for name, value in service["environment"].items() if name != "ADMIN_TOKEN_FILE"}
    return Settings.parse(environment_of_the_image() | variables, Role(role))


def environment_of_the_image() -> dict[str, str]:
    return {name: value for name, value in environment().items() if name.lower() in Settings.model_fields}


@pytest.mark.parametrize("file", FILES)
def test_compose_accepts_the_file(file: str) -> None:
    run = compose(file, KEY)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("file", FILES)
def test_missing_key_is_named_with_advice(file: str) -> None:
    run = compose(file, {})
    assert run.returncode != 0
    assert "required variable OPENAI_API_KEY is missing a value: set it in .env" in run.stderr


def test_cluster_has_all_services() -> None:
    found = services(CLUSTER)
    assert found.keys() == {
        *("core", "ami", "dispatcher", "worker", "redis"),
        *("admin-token", "page", "prometheus", "alertmanager", "alert-log", "grafana"),
    }
    assert ours(CLUSTER).keys() == {"dispatcher", "worker"}


def test_single_file_has_the_service_and_avr_core() -> None:
    assert services(SINGLE).keys() == {"core", "serve", "admin-token"}
    assert ours(SINGLE).keys() == {"serve"}


@pytest.mark.parametrize("file", FILES)
def test_every_variable_is_a_setting_with_a_valid_value(file: str) -> None:
    for role, service in ours(file).items():
        assert {name.lower() for name in service["environment"]} <= Settings.model_fields.keys() | OF_FILES
        assert settings_of(role, service).port == 6030


@pytest.mark.parametrize("file", FILES)
def test_every_substituted_variable_is_known(file: str) -> None:
    names = set(re.findall(r"\$\{(\w+)", (REPOSITORY / file).read_text("utf-8")))
    others = {name for name in names if name.startswith(("AVR_", "AMI_", "GRAFANA_"))} | {
        *("ALERTMANAGER_CONFIG", "CORE_STS_TOKEN")
    }
    ports = {name for name in names if name in PORTS}
    assert {name.lower() for name in names - others - ports} <= Settings.model_fields.keys() | OF_FILES


@pytest.mark.parametrize("file", FILES)
def test_head_of_the_file_names_each_port_with_its_default(file: str) -> None:
    head = (REPOSITORY / file).read_text("utf-8").partition("\nname:")[0]
    text = (REPOSITORY / file).read_text("utf-8")
    assert {(name, int(port)) for name, port in re.findall(r"([A-Z]+_PORT) (\d+)", head)} == {
        (name, int(port)) for name, port in re.findall(r"\$\{(\w+_PORT):-(\d+)\}", text) if name in PORTS
    }


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
        for secret in service.get("secrets", []):
            assert secret["target"] == f"/run/secrets/{secret['source']}"
        if "build" in service:
            assert (Path(service["build"]["context"]) / service["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize("file", FILES)
def test_every_image_is_of_this_release_or_pinned(file: str) -> None:
    for name, service in services(file).items():
        tag = service["image"].rpartition(":")[2]
        if "build" in service:
            assert tag == RELEASE
        elif name != "ami":
            assert re.fullmatch(r"v?\d+\.\d+\.\d+(-\w+)?", tag), service["image"]


@pytest.mark.parametrize("file", FILES)
def test_stop_grace_period_covers_the_drain(file: str) -> None:
    for role, service in ours(file).items():
        minutes, seconds = re.fullmatch(r"(?:(\d+)m)?(\d+)s", service["stop_grace_period"]).groups()  # type: ignore[union-attr]  # else it fails, too
        assert int(minutes or 0) * 60 + int(seconds) >= settings_of(role, service).drain_seconds + 2


@pytest.mark.parametrize("file", FILES)
def test_containers_have_minimal_rights(file: str) -> None:
    for name, service in services(file).items():
        # AVR's images and Grafana's write into their own folders.
        if name not in {"core", "ami", "grafana"}:
            assert service["read_only"]
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]
        assert not service.get("privileged")
    assert all(each["tmpfs"] for each in ours(file).values())


@pytest.mark.parametrize("file", FILES)
def test_logs_and_memory_of_each_container_are_bounded(file: str) -> None:
    for name, service in services(file).items():
        logging = service["logging"]
        assert logging["driver"] == "json-file", name
        assert logging["options"] == {"max-size": "20m", "max-file": "5"}, name
        assert 1 << 26 <= int(service["mem_limit"]) <= 2 << 30, name


def test_redis_refuses_writes_before_its_memory_ends() -> None:
    service = services(CLUSTER)["redis"]
    command = service["command"]
    assert command[command.index("--maxmemory") + 1] == "256mb"
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    assert int(service["mem_limit"]) >= 2 * 256 << 20


@pytest.mark.parametrize("file", FILES)
def test_service_runs_as_the_user_of_the_image(file: str) -> None:
    ((user,),) = last_stage("USER")
    assert {each["user"] for each in ours(file).values()} == {user}


@pytest.mark.parametrize("file", FILES)
def test_only_the_audiosocket_port_is_open_to_other_machines(file: str) -> None:
    ports = [(name, port) for name, each in services(file).items() for port in each.get("ports", [])]
    assert {name for name, port in ports if port.get("host_ip") != "127.0.0.1"} == {"core"}


@pytest.mark.parametrize("file", FILES)
def test_avr_core_waits_for_a_ready_service(file: str) -> None:
    found = services(file)
    core = found["core"]
    ((name, condition),) = core["depends_on"].items()
    assert condition["condition"] == "service_healthy"
    assert core["environment"]["STS_URL"] == f"ws://{name}:{found[name]['environment']['PORT']}"
    check = found[name]["healthcheck"]["test"]
    assert check == ["CMD", *last_stage("HEALTHCHECK")[0][1:], "/readyz"]
    parse_arguments(check[2:])


@pytest.mark.parametrize("file", FILES)
def test_token_for_callers_reaches_avr_core(file: str) -> None:
    assert services(file, **TOKENS)["core"]["environment"]["STS_URL"].endswith(
        f":6030?token={TOKENS['STS_TOKEN']}"
    )


@pytest.mark.parametrize("file", FILES)
def test_avr_core_gets_a_token_whose_file_the_service_reads(file: str) -> None:
    found = services(file, STS_TOKEN_FILE="./secrets/sts_token", CORE_STS_TOKEN=TOKENS["STS_TOKEN"])
    assert found["core"]["environment"]["STS_URL"].endswith(f":6030?token={TOKENS['STS_TOKEN']}")
    (reader,) = (each for each in found.values() if "STS_TOKEN_FILE" in (each.get("environment") or {}))
    assert reader["environment"]["STS_TOKEN"] == ""


def test_dispatcher_gets_tokens_but_no_openai_key() -> None:
    variables = ours(CLUSTER, **TOKENS)["dispatcher"]["environment"]
    assert not {name for name in variables if name.startswith("OPENAI_")}
    assert {name: variables.get(name) for name in TOKENS} == {**TOKENS, "ADMIN_TOKEN": None}


@pytest.mark.parametrize("file", FILES)
def test_admin_token_comes_from_the_file_of_the_first_start(file: str) -> None:
    found = services(file, **TOKENS)
    maker = found["admin-token"]
    assert maker["environment"]["ADMIN_TOKEN"] == TOKENS["ADMIN_TOKEN"]
    (reader,) = (each for role, each in ours(file, **TOKENS).items() if role != "worker")
    assert reader["environment"]["ADMIN_TOKEN_FILE"] == maker["command"][0]
    assert reader["environment"].get("ADMIN_TOKEN", "") == ""
    assert reader["depends_on"]["admin-token"]["condition"] == "service_completed_successfully"
    mounts = [each for each in reader["volumes"] if each["source"] == "admin-token"]
    assert [each["target"] for each in mounts] == [str(Path(maker["command"][0]).parent)]
    assert mounts[0]["read_only"]
    # The service reads the file as a member of the group that the maker writes it for.
    assert maker["user"].split(":")[1] == reader["user"].split(":")[1]


@pytest.mark.parametrize("file", FILES)
def test_page_is_at_the_address_that_is_printed(file: str) -> None:
    found = services(file)
    (port,) = (found.get("page") or found["serve"])["ports"]
    assert found["admin-token"]["command"][1] == f"http://localhost:{port['published']}"


IN_FILES = ("OPENAI_API_KEY", "STS_TOKEN", "CLUSTER_TOKEN", "CALL_RECORDS_SECRET")


@pytest.mark.parametrize("file", FILES)
def test_secrets_in_files_reach_the_processes_that_read_them(file: str, tmp_path: Path) -> None:
    values = {name: f"{name.lower()}-of-the-test" for name in IN_FILES}
    for name, value in values.items():
        (tmp_path / name).write_text(value, "utf-8")
    run = compose(file, {f"{name}_FILE": str(tmp_path / name) for name in IN_FILES})
    assert run.returncode == 0, run.stderr
    assert not any(value in run.stdout for value in values.values())
    found = json.loads(run.stdout)
    mounted = {each["file"]: f"/run/secrets/{name}" for name, each in found["secrets"].items()}
    for service in found["services"].values():
        if not service["image"].startswith("avr-sts-openai:") or service["entrypoint"]:
            continue
        role = Role((service["command"] or ["serve"])[0])
        reads = [name for name in IN_FILES if not is_withheld(name.lower(), role.value)]
        assert {each["target"] for each in service["secrets"]} >= {
            mounted[str(tmp_path / name)] for name in reads
        }, role
        for name in reads:
            assert service["environment"][f"{name}_FILE"] == mounted[str(tmp_path / name)], (role, name)
            assert service["environment"].get(name, "") == "", (role, name)


def test_grafana_reads_its_password_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("of-the-test", "utf-8")
    service = services(CLUSTER, GRAFANA_PASSWORD_FILE=str(tmp_path / "password"))["grafana"]
    ((target,),) = [[each["target"] for each in service["secrets"]]]
    assert service["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"] == target
    assert service["environment"]["GF_SECURITY_ADMIN_PASSWORD"] == ""


def test_prometheus_alertmanager_and_receiver_find_each_other() -> None:
    found = services(CLUSTER)
    (peers,) = prometheus()["alerting"]["alertmanagers"]
    ((target,),) = [each["targets"] for each in peers["static_configs"]]
    assert target.split(":")[0] in found
    (receiver,) = yaml.safe_load((REPOSITORY / "compose" / "alertmanager.yml").read_text("utf-8"))["receivers"]
    url = urlsplit(receiver["webhook_configs"][0]["url"])
    assert found[url.hostname]["command"] == [str(url.port)]


def test_inhibitions_name_alerts_that_exist() -> None:
    config = yaml.safe_load((REPOSITORY / "compose" / "alertmanager.yml").read_text("utf-8"))
    named = set(re.findall(r"AvrSts\w+", json.dumps(config)))
    alerts = yaml.safe_load((GRAFANA / "rules" / "alerts.yaml").read_text("utf-8"))
    known = {rule["alert"] for group in alerts["groups"] for rule in group["rules"]}
    assert named <= known
    assert named


def test_settings_of_the_env_file_reach_workers(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / CLUSTER, tmp_path)
    (tmp_path / ".env").write_text('OPENAI_VOICE=marin\nOPENAI_INSTRUCTIONS="Be brief."\nPORT=1\n', "utf-8")
    run = compose(CLUSTER, KEY, tmp_path)
    found = json.loads(run.stdout)["services"]
    settings = settings_of("worker", found["worker"])
    assert settings.openai_voice == "marin"
    assert settings.openai_instructions == "Be brief."
    assert found["dispatcher"]["environment"]["PORT"] == "6030"


def test_dispatchers_and_workers_can_be_scaled() -> None:
    for service in ours(CLUSTER).values():
        assert "ports" not in service, "only one container can have a port of the host"
        assert "container_name" not in service
    assert ours(CLUSTER)["worker"]["deploy"]["replicas"] == 2


def test_image_replaces_the_one_in_avrs_own_compose_files() -> None:
    # The same environment as for agentvoiceresponse/avr-sts-openai there, in list form and with quotes.
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


def test_series_have_the_labels_of_the_dashboards() -> None:
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
def test_prometheus_accepts_its_configuration(tmp_path: Path) -> None:
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
