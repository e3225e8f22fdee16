"""The operator's pages name only what exists, and their commands and files can be used as they are."""

from __future__ import annotations

import functools
import re
import shlex
import subprocess
import tomllib
from typing import Any

import pytest
import yaml

from common.observe.metrics import FallbackOutcome
from common.runtime.banner import banner
from common.runtime.cli import PROGRAM, parse_arguments
from common.runtime.release import RELEASE
from common.settings.roles import Role
from common.settings.settings import Settings
from dispatcher.call.states import State
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
from tests.docs.names import compose_services, is_logged, is_series, labels_of, routes
from tests.helm.release import FULLNAME, render
from tests.helpers import needed_program

PAGES = (
    "operations.md",
    "api.md",
    "questions.md",
    "troubleshooting.md",
    "load-balancers.md",
    "way-out.md",
    "metrics.md",
    "check.md",
    "chat.md",
    "avr-protocol.md",
    "faq.md",
    "protection.md",
)
BLOCKS = [block for page in PAGES for block in blocks(page)]
EVERYTHING = "\n".join(document(page) for page in PAGES)

# The languages of blocks. A drawing has none.
CHECKED = {"asterisk", "conf", "env", "json", "nginx", "promql", "sh", "text", "yaml"}
# Variables of other programs, and words in capitals that are no variables.
OTHERS = {"STS_URL", "GROUP_COUNT", "NO_COLOR", "SSL_CERT_FILE"}
# Secrets may also be in files.
FILES = {"OPENAI_API_KEY_FILE"}
# Variables of the shell that operators set, here or by the first block of docs/runbook.md.
OF_THE_SHELL = {"ADMIN", "AUTH", "UUID", "WAV"}
KNOWN = {name.upper() for name in Settings.model_fields} | OTHERS | FILES

every_page = pytest.mark.parametrize("page", PAGES)


def _of(language: str) -> pytest.MarkDecorator:
    chosen = [block for block in BLOCKS if block.language == language]
    assert chosen
    return pytest.mark.parametrize("block", chosen, ids=[block.place for block in chosen])


@every_page
def test_every_block_has_a_checked_language(page: str) -> None:
    for block in blocks(page):
        assert block.language in CHECKED or "──" in block.text, block.place


@every_page
def test_every_variable_is_a_setting(page: str) -> None:
    assert inline_names(page) - KNOWN == set()
    assert {name for name, _ in assignments(without_blocks(page))} <= KNOWN
    for block in blocks(page):
        if block.language in ("env", "sh"):
            assert {name for name, _ in assignments(block.text)} <= KNOWN | OF_THE_SHELL, block.place


def test_every_named_default_is_the_default() -> None:
    named = re.findall(r"`([A-Z][A-Z_]+)` \(([\d,]+)\)", EVERYTHING)
    assert len(named) > 3
    for name, default in named:
        assert Settings.model_fields[name.lower()].default == int(default.replace(",", "")), name


def test_every_port_and_drain_time_is_the_default() -> None:
    for name, port in re.findall(r"^\| `(\w*PORT)` \| (\d+) \|", EVERYTHING, re.MULTILINE):
        assert Settings.model_fields[name.lower()].default == int(port)
    drains = dict(re.findall(r"^\| `?(worker|dispatcher|serve)`? \| (\d+) \|", EVERYTHING, re.MULTILINE))
    environment = {"OPENAI_API_KEY": "k", "REDIS_URL": "redis://localhost"}
    assert drains == {role.value: f"{Settings.parse(environment, role).drain_seconds:g}" for role in Role}


@_of("env")
def test_env_block_is_accepted_by_the_service(block: Block) -> None:
    settings = Settings.parse({"OPENAI_API_KEY": "k", **env_file(block.text)}, Role.SERVE)
    assert settings.notices == ()


@_of("yaml")
def test_yaml_block_parses(block: Block) -> None:
    for file in yaml.safe_load(block.text)["rule_files"]:
        assert file.startswith("/etc/prometheus/")
    assert list((REPOSITORY / "grafana/rules").glob("*.yaml"))


