"""The configuration examples in the documents: names and paths exist, and files parse."""

from __future__ import annotations

import ast
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

from common.runtime.cli import PROGRAM, parse_arguments
from common.runtime.release import RELEASE
from common.settings.roles import Role
from common.settings.settings import Settings
from tests.docs.blocks import (
    REPOSITORY,
    Block,
    assignments,
    blocks,
    document,
    env_file,
    inline_names,
    without_blocks,
)
from tests.docs.dialplan import Dialplan
from worker.config import instructions
from worker.tools import built_in

DOCUMENTS = ("quickstart.md", "migration.md", "tools.md", "prompts.md", "settings.md")
BLOCKS = [block for name in DOCUMENTS for block in blocks(name)]

OTHERS = {
    # avr-app sets these in each agent's container (backend/src/agents/agents.service.ts).
    "avr-app": {"AGENT_ID", "AGENT_NAME", "PROVIDER_STS_ID", "PROVIDER_STS_NAME", "PROVIDER_STS_TYPE"},
    # avr-app's backend passes these to agents.
    "avr-app-backend": {"AMI_URL", "TOOLS_DIR", "AVR_TOOLS_DIR"},
    "avr-ami": {"PORT", "AMI_HOST", "AMI_PORT", "AMI_USERNAME", "AMI_PASSWORD"},
    "avr-core": {"PORT", "HTTP_PORT", "STS_URL"},
    # A variable of the image: the Python for which pip installs.
    "pip": {"PIP_PYTHON"},
    "opentelemetry": {"OTEL_EXPORTER_OTLP_HEADERS"},
    # A variable of an example.
    "a tool": {"SHOP_URL"},
    # A misspelt name that the text mentions.
    "nobody": {"OPENAI_VOCE"},
}
# `_FILE` after a documented variable names a file that contains the variable's value.
OF_FILES = {"OPENAI_API_KEY_FILE"}

SETTINGS = {name.upper() for name in Settings.model_fields} | OF_FILES
KNOWN = SETTINGS.union(*OTHERS.values())

CHECKED = {"asterisk", "console", "dockerfile", "env", "javascript", "json", "python", "text", "yaml"}
"""Languages of the blocks that this module checks. A drawing has no language."""

COMPOSE = Path(sys.executable).with_name("docker-compose")

# The part of avr-infra's file over which the documents' files are merged: names, list form, networks.
_INFRA = """
services:
  avr-core:
    image: agentvoiceresponse/avr-core
    environment: [PORT=5001, HTTP_PORT=6001, "STS_URL=ws://avr-sts-openai:6030"]
    networks: [avr]
  avr-sts-openai:
    image: agentvoiceresponse/avr-sts-openai
    environment: [PORT=6030, OPENAI_API_KEY=sk-1, OPENAI_MODEL=gpt-realtime-2, OPENAI_REASONING_EFFORT=low]
    networks: [avr]
  avr-ami:
    image: agentvoiceresponse/avr-ami
    environment: [PORT=6006]
    networks: [avr]
networks:
  avr: {name: avr}
"""
_INFRA_OF_AVR_APP = """
services:
  avr-app-backend:
    image: agentvoiceresponse/avr-app-backend
    environment: [PORT=3001]
    networks: [avr]
networks:
  avr: {name: avr}
"""


def _of(*languages: str) -> pytest.MarkDecorator:
    chosen = [block for block in BLOCKS if block.language in languages]
    assert chosen
    return pytest.mark.parametrize("block", chosen, ids=[block.place for block in chosen])


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_block_has_a_checked_language(name: str) -> None:
    drawn = "──"
    for block in blocks(name):
        assert block.language in CHECKED or drawn in block.text, block.place


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_variable_in_the_prose_is_known(name: str) -> None:
    assert inline_names(name) - KNOWN == set()


@_of("env")
def test_env_block_is_accepted_by_the_service(block: Block) -> None:
    variables = env_file(block.text)
    assert variables.keys() <= SETTINGS
    settings = Settings.parse({"OPENAI_API_KEY": "k", **variables}, Role.SERVE)
    assert settings.notices == ()


@_of("console")
def test_command_exists(block: Block) -> None:
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    for line in block.text.splitlines():
        program, *arguments = re.sub(r"^(\w+=\S* )+", "", line).split()
        assert program in {"cd", "curl", "docker", "git", "make", PROGRAM}, line
        if program == "make":
            assert re.search(rf"^{arguments[0]}:", makefile, re.MULTILINE), line
    assert {name for name, _ in assignments(block.text)} <= KNOWN


@_of("json")
def test_json_block_parses(block: Block) -> None:
    json.loads(block.text)


@_of("text")
def test_prompt_is_filled_in_and_fits(block: Block) -> None:
    filled = instructions.fill(block.text, uuid="call-1", metadata={"from": "+4930123456"})
    assert "{" not in filled
    assert "+4930123456" in filled or "{from}" not in block.text
    # Each point is short, and the whole is a prompt for which each answer of a call can pay.
    assert all(len(line.split()) <= 25 for line in filled.splitlines())
    assert len(filled) < 2500


def test_prompt_names_only_tools_that_exist() -> None:
    named = set(re.findall(r"\bavr_\w+", "".join(block.text for block in BLOCKS if block.language == "text")))
    assert named == set(built_in.BUILT_IN)


