"""`docs/runbook.md` has a section for each alert, with commands that can be typed as they are."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.settings.settings import Settings
from grafana import alerting
from grafana.rule import BY, Alert
from grafana.thresholds import ALERTING
from tests.common.metric_table import METRICS
from tests.docs.blocks import REPOSITORY, blocks, document
from tests.docs.names import anchors, routes, source
from tests.grafana import promql
from tests.helm.release import FULLNAME, render
from tests.helpers import needed_program

NAME = "runbook.md"
TEXT = document(NAME)
SECTIONS = {
    found[1]: found[2] for found in re.finditer(r"^### (\w+)\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL)
}
BLOCKS = [block for block in blocks(NAME) if block.language == "sh"]
LINES = [line for block in BLOCKS for line in block.text.splitlines()]
# Commands in running text and in tables, where a pipe is escaped.
INLINE = [
    each.replace(r"\|", "|")
    for each in re.findall(r"`((?:ask|curl|docker compose|helm|kubectl|logs) [^`]+)`", TEXT)
    if "..." not in each
]
COMMANDS = [*LINES, *INLINE]
QUERIES = sorted({found[1] for each in COMMANDS for found in re.finditer(r"\bask '([^']+)'", each)})
every_alert = pytest.mark.parametrize("alert", alerting.ALERTS, ids=lambda alert: alert.name)


def test_every_alert_has_a_section_and_no_other() -> None:
    assert list(SECTIONS) == [alert.name for alert in alerting.ALERTS]


@every_alert
def test_section_says_what_to_type_and_what_answers_mean(alert: Alert) -> None:
    section = SECTIONS[alert.name]
    assert section.lstrip().startswith("**Callers** ")
    assert "```sh\n" in section
    assert "**Over** " in section
    assert "| meaning | what to do |" in section or alert.name in ("AvrStsTaskFails", "AvrStsCostUnknown")


@every_alert
def test_runbook_url_leads_to_the_section(alert: Alert) -> None:
    url = alerting.plain(alert.wire())["annotations"]["runbook_url"]
    page, _, anchor = url.partition("#")
    assert page.endswith(f"/docs/{NAME}")
    assert anchor in anchors(REPOSITORY / "docs" / NAME)
    assert anchor == alert.name.lower()


@every_alert
def test_index_names_alert_and_severity(alert: Alert) -> None:
    assert f"| [{alert.name}](#{alert.name.lower()}) | {alert.severity} | " in TEXT


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:)([^)\s]+)\)", TEXT))))
def test_link_leads_somewhere(link: str) -> None:
    file, _, anchor = link.partition("#")
    page = REPOSITORY / "docs" / (file or NAME)
    assert page.is_file()
    assert not anchor or anchor in anchors(page)


def _faults(text: str) -> str:
    """Return what bash says of a text that it reads and does not run."""
    read = subprocess.run([needed_program("bash"), "-n"], input=text, capture_output=True, text=True, check=False)
    return read.stderr


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_block_is_valid_shell(block: Any) -> None:
    assert not _faults(block.text)


def test_inline_commands_are_valid_shell() -> None:
    assert not _faults("\n".join(INLINE))
    assert len(INLINE) > 20


def test_every_curl_asks_for_a_path_that_exists() -> None:
    asked = 0
    for command in COMMANDS:
        for found in re.finditer(r'\bcurl (.*?)"\$ADMIN(/[^"]*)"', command):
            method = re.search(r"-X (\w+)", found[1])
            path = found[2].partition("?")[0].replace("$UUID", "{uuid}")
            assert (method[1] if method else "GET", path) in routes(), command
            asked += 1
    assert asked > 10


def test_calls_api_is_asked_with_the_token() -> None:
    for command in COMMANDS:
        if "$ADMIN/" in command and not re.search(r"\$ADMIN/(livez|readyz|metrics)", command):
            assert '-H "$AUTH"' in command, command


def _calls(program: str) -> list[list[str]]:
    """Return the words of each call of a program, without its name."""
    found = []
    for command in COMMANDS:
        function = re.fullmatch(r"\w+\(\) \{ (.*); \}", command)
        substitution = re.fullmatch(r'\w+="[^"]*\$\((.*)\)"', command)
        body = next((each[1] for each in (function, substitution) if each), command)
        words = shlex.shlex(body, posix=True, punctuation_chars="|;&<>")
        words.whitespace_split = True
        words.commenters = ""
        call: list[str] = []
        for word in [*words, ";"]:
            if re.fullmatch("[|;&<>]+", word):
                if call[:1] == [program]:
                    found.append(call[1:])
                call = []
            else:
                call.append(word)
    return found


VERBS = {"delete", "describe", "exec", "get", "logs", "port-forward", "rollout", "scale", "top"}


def test_kubectl_is_asked_for_what_the_chart_makes() -> None:
    objects = {
        (each["kind"].lower(), each["metadata"]["name"].replace(FULLNAME, "$APP", 1)) for each in render().objects
    }
    components = {each["metadata"]["labels"]["app.kubernetes.io/component"] for each in render().objects}
    named = 0
    for words in _calls("kubectl"):
        verb = words[2] if words[0] == "--namespace" else words[0]
        assert verb in VERBS, words
        assert "--namespace" in words or "--all-namespaces" in words, words
        for found in re.finditer(r"(deployment)[/ ](\$APP-\w+)", " ".join(words)):
            assert (found[1], found[2]) in objects, words
            named += 1
        for component in re.findall(r"app\.kubernetes\.io/component=(\w+)", " ".join(words)):
            assert component in components, words
            named += 1
    assert named > 10


def test_compose_is_asked_for_its_services() -> None:
    files = ("docker-compose.yml", "docker-compose.single.yml")
    services = {
        name for file in files for name in yaml.safe_load((REPOSITORY / file).read_text("utf-8"))["services"]
    }
    verbs = {"exec", "kill", "logs", "ps", "up"}
    with_value = ("--file", "--since", "--signal", "--scale")
    named = 0
    for words in _calls("docker"):
        if words[0] == "stats":
            continue
        assert words[0] == "compose", words
        pairs = list(itertools.pairwise(words))
        plain = [word for before, word in pairs if not word.startswith("-") and before not in with_value]
        assert plain[0] in verbs, words
        scaled = [word.partition("=")[0] for before, word in pairs if before == "--scale"]
        for service in (*plain[1:2], *scaled):
            assert service in services | {"$1"}, words
            named += 1
    assert named > 10


def test_every_searched_log_line_is_written_by_the_code() -> None:
    searched = {
        text.strip('"')
        for command in COMMANDS
        for text in re.findall(r"""\blogs \w+ \w+ \| grep (?:'([^']+)'|"([^"$]+)")""", command)
        for text in text
        if text
    }
    assert len(searched) > 15
    for text in searched:
        assert f'"{text}' in source() or f" {text}" in source(), text