@_of("nginx")
def test_braces_of_an_nginx_block_are_balanced(block: Block) -> None:
    depth = 0
    for sign in re.findall(r"[{}]", block.text):
        depth += 1 if sign == "{" else -1
        assert depth >= 0
    assert depth == 0


@_of("sh")
def test_shell_block_is_valid(block: Block) -> None:
    read = subprocess.run(
        [needed_program("bash"), "-n"], input=block.text, capture_output=True, text=True, check=False
    )
    assert (read.returncode, read.stderr) == (0, "")


@_of("sh")
def test_shell_block_starts_known_programs(block: Block) -> None:
    for line in block.text.splitlines():
        for command in line.split(" | "):
            words = shlex.split(command)
            _known(words, {"curl", "docker", "echo", "grep", "helm", "kubectl", "logs", "python", "ssh", PROGRAM})


def _known(words: list[str], programs: set[str]) -> None:
    """Fail if a command cannot be typed as it stands."""
    match words:
        case [*command, "&"]:
            _known(command, programs)
        case [*command, "<" | ">" | "2>", _]:
            _known(command, programs)
        case ["export", assignment]:
            assert assignment.partition("=")[0] in KNOWN | OF_THE_SHELL
        case [name, *rest] if "=" in name and rest:
            assert name.partition("=")[0] in KNOWN
            _known(rest, programs)
        case ["docker", "compose", "exec", service, *rest]:
            assert service in compose_services()
            _known(rest, programs)
        case ["kubectl", "--namespace", _, "exec", pod, "--", *rest]:
            _is_in_the_chart([pod])
            _known(rest, programs)
        case [name, *_] if "=" in name:
            assert name.partition("=")[0] in OF_THE_SHELL
        case ["docker", "compose", verb, *rest]:
            assert verb in {"logs", "up"}
            named = [word.partition("=")[0] for word in rest if not word.startswith("-")]
            assert set(named) <= compose_services()
        case ["kubectl", "--namespace", _, _, *rest]:
            _is_in_the_chart(rest)
        case ["helm", "install", _, chart, *_]:
            assert (REPOSITORY / chart / "Chart.yaml").is_file()
        case ["logs", role, _]:
            assert role in {"dispatcher", "worker"}
        case ["python", "-m", module, *_]:
            assert (REPOSITORY / f"{module.replace('.', '/')}.py").is_file()
        case [name, *rest]:
            assert name in programs, words
            if name == PROGRAM:
                parse_arguments(rest)


def _is_in_the_chart(words: list[str]) -> None:
    text = " ".join(words)
    (name,) = re.findall(r"deployment[/ ](\S+)|^(\S+-(?:worker|dispatcher))", text)[0:1]
    deployments = {
        each["metadata"]["name"].replace(FULLNAME, "calls-avr-sts-openai", 1)
        for each in _objects()
        if each["kind"] == "Deployment"
    }
    assert "".join(name) in deployments


@functools.cache
def _objects() -> tuple[dict[str, Any], ...]:
    return tuple(render().objects)


def test_recording_of_the_first_call_is_in_the_image() -> None:
    (path,) = re.findall(r"^WAV=(.+)$", EVERYTHING, re.MULTILINE)
    dockerfile = (REPOSITORY / "Dockerfile").read_text("utf-8")
    packages, _, file = path.partition("/site-packages/")
    assert (REPOSITORY / file).is_file()
    assert f"{packages}/site-packages/" in dockerfile
    declared = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"][
        "package-data"
    ]
    assert "speech/*.wav" in declared["simulator"]
    assert file in re.findall(r"simulator/\S+\.wav", EVERYTHING)


def test_every_command_in_the_text_exists() -> None:
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")
    for target in re.findall(r"`make (\w+)[^`]*`", EVERYTHING):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for arguments in re.findall(rf"`{PROGRAM} ([^`]+)`", EVERYTHING):
        parse_arguments(arguments.split())
    for verb, words in re.findall(r"`docker compose (\w+) ([^`]+)`", EVERYTHING):
        assert verb in {"logs", "up"}, words