@_of("python")
def test_python_block_is_a_tool(block: Block) -> None:
    names = {
        target.id
        for node in ast.parse(block.text).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    functions = {node.name for node in ast.parse(block.text).body if hasattr(node, "name")}
    assert {"name", "description"} <= names
    assert functions == {"handler"}


@pytest.mark.system
@_of("javascript")
def test_javascript_block_is_accepted_by_node(block: Block, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        if os.environ.get("CI"):
            pytest.fail("node is missing: install the packages of .ci/packages")
        pytest.skip("node is missing")
    (tmp_path / "tool.js").write_text(block.text, "utf-8")
    run = subprocess.run([node, "--check", tmp_path / "tool.js"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("name", ["quickstart.md", "way-out.md"])
def test_dialplan_has_no_problems(name: str) -> None:
    (block,) = (each for each in blocks(name) if each.language == "asterisk")
    assert Dialplan.parse(block.text).problems == []


def test_dialplan_has_each_step_of_a_call() -> None:
    (block,) = (each for each in BLOCKS if each.language == "asterisk")
    plan = Dialplan.parse(block.text)
    assert {("demo", "5001"), ("demo", "600"), ("demo", "people"), ("avr-agent", "s")} == plan.extensions.keys()
    (posted,) = re.findall(r"Set\(CALL=(\{.*\})\)$", block.text, re.MULTILINE)
    payload = json.loads(posted)["payload"]
    assert {"from", "to"} <= payload.keys()
    assert "http://avr-core:6001/call" in block.text
    assert f":{Settings.model_fields['admin_port'].default}/readyz" in block.text


@_of("dockerfile")
def test_dockerfile_block_derives_from_this_release(block: Block) -> None:
    first, *others = block.text.splitlines()
    assert first == f"FROM avr-sts-openai:{RELEASE}"
    for line in others:
        assert re.match(r"(RUN (npm|pip) install |USER (root|node)$|COPY --chown=node:node )", line), line


def _services(block: Block) -> dict[str, dict[str, Any]]:
    services: dict[str, dict[str, Any]] = yaml.safe_load(block.text)["services"]
    return services


@_of("yaml")
def test_compose_block_sets_known_variables(block: Block) -> None:
    for name, service in _services(block).items():
        known = SETTINGS if name == "avr-sts-openai" else OTHERS.get(name, set())
        assert service.get("environment", {}).keys() <= known, name


@_of("yaml")
def test_compose_block_merges_over_the_file_of_avr_infra(block: Block, tmp_path: Path) -> None:
    if not COMPOSE.exists() and not os.environ.get("CI"):
        pytest.skip("docker-compose is not built for this machine")
    base = _INFRA_OF_AVR_APP if "avr-app-backend" in _services(block) else _INFRA
    (tmp_path / "base.yml").write_text(base, "utf-8")
    (tmp_path / "more.yml").write_text(block.text, "utf-8")
    command: list[str | Path] = [
        COMPOSE,
        "--file",
        "base.yml",
        "--file",
        "more.yml",
        "--env-file",
        os.devnull,
        "config",
    ]
    run = subprocess.run(
        [*command, "--format", "json"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    merged = json.loads(run.stdout)["services"]
    assert merged.keys() == yaml.safe_load(base)["services"].keys() | _services(block).keys()
    for name, service in _services(block).items():
        expected = {key: str(value) for key, value in service.get("environment", {}).items()}
        assert merged[name].get("environment", {}).items() >= expected.items()
    if "avr-sts-openai" in merged:
        variables = merged["avr-sts-openai"]["environment"]
        assert Settings.parse(variables, Role.SERVE).port == 6030


@_of("yaml")
def test_compose_block_names_this_release_and_paths_of_the_image(block: Block) -> None:
    for service in _services(block).values():
        if "avr-sts-openai" in (image := service.get("image", "")):
            assert image == f"avr-sts-openai:{RELEASE}"
        assert service.get("build", "../avr-sts-openai") == "../avr-sts-openai"
        if check := service.get("healthcheck"):
            assert check["test"][:2] == ["CMD", PROGRAM]
            parse_arguments(check["test"][2:])


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_path_of_the_image_exists(name: str) -> None:
    dockerfile = (REPOSITORY / "Dockerfile").read_text("utf-8")
    made = set(re.findall(r"^WORKDIR (\S+)$", dockerfile, re.MULTILINE))
    assert set(re.findall(r"/usr/src/app[\w/]*", document(name))) <= made


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_has_a_target(name: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_blocks(name)):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (REPOSITORY / "docs" / (file or name)).resolve()
        assert target.is_file(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^a-z0-9 -]", "", each.lower()).replace(" ", "-") for each in headings}, (
                link
            )


OF_THE_OLD_CONNECTOR = {
    *(
        "PORT",
        "AMI_URL",
        "OPENAI_API_KEY",
        "OPENAI_MODEL",
        "OPENAI_VOICE",
        "OPENAI_LANGUAGE",
        "OPENAI_TEMPERATURE",
    ),
    *("OPENAI_INSTRUCTIONS", "OPENAI_URL_INSTRUCTIONS", "OPENAI_FILE_INSTRUCTIONS", "OPENAI_MAX_TOKENS"),
    *("OPENAI_REASONING_EFFORT", "OPENAI_TRANSCRIPTION_MODEL"),
    *("OPENAI_TURN_DETECTION", "OPENAI_TURN_DETECTION_EAGERNESS"),
}
"""AVR's wiki page on the connector (24 May 2026) and avr-infra's docker-compose-openai-realtime.yml."""


def test_migration_guide_has_each_variable_of_the_old_connector() -> None:
    rows = set(re.findall(r"^\| `([A-Z_]+)` \|", document("migration.md"), re.MULTILINE))
    assert rows == OF_THE_OLD_CONNECTOR
    assert {name.lower() for name in rows} <= Settings.model_fields.keys()
