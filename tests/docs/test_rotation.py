"""`docs/rotation.md`: each replaceable secret has a row with a test, and commands name what exists."""

from __future__ import annotations

import re
from typing import Final

import yaml

from common.settings.fields import SECRETS
from common.settings.settings import Settings
from tests.docs.blocks import REPOSITORY, blocks, document

TEXT: Final = document("rotation.md")
ROWS: Final = re.findall(r"^\| (`[A-Z_]+`(?:, `[A-Z_]+`)*) \| .* \| (.*) \|$", TEXT, re.MULTILINE)


def test_each_secret_of_the_guide_has_a_row() -> None:
    named = {name for names, _ in ROWS for name in re.findall(r"`([A-Z_]+)`", names)}
    assert named == {
        *("OPENAI_API_KEY", "STS_TOKEN", "ADMIN_TOKEN", "CLUSTER_TOKEN", "CALL_RECORDS_SECRET"),
        *("TLS_CERT", "TLS_KEY", "CLUSTER_TLS_CERT", "CLUSTER_TLS_KEY"),
    }
    assert {name.lower() for name in named} <= Settings.model_fields.keys()


def test_each_row_names_a_test_that_exists() -> None:
    test = ""
    for names, shown in ROWS:
        test = test if shown == "the same" else shown
        file, _, name = test.strip("`").partition("::")
        source = (REPOSITORY / file).read_text("utf-8")
        assert f"async def {name}(" in source, names
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT):
        assert f"async def {name}(" in (REPOSITORY / file).read_text("utf-8")


def test_commands_name_services_of_compose_and_programs() -> None:
    services = {
        name
        for file in ("docker-compose.yml", "docker-compose.single.yml")
        for name in yaml.safe_load((REPOSITORY / file).read_text("utf-8"))["services"]
    }
    programs = {"docker", "echo", "install", "journalctl", "kubectl", "systemctl"}
    for block in blocks("rotation.md"):
        assert block.language == "console"
        for line in block.text.splitlines():
            words = re.sub(r"^(\w+=\S* )+", "", line).split()
            assert words[0] in programs, line
            if words[:2] == ["docker", "compose"]:
                named = [
                    word for word in words[3:] if re.fullmatch(r"[a-z-]*[a-z]", word) and not word.startswith("-")
                ]
                assert named, line
                assert set(named) <= services, line


def test_compose_replaces_the_files_that_the_guide_names() -> None:
    compose = (REPOSITORY / "docker-compose.yml").read_text("utf-8")
    assert "OPENAI_API_KEY_FILE=./secrets/openai_api_key" in compose.partition("\nname:")[0]
    assert "OPENAI_API_KEY_FILE=./secrets/openai_api_key" in TEXT
    assert {f"{name}_file" for name in SECRETS} > {"openai_api_key_file"}


def test_log_lines_are_those_of_the_code() -> None:
    table = TEXT.partition("## Look for")[2]
    lines = re.findall(r"`((?:secrets|changed|certificate) [a-z ]+)`", table)
    code = "".join(
        (REPOSITORY / path).read_text("utf-8") for path in ("common/runtime/reload.py", "common/net/tls.py")
    )
    assert len(lines) == 5
    assert [line for line in lines if f'"{line}"' not in code] == []