def test_banner_is_as_serve_shows_it() -> None:
    (block,) = (each for each in blocks("operations.md") if each.language == "text")
    tokens = {"STS_TOKEN": "0123456789abcdef", "ADMIN_TOKEN": "0123456789abcdef"}
    settings = Settings.parse({"OPENAI_API_KEY": "k", **tokens}, Role.SERVE)
    title = f"{PROGRAM} {RELEASE}"
    shown = banner(settings, host="192.0.2.7", port=6030, admin_port=9090, title=title)
    assert block.text.strip() == shown.strip()


def test_every_request_exists() -> None:
    written = re.findall(r"`(GET|POST|DELETE) (/[^`\s?]*)", EVERYTHING)
    typed = [
        (method[1] if (method := re.search(r"-X (\w+)", options)) else "GET", path.replace("$UUID", "{uuid}"))
        for options, path in re.findall(r'curl (.*?)"\$ADMIN(/[^"?]*)', EVERYTHING)
    ]
    assert len(written) > 10
    assert len(typed) > 8
    assert {*written, *typed} <= routes()


def test_requests_have_the_token_they_need() -> None:
    for line in EVERYTHING.splitlines():
        if line.startswith("curl") and "$ADMIN" in line:
            assert '-H "$AUTH"' in line, line


def test_every_metric_and_label_exists() -> None:
    names = set(re.findall(r"(?<![\w:])(?:(?:\w+:)?avr_sts_\w+(?::\w+)?|process_\w+_\w+)", EVERYTHING))
    assert len(names) > 20
    assert {name for name in names if not is_series(name)} == set()
    for name, labels in re.findall(r"((?:avr_sts|process)_\w+)\{([^}]*)\}", EVERYTHING):
        assert set(re.findall(r"(\w+)=", labels)) <= labels_of(name), name


def test_every_log_line_is_written_by_the_code() -> None:
    named = [
        each
        for part in re.findall(r"log\s+lines?\s+((?:`[^`]+`(?:,\s+|\s+and\s+)?)+)", EVERYTHING)
        for each in re.findall(r"`([^`]+)`", part)
    ]
    assert len(named) > 6
    assert [event for event in named if not is_logged(event)] == []


def test_close_codes_are_those_that_dispatchers_send() -> None:
    rows = set(re.findall(r"^\| (1\d{3}) \|", document("way-out.md"), re.MULTILINE))
    files = (file.read_text("utf-8") for file in (REPOSITORY / "dispatcher").rglob("*.py"))
    sent = set(re.findall(r"\b(1000|1008|1011|1013)\b", "\n".join(files)))
    assert rows == sent
    # 1006 is no code of ours: the connection breaks without a close.
    assert set(re.findall(r"\b(10(?:0\d|1\d))\b(?!\.)", EVERYTHING)) <= sent | {"1006"}


def test_outcomes_of_the_way_out_are_all_listed() -> None:
    table = document("way-out.md").partition("| `outcome` | meaning |")[2].partition("\n\n")[0]
    listed = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    assert {outcome.value for outcome in FallbackOutcome} == listed


def test_states_of_a_call_exist() -> None:
    (row,) = re.findall(r"^\| `state` \| (.+) \|$", document("operations.md"), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", row)) == {state.value for state in State} - {"awaiting_init", "ended"}


@every_page
def test_sentences_have_at_most_20_words(page: str) -> None:
    for sentence in _sentences(without_blocks(page)):
        assert len(sentence.split()) <= 20, sentence


def _sentences(text: str) -> list[str]:
    """Return the sentences of a page, of which each cell of a table has its own.

    A code span is one word. The parts around a colon or a semicolon count as sentences.
    """
    text = re.sub(r"`[^`]*`", "code", text.replace("**", ""))
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    paragraphs: list[str] = []
    for paragraph in re.split(r"\n\n|\n(?=[-|#]|\d\. )", text):
        paragraphs += paragraph.split(" | ") if paragraph.startswith("|") else [paragraph]
    return [sentence for each in paragraphs for sentence in re.split(r"(?<=[.?!:;])\s+", each) if sentence.strip()]
