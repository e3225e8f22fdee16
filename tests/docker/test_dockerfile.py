"""Properties of the image that can be checked without Docker."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from common.runtime.cli import PROGRAM, parse_arguments
from common.runtime.release import RELEASE
from common.settings.roles import Role
from common.settings.settings import Settings
from tests.docker.image import REPOSITORY, environment, instructions, is_sent, last_stage, sources

HADOLINT = Path(sys.executable).with_name("hadolint")


def test_the_linter_finds_nothing() -> None:
    run = subprocess.run([HADOLINT, REPOSITORY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def _arguments() -> dict[str, str]:
    """Return the build arguments with their defaults."""
    given = [each.values[0].partition("=") for each in instructions() if each.name == "ARG"]
    return {name: value for name, _, value in given if value}


def test_every_base_is_pinned_to_a_release() -> None:
    arguments = _arguments()
    for each in instructions():
        if each.name == "FROM":
            image = arguments[each.values[0].removeprefix("${").removesuffix("}")]
            assert re.fullmatch(r"\w+:\d+\.\d+\.\d+-[\w-]+", image), image


def test_python_is_that_of_the_tests() -> None:
    arguments = _arguments()
    major, minor = re.findall(r"\d+", arguments["PYTHON_IMAGE"])[:2]
    copied = [value for each in last_stage("COPY") for value in each]
    assert any(f"/lib/python{major}.{minor}/site-packages/" in value for value in copied)
    settings = (REPOSITORY / "pyproject.toml").read_text("utf-8")
    assert f'target-version = "py{major}{minor}"' in settings


def test_bases_are_of_one_debian_and_supported_lines() -> None:
    arguments = _arguments()
    debians = [re.findall(r"bookworm|trixie", arguments[name]) for name in ("PYTHON_IMAGE", "NODE_IMAGE")]
    assert debians[0] == debians[1]
    assert re.match(r"node:(24|26)\.", arguments["NODE_IMAGE"])  # end in April 2028 and 2029


def test_labels_have_version_revision_and_time_of_the_build() -> None:
    pairs = [value for each in last_stage("LABEL") for value in each]
    labels = {name.rpartition("image.")[2]: value for name, value in zip(pairs[::2], pairs[1::2], strict=True)}
    arguments = _arguments()
    assert arguments["VERSION"] == RELEASE
    for name, argument in {"version": "VERSION", "revision": "REVISION", "created": "CREATED"}.items():
        assert labels[name].strip('"') == f"${{{argument}}}"
        # An argument of the last stage: one before FROM would be empty here.
        assert any(each.partition("=")[0] == argument for (each,) in last_stage("ARG")), argument
    assert labels["base.name"].strip('"') == "docker.io/library/${PYTHON_IMAGE}"


def test_no_step_depends_on_a_platform_by_name() -> None:
    text = (REPOSITORY / "Dockerfile").read_text("utf-8")
    commands = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert not re.search(r"x86_64|amd64|aarch64|arm64|--platform", commands)


def test_default_command_is_serve() -> None:
    assert last_stage("ENTRYPOINT") == [("tini", "--", "avr-sts-openai")]
    assert last_stage("CMD") == [("serve",)]


def test_service_runs_as_the_user_of_avrs_images() -> None:
    # Mounted tools often have mode 0600 and belong to `node`, which has uid 1000 in AVR's images.
    assert last_stage("USER") == [("1000:1000",)]
    (set_up,) = _runs("useradd")
    assert "groupadd --gid 1000 node" in set_up
    assert re.search(r"useradd --uid 1000 --gid 1000 .*--shell /usr/sbin/nologin node", set_up)


def test_chart_runs_as_the_user_of_the_image() -> None:
    values = yaml.safe_load((REPOSITORY / "helm" / "values.yaml").read_text("utf-8"))
    context = values["podSecurityContext"]
    assert context["runAsNonRoot"] is True
    assert [context[name] for name in ("runAsUser", "runAsGroup", "fsGroup")] == [1000, 1000, 1000]


def test_derived_image_can_install_beside_the_tools() -> None:
    (set_up,) = _runs("chown")
    assert "mkdir --parents /usr/src/app/tools /usr/src/app/avr_tools" in set_up
    assert "chown --recursive 1000:1000 /usr/src/app" in set_up


def test_npm_and_node_come_from_the_same_stage() -> None:
    everything = instructions()
    copied = [each for each in everything if each.name == "COPY" and each.stage == everything[-1].stage]
    of_node = {each.values for each in copied if each.flags == ("--from=node",)}
    assert ("/usr/local/bin/node", "/usr/local/bin/node") in of_node
    assert ("/usr/local/lib/node_modules/npm", "/usr/local/lib/node_modules/npm") in of_node
    (links,) = _runs("npm-cli.js")
    for name in ("npm", "npx"):
        assert f"ln -s ../lib/node_modules/npm/bin/{name}-cli.js /usr/local/bin/{name}" in links


def test_tools_are_in_the_folder_of_the_replaced_image() -> None:
    # People mount ./tools:/usr/src/app/tools, and tools require files beside themselves.
    settings = Settings.parse({"OPENAI_API_KEY": "k", **_settings_of_the_image()}, Role.SERVE)
    assert settings.tools_dir == Path("/usr/src/app/tools")
    assert environment()["AVR_TOOLS_DIR"] == "/usr/src/app/avr_tools"
    assert last_stage("WORKDIR")[-1] == ("/usr/src/app",)
    assert {("/usr/src/app/tools",), ("/usr/src/app/avr_tools",)} < {*last_stage("WORKDIR")}


def _runs(word: str) -> list[str]:
    """Return the commands of the last stage that contain this word."""
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
def test_secrets_and_unneeded_files_are_not_sent(path: str) -> None:
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
def test_needed_files_are_sent(path: str) -> None:
    assert (REPOSITORY / path).is_file()
    assert is_sent(path)


def test_debian_packages_are_pinned_and_lists_removed() -> None:
    (run,) = _runs("apt-get")
    assert re.findall(r"install --yes --no-install-recommends (\S+) ", run) == ["tini=0.19.*"]
    assert "rm -rf /var/lib/apt/lists/*" in run
