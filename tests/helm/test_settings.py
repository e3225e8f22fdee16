"""The settings of a process that result from the values."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from common.settings.role_secrets import is_withheld
from common.settings.roles import Role
from common.settings.settings import Settings
from scripts.chart import SECRETS
from tests.helm.matrix import MATRIX, Values
from tests.helm.release import REPOSITORY, render, schema

TEXT = "It costs $5, $$ or $(HOME) {from}.\nSay \"hello\", 'hi': yes"

OF_BOTH = (
    "common/observe/logs.py",
    "common/runtime/process.py",
    "common/observe/admin.py",
    "common/store/registry.py",
    "common/link/link_end.py",
)


def parsed(values: Values, role: str) -> Settings:
    """Return the settings of a process of this role."""
    return Settings.parse(render(values).variables(role), Role(role))


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("OPENAI_INSTRUCTIONS", TEXT, TEXT),
        ("WORKER_MAX_CALLS", 100_000, 100_000),
        ("WORKER_MAX_CALLS", "100000", 100_000),
        ("OPENAI_WELCOME_INTERRUPTIBLE", False, False),
        ("OPENAI_SPEED", 1.25, 1.25),
        ("OPENAI_MAX_TOKENS", "inf", "inf"),
        ("OPENAI_LANGUAGE", "no", "no"),
        # Values that the service replaces are not faults of the chart.
        ("OPENAI_MAX_TOKENS", 8192, 4096),
        ("OPENAI_SPEED", 2, 1.5),
        ("OPENAI_VOICE", "nova", "alloy"),
        ("STRICT_SETTINGS", True, True),
        ("MAX_CALL_SECONDS", 3600, 3600.0),
        ("OPENAI_PROMPT_VARIABLES", {"city": "Rome"}, {"city": "Rome"}),
        ("OPENAI_SESSION", {"output_modalities": ["audio"]}, {"output_modalities": ["audio"]}),
    ],
)
def test_setting_reaches_the_process_unchanged(variable: str, value: object, expected: object) -> None:
    assert getattr(parsed({"config": {variable: value}}, "worker"), variable.lower()) == expected


def test_lists_and_maps_may_be_written_as_yaml() -> None:
    servers = [{"server_label": "crm", "server_url": "https://crm.example.com/mcp"}]
    (server,) = parsed({"config": {"OPENAI_MCP_SERVERS": servers}}, "worker").openai_mcp_servers or []
    assert server["server_url"] == "https://crm.example.com/mcp"


def test_a_setting_that_is_null_is_not_set() -> None:
    assert "OPENAI_LANGUAGE" not in render({"config": {"OPENAI_LANGUAGE": None}}).env("worker")


def test_secrets_are_references_and_never_values() -> None:
    names = [*SECRETS, "REDIS_URL"]
    values = {"configFromSecrets": {name: {"name": "keys", "key": name.lower()} for name in names}}
    release = render(values)
    assert release.env("worker")["OPENAI_API_KEY"] == {
        "valueFrom": {"secretKeyRef": {"name": "keys", "key": "openai_api_key"}}
    }
    for role in ("worker", "dispatcher"):
        given = {name for name, each in release.env(role).items() if "secretKeyRef" in each.get("valueFrom", {})}
        assert given == {name for name in names if not is_withheld(name, role)}


def test_null_secret_is_not_set() -> None:
    values = {"configFromSecrets": {"REDIS_URL": None, "STS_TOKEN": None}}
    assert render(values).objects == render().objects
    assert render(values).notes == render().notes


def test_default_secret_can_be_replaced() -> None:
    values = {"configFromSecrets": {"OPENAI_API_KEY": {"name": "vault", "key": "openai"}}}
    found = render(values).env("worker")["OPENAI_API_KEY"]["valueFrom"]["secretKeyRef"]
    assert found == {"name": "vault", "key": "openai"}


def test_a_worker_publishes_the_address_of_its_pod() -> None:
    env = render().env("worker")
    assert env["WORKER_ADDRESS"] == {"valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}


@pytest.mark.parametrize("role", ["dispatcher", "worker"])
def test_ports_are_those_that_the_pod_names(role: str) -> None:
    release = render()
    ports = {each["name"]: each["containerPort"] for each in release.container(role)["ports"]}
    settings = parsed({}, role)
    assert ports["admin"] == settings.admin_port
    assert ports.get("calls", settings.port) == settings.port
    assert ports.get("link", settings.worker_port) == settings.worker_port


def test_bundled_redis_is_used_unless_another_is_set() -> None:
    bundled = render()
    assert parsed({}, "worker").redis_url == "redis://demo-avr-sts-openai-redis:6379/0"
    redis = bundled.get("Deployment", "redis")["spec"]["template"]["spec"]["containers"][0]
    assert redis["command"][redis["command"].index("--maxmemory-policy") + 1] == "noeviction"
    assert bundled.get("Service", "redis")["spec"]["ports"][0]["port"] == 6379
    for values in (MATRIX["redis by url"], MATRIX["redis by secret"]):
        assert not [each for each in render(values).objects if each["metadata"]["name"].endswith("-redis")]
    assert parsed(MATRIX["redis by url"], "dispatcher").redis_url == "rediss://redis.example.com:6380/1"
    assert render(MATRIX["redis by secret"]).env("dispatcher")["REDIS_URL"] == {
        "valueFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}
    }


def test_instructions_are_a_file_that_each_call_reads() -> None:
    release = render({"instructions": {"text": TEXT}})
    path = Path(release.text("worker", "OPENAI_FILE_INSTRUCTIONS"))
    (mount,) = (each for each in release.container("worker")["volumeMounts"] if each["name"] == "instructions")
    assert str(path.parent) == mount["mountPath"]
    assert "subPath" not in mount, "a file that is mounted alone never changes"
    assert release.get("ConfigMap", "instructions")["data"] == {path.name: TEXT}


def test_tools_are_files_in_tools_dir() -> None:
    source = 'name = "a"  # {{ not a template }}\n'
    release = render({"tools": {"files": {"a.py": source}}})
    (mount,) = (each for each in release.container("worker")["volumeMounts"] if each["name"] == "tools")
    assert mount == {"name": "tools", "mountPath": release.text("worker", "TOOLS_DIR"), "readOnly": True}
    assert release.get("ConfigMap", "tools")["data"] == {"a.py": source}
    assert "TOOLS_DIR" not in render().env("worker")


@pytest.mark.parametrize(
    ("role", "prefix", "volume", "secret"),
    [
        ("dispatcher", "TLS", "tls", "calls-tls"),
        ("dispatcher", "CLUSTER_TLS", "cluster-tls", "link-tls"),
        ("worker", "CLUSTER_TLS", "cluster-tls", "link-tls"),
    ],
)
def test_certificates_are_files_of_a_secret(role: str, prefix: str, volume: str, secret: str) -> None:
    release = render(MATRIX["tls"])
    keys = {"CERT": "tls.crt", "KEY": "tls.key"} | ({"CA": "ca.crt"} if prefix == "CLUSTER_TLS" else {})
    mounts = {each["mountPath"]: each["name"] for each in release.container(role)["volumeMounts"]}
    for part, key in keys.items():
        folder, _, file = release.text(role, f"{prefix}_{part}").rpartition("/")
        assert file == key
        assert mounts[folder] == volume
    (found,) = (each for each in release.pod(role)["volumes"] if each["name"] == volume)
    assert found["secret"] == {"secretName": secret, "defaultMode": 0o440}


def test_workers_do_not_get_the_callers_certificate() -> None:
    release = render(MATRIX["tls"])
    assert "TLS_CERT" not in release.env("worker")
    assert "tls" not in {each["name"] for each in release.pod("worker")["volumes"]}


# The chart's lists of the settings of each role, compared with the code.


def _variables_read(file: Path) -> set[str]:
    """Return the settings that a module reads as `settings.name` or `self._settings.name`."""
    return {
        node.attr.upper()
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in Settings.model_fields
        and ast.unparse(node.value).endswith(("settings", "config"))
    }


def _given_to(role: str) -> set[str]:
    """Return the settings that reach the pods of a role, of all settings that people may choose."""
    properties: dict[str, Any] = schema()["properties"]
    names = set(properties["configFromSecrets"]["properties"])
    release = render({"configFromSecrets": {name: {"name": "a", "key": "b"} for name in names}})
    return set(release.env(role)) & names


@pytest.mark.parametrize("role", ["dispatcher", "worker"])
def test_every_setting_that_a_role_reads_reaches_it(role: str) -> None:
    read: set[str] = set()
    for file in [*(REPOSITORY / role).rglob("*.py"), *(REPOSITORY / each for each in OF_BOTH)]:
        read |= _variables_read(file)
    assert read, "the test looks in the wrong place"
    set_by_the_chart = set(render({**MATRIX["tls"], "tools": {"files": {"a.py": ""}}}).env(role))
    assert read <= _given_to(role) | set_by_the_chart


def test_both_roles_know_the_same_tenants() -> None:
    config = {"TENANT_KEY": "to", "TENANTS": ["acme=+4930123456|+4930123457", "globex"]}
    for role in ("dispatcher", "worker"):
        tenants = parsed({"config": config}, role).known_tenants
        assert tenants.names == ("acme", "globex")
        assert tenants.of_call({"to": "+4930123457"}, {}) == "acme"


def test_the_openai_key_reaches_no_dispatcher() -> None:
    assert not {name for name in _given_to("dispatcher") if name.startswith("OPENAI_")}
    assert "OPENAI_API_KEY" in _given_to("worker")


def test_every_setting_of_the_schema_reaches_a_role() -> None:
    assert _given_to("dispatcher") | _given_to("worker") == set(
        schema()["properties"]["configFromSecrets"]["properties"]
    )


def test_claim_of_recordings_is_mounted_at_dispatchers_alone() -> None:
    release = render({"dispatcher": {"recordings": {"existingClaim": "our-recordings"}}})
    assert {"name": "recordings", "persistentVolumeClaim": {"claimName": "our-recordings"}} in release.pod(
        "dispatcher"
    )["volumes"]
    mounted = {each["name"]: each for each in release.container("dispatcher")["volumeMounts"]}
    folder = Path(release.variables("dispatcher")["RECORDINGS_DIR"])
    assert folder.parent == Path(mounted["recordings"]["mountPath"])
    assert not mounted["recordings"].get("readOnly")
    assert "RECORDINGS_DIR" not in release.variables("worker")
    assert "recordings" not in {each["name"] for each in release.pod("worker")["volumes"]}


def test_without_a_claim_nothing_is_recorded() -> None:
    release = render({})
    assert "RECORDINGS_DIR" not in release.variables("dispatcher")
    assert "recordings" not in {each["name"] for each in release.pod("dispatcher")["volumes"]}


def test_variables_of_opentelemetry_reach_both_roles() -> None:
    values: Values = {
        "config": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://tempo:4317", "OTEL_TRACES_SAMPLER_ARG": 0.1},
        "configFromSecrets": {"OTEL_EXPORTER_OTLP_HEADERS": {"name": "collector", "key": "headers"}},
    }
    for role in ("dispatcher", "worker"):
        container = render(values).get("Deployment", role)["spec"]["template"]["spec"]["containers"][0]
        given = {each["name"]: each for each in container["env"]}
        assert given["OTEL_EXPORTER_OTLP_ENDPOINT"]["value"] == "http://tempo:4317"
        assert given["OTEL_TRACES_SAMPLER_ARG"]["value"] == "0.1"
        key = given["OTEL_EXPORTER_OTLP_HEADERS"]["valueFrom"]["secretKeyRef"]
        assert key == {"name": "collector", "key": "headers"}
