"""What can be said of the image without Docker."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from common.settings import Role, Settings
from tests.docker.image import REPOSITORY, environment, instructions, is_sent, last_stage, sources

HADOLINT = Path(sys.executable).with_name("hadolint")


def test_the_linter_finds_nothing() -> None:
    run = subprocess.run([HADOLINT, REPOSITORY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_base_is_pinned_to_a_release() -> None:
    arguments = dict(each.values[0].split("=", 1) for each in instructions() if each.name == "ARG")
    for each in instructions():
        if each.name == "FROM":
            image = arguments[each.values[0].removeprefix("${").removesuffix("}")]
            assert re.fullmatch(r"\w+:\d+\.\d+\.\d+-[\w-]+", image), image


def test_python_is_the_one_that_the_tests_run_with() -> None:
    arguments = dict(each.values[0].split("=", 1) for each in instructions() if each.name == "ARG")
    major, minor = re.findall(r"\d+", arguments["PYTHON_IMAGE"])[:2]
    copied = [value for each in last_stage("COPY") for value in each]
    assert any(f"/lib/python{major}.{minor}/site-packages/" in value for value in copied)
    settings = (REPOSITORY / "pyproject.toml").read_text("utf-8")
    assert f'target-version = "py{major}{minor}"' in settings


def test_it_serves_unless_it_is_told_otherwise() -> None:
    assert last_stage("ENTRYPOINT") == [("tini", "--", "avr-sts-openai")]
    assert last_stage("CMD") == [("serve",)]


def test_it_is_nobody_of_note() -> None:
    ((user,),) = last_stage("USER")
    uid, gid = map(int, user.split(":"))
    assert uid >= 10_000
    assert gid >= 10_000
    values = yaml.safe_load((REPOSITORY / "helm" / "values.yaml").read_text("utf-8"))
    assert values["podSecurityContext"]["runAsUser"] == uid


def test_tools_are_where_the_image_that_it_replaces_has_them() -> None:
    # People mount ./tools:/usr/src/app/tools, and their tools require files beside them.
    settings = Settings.parse({"OPENAI_API_KEY": "k", **_settings_of_the_image()}, Role.SERVE)
    assert settings.tools_dir == Path("/usr/src/app/tools")
    assert last_stage("WORKDIR")[-1] == ("/usr/src/app",)
    assert ("/usr/src/app/tools",) in last_stage("WORKDIR")


def _settings_of_the_image() -> dict[str, str]:
    return {name: value for name, value in environment().items() if name.lower() in Settings.model_fields}


def test_every_variable_is_a_setting_or_the_systems() -> None:
    assert environment().keys() == {"PATH", "PYTHONDONTWRITEBYTECODE", "TOOLS_DIR"}


def test_ports_are_the_defaults_of_the_service() -> None:
    ports = {int(value) for each in last_stage("EXPOSE") for value in each}
    defaults = Settings.parse({"OPENAI_API_KEY": "k"}, Role.SERVE)
    assert ports == {defaults.port, defaults.admin_port, defaults.worker_port}


def test_the_health_check_is_a_program_of_the_image() -> None:
    (check,) = last_stage("HEALTHCHECK")
    assert check == ("CMD", "python", "-P", "-m", "common.healthcheck")
    assert find_spec(check[-1]) is not None


def test_every_source_exists_and_is_sent_to_the_builder() -> None:
    for each in instructions():
        if each.name == "COPY" and not each.flags:
            for name in each.values[:-1]:
                assert sources(name), f"COPY {name}"


def test_every_package_of_the_project_is_copied() -> None:
    copied = {each.values[0] for each in instructions() if each.name == "COPY" and not each.flags}
    packages = re.search(
        r"^packages = (\[.*\])$", (REPOSITORY / "pyproject.toml").read_text("utf-8"), re.MULTILINE
    )
    assert packages is not None
    assert copied >= {each.split(".")[0] for each in json.loads(packages[1])}


@pytest.mark.parametrize(
    "path",
    [
        ".env",
        "common/.env",
        ".git/config",
        ".venv/bin/python",
        "tests/conftest.py",
        "worker/tools/node/node_modules/axios",
    ],
)
def test_secrets_and_what_is_not_needed_are_not_sent(path: str) -> None:
    assert not is_sent(path)


@pytest.mark.parametrize(
    "path",
    [
        "worker/prices.json",
        "worker/tools/node/package-lock.json",
        "worker/tools/node/.npmrc",
        "common/lua/pin.lua",
    ],
)
def test_what_is_needed_is_sent(path: str) -> None:
    assert (REPOSITORY / path).is_file()
    assert is_sent(path)


def test_debian_packages_are_pinned_and_nothing_of_them_stays() -> None:
    (run,) = (value for each in last_stage("RUN") for value in each)
    assert re.findall(r"install --yes --no-install-recommends (\S+) ", run) == ["tini=0.19.*"]
    assert "rm -rf /var/lib/apt/lists/*" in run
