"""What can be said of the image without Docker."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from common.runtime.cli import PROGRAM, parse_arguments
from common.settings.roles import Role
from common.settings.settings import Settings
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


def test_service_runs_as_the_user_of_avrs_images() -> None:
    # Tools that people mount are often of mode 0600, and belong to `node`, which has 1000 there.
    assert last_stage("USER") == [("1000:1000",)]
    (set_up,) = _runs("useradd")
    assert "groupadd --gid 1000 node" in set_up
    assert re.search(r"useradd --uid 1000 --gid 1000 .*--shell /usr/sbin/nologin node", set_up)


def test_chart_runs_as_the_user_of_the_image() -> None:
    values = yaml.safe_load((REPOSITORY / "helm" / "values.yaml").read_text("utf-8"))
    context = values["podSecurityContext"]
    assert context["runAsNonRoot"] is True
    assert [context[name] for name in ("runAsUser", "runAsGroup", "fsGroup")] == [1000, 1000, 1000]


def test_derived_image_can_install_where_tools_are() -> None:
    (set_up,) = _runs("chown")
    assert "mkdir --parents /usr/src/app/tools /usr/src/app/avr_tools" in set_up
    assert "chown --recursive 1000:1000 /usr/src/app" in set_up


def test_npm_comes_from_the_stage_that_node_comes_from() -> None:
    everything = instructions()
    copied = [each for each in everything if each.name == "COPY" and each.stage == everything[-1].stage]
    of_node = {each.values for each in copied if each.flags == ("--from=node",)}
    assert ("/usr/local/bin/node", "/usr/local/bin/node") in of_node
    assert ("/usr/local/lib/node_modules/npm", "/usr/local/lib/node_modules/npm") in of_node
    (links,) = _runs("npm-cli.js")
    for name in ("npm", "npx"):
        assert f"ln -s ../lib/node_modules/npm/bin/{name}-cli.js /usr/local/bin/{name}" in links


def test_tools_are_where_the_image_that_it_replaces_has_them() -> None:
    # People mount ./tools:/usr/src/app/tools, and their tools require files beside them.
    settings = Settings.parse({"OPENAI_API_KEY": "k", **_settings_of_the_image()}, Role.SERVE)
    assert settings.tools_dir == Path("/usr/src/app/tools")
    assert environment()["AVR_TOOLS_DIR"] == "/usr/src/app/avr_tools"
    assert last_stage("WORKDIR")[-1] == ("/usr/src/app",)
    assert {("/usr/src/app/tools",), ("/usr/src/app/avr_tools",)} < {*last_stage("WORKDIR")}


def _runs(word: str) -> list[str]:
    """Return the commands of the last stage that have this word."""
    return [value for each in last_stage("RUN") for value in each if word in value]


def _settings_of_the_image() -> dict[str, str]:
    return {name: value for name, value in environment().items() if name.lower() in Settings.model_fields}


def test_every_variable_is_a_setting_or_the_systems() -> None:
    of_others = {"PATH", "PYTHONDONTWRITEBYTECODE", "PIP_PYTHON"}
    assert environment().keys() == of_others | {"TOOLS_DIR", "AVR_TOOLS_DIR"}


def test_ports_are_the_defaults_of_the_service() -> None:
    ports = {int(value) for each in last_stage("EXPOSE") for value in each}
    defaults = Settings.parse({"OPENAI_API_KEY": "k"}, Role.SERVE)
    assert ports == {defaults.port, defaults.admin_port, defaults.worker_port}


def test_the_health_check_is_a_program_of_the_image() -> None:
    (check,) = last_stage("HEALTHCHECK")
    assert check[:2] == ("CMD", PROGRAM)
    parse_arguments(check[2:])


def test_every_source_exists_and_is_sent_to_the_builder() -> None:
    for each in instructions():
        if each.name == "COPY" and not each.flags:
            for name in each.values[:-1]:
                assert sources(name), f"COPY {name}"


def test_every_package_of_the_project_is_copied() -> None:
    copied = {each.values[0] for each in instructions() if each.name == "COPY" and not each.flags}
    packages = [path.parent for path in REPOSITORY.glob("*/__init__.py") if path.parent.name != "grafana"]
    assert copied >= {package.name for package in packages}


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
        "worker/config/prices.json",
        "worker/tools/node/package-lock.json",
        "worker/tools/node/.npmrc",
        "common/store/lua/pin.lua",
    ],
)
def test_what_is_needed_is_sent(path: str) -> None:
    assert (REPOSITORY / path).is_file()
    assert is_sent(path)


def test_debian_packages_are_pinned_and_nothing_of_them_stays() -> None:
    (run,) = _runs("apt-get")
    assert re.findall(r"install --yes --no-install-recommends (\S+) ", run) == ["tini=0.19.*"]
    assert "rm -rf /var/lib/apt/lists/*" in run