def test_roles_of_logs_exist() -> None:
    roles = {role for command in COMMANDS for role in re.findall(r"\blogs (?!-)(\w+) \w+ \|", command)}
    assert roles == {"dispatcher", "worker"}


@pytest.mark.parametrize("query", QUERIES)
def test_query_reads_series_that_exist(query: str) -> None:
    assert promql.metrics(query) <= METRICS.keys()
    for name in promql.recorded(query):
        assert name in {each.name for each in alerting.RECORDINGS}


@pytest.mark.system
def test_promtool_reads_every_query(tmp_path: Path) -> None:
    assert promql.faults(QUERIES, tmp_path) == ""
    assert len(QUERIES) > 50


def test_inhibitions_are_those_of_the_code() -> None:
    (block,) = (block for block in blocks(NAME) if block.language == "yaml")
    written = {}
    for rule in yaml.safe_load(block.text)["inhibit_rules"]:
        assert rule["equal"] == list(BY)
        (source,), (targets,) = rule["source_matchers"], rule["target_matchers"]
        written[source.split('"')[1]] = tuple(targets.split('"')[1].split("|"))
    assert written == alerting.INHIBITS


def test_every_setting_and_value_exists() -> None:
    named = set(re.findall(r"`([A-Z][A-Z0-9]*_[A-Z0-9_]+)`", TEXT)) - {"STS_URL", "SSL_CERT_FILE"}
    assert {name.lower() for name in named} <= Settings.model_fields.keys()
    values = yaml.safe_load((REPOSITORY / "helm/values.yaml").read_text("utf-8"))
    for name in re.findall(r"`((?:monitoring|networkPolicy|worker)\.[\w.]+)`", TEXT):
        part = values
        for key in name.split("."):
            part = part[key]
    thresholds = set(re.findall(r"\(`([a-z]+[A-Z]\w+)`\)", TEXT))
    assert thresholds
    assert thresholds <= ALERTING.keys() | {"drainSeconds"}
