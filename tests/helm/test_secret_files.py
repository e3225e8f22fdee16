"""Secrets as mounted files, which a process can read again while it runs."""

from __future__ import annotations

from pathlib import PurePosixPath

import helm_python
import pytest

from common.settings.fields import SECRETS
from common.settings.role_secrets import is_withheld
from tests.helm.matrix import MATRIX, Values
from tests.helm.release import Release, render

FILES = MATRIX["secrets as files"]


def files(release: Release, role: str) -> dict[str, tuple[str, str]]:
    """Return the Secret and the key of each mounted file, by its path."""
    (volume,) = (each for each in release.pod(role)["volumes"] if each["name"] == "secrets")
    (mount,) = (each for each in release.container(role)["volumeMounts"] if each["name"] == "secrets")
    assert mount["readOnly"] is True
    assert "subPath" not in mount, "a mounted part is never updated"
    return {
        str(PurePosixPath(mount["mountPath"]) / item["path"]): (source["secret"]["name"], item["key"])
        for source in volume["projected"]["sources"]
        for item in source["secret"]["items"]
    }


@pytest.mark.parametrize("role", ["dispatcher", "worker"])
def test_each_secret_of_the_service_can_be_a_file(role: str) -> None:
    names = [name.upper() for name in SECRETS if name not in {"redis_url_password", "redis_sentinel_password"}]
    values: Values = {
        "configFromSecrets": {name: {"name": "keys", "key": name.lower(), "asFile": True} for name in names}
    }
    release = render(values)
    env, mounted = release.env(role), files(release, role)
    for name in names:
        assert name not in env
        assert (f"{name}_FILE" in env) == (not is_withheld(name, role))
        if not is_withheld(name, role):
            assert mounted[release.text(role, f"{name}_FILE")] == ("keys", name.lower())
    assert len(mounted) == len([name for name in env if name.endswith("_FILE")])


def test_files_are_readable_by_the_group_of_the_pod() -> None:
    (volume,) = (each for each in render(FILES).pod("worker")["volumes"] if each["name"] == "secrets")
    assert volume["projected"]["defaultMode"] == 0o440


def test_secret_as_a_variable_needs_no_volume() -> None:
    assert "secrets" not in {each["name"] for each in render().pod("worker")["volumes"]}


def test_file_that_something_else_mounts_is_a_setting() -> None:
    release = render(MATRIX["a key of vault"])
    assert release.text("worker", "OPENAI_API_KEY_FILE") == "/vault/secrets/openai"
    assert not {"OPENAI_API_KEY", "OPENAI_API_KEY_FILE"} & release.env("dispatcher").keys()
    assert "OPENAI_API_KEY" not in release.env("worker")
    assert "STS_TOKEN_FILE" in release.env("dispatcher")
    assert "STS_TOKEN_FILE" not in release.env("worker")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            {"config": {"OPENAI_API_KEY_FILE": "/a"}},
            "config.OPENAI_API_KEY_FILE: configFromSecrets.OPENAI_API_KEY is also set; set it to null",
        ),
        (
            {"redis": {"url": "redis://a"}, "config": {"REDIS_URL_FILE": "/a"}},
            "redis.url: config.REDIS_URL_FILE is also set; set only one of them",
        ),
    ],
)
def test_secret_twice_is_refused(values: Values, told: str) -> None:
    with pytest.raises(helm_python.HelmRenderError) as refused:
        render(values)
    assert told in str(refused.value)


def test_setting_that_is_no_secret_cannot_be_a_file() -> None:
    values: Values = {"configFromSecrets": {"OPENAI_VOICE": {"name": "a", "key": "b", "asFile": True}}}
    with pytest.raises(helm_python.HelmValuesError, match="OPENAI_VOICE"):
        render(values)


@pytest.mark.parametrize(
    "worker",
    [
        {"envFrom": [{"secretRef": {"name": "keys"}}]},
        {"extraEnv": [{"name": "OPENAI_API_KEY", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}]},
        {"extraEnv": [{"name": "OPENAI_API_KEY_FILE", "value": "/a"}]},
    ],
)
def test_key_of_openai_may_come_another_way(worker: Values) -> None:
    assert render({"configFromSecrets": {"OPENAI_API_KEY": None}, "worker": worker}).objects
