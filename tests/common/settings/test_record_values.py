from __future__ import annotations

import base64
from pathlib import Path

import pytest

from common.errors import SettingsError
from common.settings.record_values import HOW_TO_MAKE_A_SECRET, secret_key
from common.settings.roles import Role
from common.settings.settings import Settings

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
BASE = {"REDIS_URL": "redis://127.0.0.1:1"}


def problem(**variables: str) -> str:
    with pytest.raises(SettingsError) as raised:
        Settings.parse(BASE | variables, Role.DISPATCHER)
    return str(raised.value)


def test_whsec_secret_is_base64_of_the_key() -> None:
    assert secret_key(SECRET) == KEY
    assert secret_key(SECRET.rstrip("=")) == KEY


def test_plain_secret_is_the_key_itself() -> None:
    assert secret_key("a-secret-of-this-test") == b"a-secret-of-this-test"


@pytest.mark.parametrize(
    "secret", ["whsec_not base64", "whsec_!!!!", "whsec_c2hvcnQ=", "short", "with spaces in it 123"]
)
def test_wrong_secret_stops_the_start_and_is_not_shown(secret: str) -> None:
    line = problem(CALL_RECORDS_SECRET=secret)
    assert line.startswith("CALL_RECORDS_SECRET ")
    assert secret not in line
    assert "whsec_" in line


def test_webhook_without_secret_is_refused_with_the_command() -> None:
    line = problem(CALL_RECORDS_WEBHOOK="https://example.com/records")
    assert "CALL_RECORDS_SECRET" in line
    assert HOW_TO_MAKE_A_SECRET in line


@pytest.mark.parametrize("url", ["ftp://example.com", "example.com/records", "https://"])
def test_wrong_webhook_stops_the_start(url: str) -> None:
    assert problem(CALL_RECORDS_WEBHOOK=url, CALL_RECORDS_SECRET=SECRET).startswith("CALL_RECORDS_WEBHOOK=")


def test_folder_that_is_missing_stops_the_start(tmp_path: Path) -> None:
    line = problem(CALL_RECORDS_DIR=str(tmp_path / "missing"))
    assert line.startswith("CALL_RECORDS_DIR=")
    assert "missing" in line


@pytest.mark.parametrize("name", ["redact", "redact:", ":f", "a.b:c.d", "a-b:c", "a:b:c"])
def test_wrong_name_of_the_hook_stops_the_start(name: str) -> None:
    assert "module:function" in problem(CALL_RECORDS_REDACT=name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CALL_RECORDS_KEEP_SECONDS", "-1"),
        ("CALL_RECORDS_KEEP_SECONDS", "week"),
        ("CALL_RECORDS_MAX_BYTES", "1000"),
        ("CALL_RECORDS_REDIS_URL", "http://example.com"),
    ],
)
def test_wrong_value_stops_the_start(name: str, value: str) -> None:
    assert problem(**{name: value}).startswith(f"{name}=")


def test_all_settings_together_are_accepted(tmp_path: Path) -> None:
    settings = Settings.parse(
        BASE
        | {
            "CALL_RECORDS_DIR": str(tmp_path),
            "CALL_RECORDS_WEBHOOK": "https://example.com/records?token=12345678abc",
            "CALL_RECORDS_SECRET": SECRET,
            "CALL_RECORDS_KEEP_SECONDS": "86400",
            "CALL_RECORDS_MAX_BYTES": "33554432",
            "CALL_RECORDS_REDIS_URL": "redis://:other-password@127.0.0.1:2",
            "CALL_RECORDS_REDACT": "shop.redact:without_names",
        },
        Role.DISPATCHER,
    )
    assert settings.call_records_dir == tmp_path
    assert {SECRET, "12345678abc", "other-password"} <= settings.secrets


def test_by_default_nothing_stores_anything() -> None:
    settings = Settings.parse(BASE, Role.DISPATCHER)
    assert settings.call_records_dir is None
    assert settings.call_records_webhook is None
    assert settings.call_records_keep_seconds == 0
