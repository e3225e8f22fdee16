"""Secrets by file: OPENAI_API_KEY_FILE for OPENAI_API_KEY, and so on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from common.errors import SettingsError
from common.settings.fields import NEVER_SHOWN, SECRETS
from common.settings.roles import Role
from common.settings.secret_files import MAX_BYTES
from common.settings.settings import Settings

KEY = "sk-test-0123456789abcdefghij"
TOKEN = "a-token-of-32-characters-in-all!"


def refusal(**variables: str) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.parse({"OPENAI_API_KEY": KEY, "REDIS_URL": "redis://here"} | variables, Role.SERVE)
    return str(caught.value)


def test_every_secret_can_be_a_file() -> None:
    paths = {"tls_key", "cluster_tls_key"}
    hidden = {
        name for name, field in Settings.model_fields.items() if field.annotation in (SecretStr, SecretStr | None)
    }
    assert set(SECRETS) == hidden | (NEVER_SHOWN - paths) | {"redis_url", "call_records_redis_url"}


@pytest.mark.parametrize("written", [TOKEN, TOKEN + "\n", f"  {TOKEN}\r\n\n"])
@pytest.mark.parametrize("name", ["sts_token", "cluster_token", "admin_token", "safety_identifier_secret"])
def test_a_file_is_read_without_the_space_around_it(tmp_path: Path, name: str, written: str) -> None:
    file = tmp_path / "token"
    file.write_text(written)
    variables = {"OPENAI_API_KEY": KEY, "REDIS_URL": "redis://here", f"{name.upper()}_FILE": str(file)}
    settings = Settings.parse(variables, Role.SERVE)
    assert getattr(settings, name).get_secret_value() == TOKEN


def test_needed_secrets_may_be_in_files(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "redis").write_text("redis://:password@here:6379/0\n")
    (tmp_path / "mcp").write_text('[{"server_label": "a", "server_url": "https://a.example"}]')
    settings = Settings.parse(
        {
            "OPENAI_API_KEY_FILE": str(tmp_path / "key"),
            "REDIS_URL_FILE": str(tmp_path / "redis"),
            "OPENAI_MCP_SERVERS_FILE": str(tmp_path / "mcp"),
        },
        Role.SERVE,
    )
    assert settings.openai_api_key.get_secret_value() == KEY
    assert settings.redis_url == "redis://:password@here:6379/0"
    assert settings.openai_mcp_servers is not None


@pytest.mark.parametrize("name", [name.upper() for name in SECRETS])
def test_a_value_and_a_file_are_refused_with_both_names(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text(TOKEN)
    told = refusal(**{name: TOKEN, f"{name}_FILE": str(tmp_path / "secret")})
    assert told.splitlines()[0] == f"{name} and {name}_FILE are both set: set one of them"
    assert TOKEN not in told


@pytest.mark.parametrize("name", [name.upper() for name in SECRETS if name not in {"openai_api_key", "redis_url"}])
def test_a_file_that_cannot_be_read_is_named_with_its_variable(tmp_path: Path, name: str) -> None:
    missing = tmp_path / "missing"
    assert refusal(**{f"{name}_FILE": str(missing)}) == (
        f"{name}_FILE={str(missing)!r} cannot be read: No such file or directory"
    )
    assert (
        refusal(**{f"{name}_FILE": str(tmp_path)})
        == f"{name}_FILE={str(tmp_path)!r} cannot be read: Is a directory"
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xff\xfe\x00", "is not text in UTF-8"),
        (b"x" * (MAX_BYTES + 1), "is longer than a secret can be, 65536 bytes"),
        (b"too-short", "is shorter than 16 characters, and may be guessed: let `openssl rand -hex 32` make one"),
    ],
)
def test_a_file_that_is_wrong_is_named_and_not_shown(tmp_path: Path, content: bytes, told: str) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    line = refusal(STS_TOKEN_FILE=str(file))
    assert line.startswith("STS_TOKEN_FILE")
    assert line.endswith(f" {told}")
    assert "too-short" not in line.removesuffix(told)


def test_a_secret_in_the_place_of_its_path_is_not_shown() -> None:
    assert KEY not in refusal(STS_TOKEN_FILE=KEY)


def test_the_env_file_may_name_files_of_secrets(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    (tmp_path / ".env").write_text(f"OPENAI_API_KEY_FILE={tmp_path / 'key'}\n")
    program = (
        "from common.settings.settings import Role, Settings\n"
        "print(len(Settings.load(Role.SERVE).openai_api_key.get_secret_value()))"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, check=True
    )
    assert done.stdout == f"{len(KEY)}\n".encode()
