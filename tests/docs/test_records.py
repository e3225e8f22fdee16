"""`docs/records.md`: settings exist, links lead somewhere, and the examples verify what the webhook sends."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from common.observe.record_outcome import RecordOutcome
from common.settings.roles import Role
from common.settings.settings import Settings
from dispatcher.records.call_record import CallRecord
from dispatcher.records.webhook_sink import signature
from tests.dispatcher.records.receiver import SECRET
from tests.dispatcher.records.samples import call_record
from tests.docs.blocks import REPOSITORY, blocks, document, env_file, inline_names
from tests.helpers import needed_program

PAGES = ("records.md", "data-protection.md")
BODY = '{"uuid":"a","said":[{"text":"Città"}]}'.encode()


def _block(language: str, place: int = 0) -> str:
    return [block.text for block in blocks("records.md") if block.language == language][place]


def _headers(body: bytes) -> dict[str, str]:
    now = int(time.time())
    signed = signature(SECRET, "record-1", now, body)
    return {"webhook-id": "record-1", "webhook-timestamp": str(now), "webhook-signature": signed}


@pytest.mark.parametrize("name", PAGES)
def test_every_variable_is_a_setting(name: str) -> None:
    # OpenTelemetry reads its variables by itself.
    named = {each.lower() for each in inline_names(name) if not each.startswith("OTEL_")}
    assert named <= Settings.model_fields.keys()


@pytest.mark.parametrize("name", PAGES)
def test_every_link_has_a_target(name: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", document(name)):
        if not link.startswith("https://"):
            file, _, anchor = link.partition("#")
            target = REPOSITORY / "docs" / (file or name)
            assert target.is_file(), link
            headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
            assert not anchor or anchor in {each.lower().replace(" ", "-") for each in headings}, link


def test_settings_of_the_example_are_accepted(tmp_path: Path) -> None:
    variables = env_file(_block("env")) | {"CALL_RECORDS_DIR": str(tmp_path)}
    assert Settings.parse({"REDIS_URL": "redis://127.0.0.1:1"} | variables, Role.DISPATCHER).call_records_text


def test_every_field_is_described() -> None:
    table = document("records.md").partition("## Fields")[2].partition("## At least once")[0]
    described = set(re.findall(r"`(\w+)`", table))
    fields = call_record().as_json().keys()
    assert set(CallRecord.__dataclass_fields__) <= set(fields)
    assert set(fields) <= described


def test_every_outcome_is_described() -> None:
    text = document("records.md").partition("## Watch it")[2]
    assert {outcome.value for outcome in RecordOutcome} <= set(re.findall(r"`(\w+)`", text))


def test_python_example_verifies_the_webhook() -> None:
    stored: list[Any] = []
    names: dict[str, Any] = {"is_known": lambda _: False, "store": stored.append}
    exec(_block("python"), names)  # noqa: S102 - the document's own example
    assert names["receive"](BODY, _headers(BODY), SECRET) == orjson.loads(BODY)
    assert stored == [orjson.loads(BODY)]
    with pytest.raises(Exception, match="signature"):
        names["receive"](b"{}", _headers(BODY), SECRET)


def test_python_example_of_the_hook_is_a_function() -> None:
    names: dict[str, Any] = {}
    exec(_block("python", 1), names)  # noqa: S102 - the document's own example
    assert names["without_names"]("Dr. Rossi called") == "[name] called"


@pytest.mark.system
def test_node_example_verifies_the_webhook(tmp_path: Path) -> None:
    (tmp_path / "verify.js").write_text(_block("javascript"), "utf-8")
    program = (
        "const {verify} = require('./verify.js');"
        "const [body, headers, secret] = JSON.parse(process.argv[1]);"
        "console.log(verify(Buffer.from(body), headers, secret).uuid);"
        "try { verify(Buffer.from(body + ' '), headers, secret); } catch (error) { console.log(error.message); }"
    )
    arguments = orjson.dumps([BODY.decode(), _headers(BODY), SECRET]).decode()
    run = subprocess.run(
        [needed_program("node"), "-e", program, arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split("\n") == ["a", "wrong signature", ""]
