"""A renamed setting: its old name works until the release that the table names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from common.errors import SettingsError
from common.runtime.child_environment import environment_of
from common.runtime.release import RELEASE
from common.settings import renamed
from common.settings.renamed import RENAMED, Renamed
from common.settings.roles import Role
from common.settings.settings import Settings
from common.store.leases import release_order
from worker.tools.environment import ToolEnvironment

NEEDED = {"OPENAI_API_KEY": "sk-proj-0123456789abcdef", "REDIS_URL": "redis://127.0.0.1:6379/0"}
TOKEN = "0123456789abcdef-of-the-test"
OLD_VOICE = "OPENAI_SPEAKER is named OPENAI_VOICE now, and is not read from release 9.9.0 on: rename it"


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that two settings had other names before."""
    made = {
        "openai_speaker": Renamed("openai_voice", "9.9.0"),
        "caller_token": Renamed("sts_token", "9.9.0"),
    }
    monkeypatch.setattr(renamed, "RENAMED", made)


def load(role: Role = Role.SERVE, /, **variables: str) -> Settings:
    return Settings.parse(NEEDED | variables, role)


def test_old_name_sets_the_setting_and_warns_once() -> None:
    settings = load(OPENAI_SPEAKER="cedar")
    assert settings.openai_voice == "cedar"
    assert settings.notices == (OLD_VOICE,)


def test_new_name_counts_if_both_are_set() -> None:
    settings = load(OPENAI_SPEAKER="cedar", OPENAI_VOICE="marin")
    assert settings.openai_voice == "marin"
    assert settings.notices == ("OPENAI_SPEAKER has no effect: OPENAI_VOICE, its name now, is set too",)


@pytest.mark.parametrize("empty", ["", " ", '""'])
def test_empty_new_name_counts_as_unset(empty: str) -> None:
    assert load(OPENAI_SPEAKER="cedar", OPENAI_VOICE=empty).openai_voice == "cedar"


def test_empty_old_name_is_not_mentioned() -> None:
    assert load(OPENAI_SPEAKER="").notices == ()


def test_wrong_value_is_told_under_the_new_name() -> None:
    with pytest.raises(SettingsError, match=r"^STS_TOKEN "):
        load(CALLER_TOKEN="short")


def test_strict_settings_take_an_old_name() -> None:
    assert load(OPENAI_SPEAKER="cedar", STRICT_SETTINGS="true").openai_voice == "cedar"


def test_old_name_of_a_secret_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    settings = load(CALLER_TOKEN_FILE=str(tmp_path / "token"))
    assert settings.sts_token is not None
    assert settings.sts_token.get_secret_value() == TOKEN
    (line,) = settings.notices
    assert line.startswith("CALLER_TOKEN_FILE is named STS_TOKEN_FILE now")


def test_environment_wins_over_the_env_file_whatever_the_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in (NEEDED | {"OPENAI_SPEAKER": "cedar"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("OPENAI_VOICE", raising=False)
    Path(".env").write_text("OPENAI_VOICE=marin\n")
    assert Settings.load(Role.SERVE).openai_voice == "cedar"


@pytest.mark.parametrize("name", ["CALLER_TOKEN", "caller_token", "CALLER_TOKEN_FILE"])
def test_secret_under_its_old_name_reaches_its_readers_alone(name: str) -> None:
    assert environment_of(Role.WORKER, {name: TOKEN}) == {}
    assert environment_of(Role.DISPATCHER, {name: TOKEN}) == {name: TOKEN}
    assert environment_of(None, {name: TOKEN}) == {}
    assert ToolEnvironment.of({name: TOKEN}).variables == {}


def test_role_that_does_not_read_a_secret_ignores_its_old_name() -> None:
    settings = load(Role.WORKER, CALLER_TOKEN=TOKEN)
    assert settings.sts_token is None
    assert settings.notices == ()


def problems(table: Mapping[str, Renamed], release: str) -> list[str]:
    """Return what is wrong with a table of renamed settings, as seen from a release."""
    found = []
    for old, now in table.items():
        if old in Settings.model_fields or now.name not in Settings.model_fields:
            found.append(f"{old}: the old name must be no setting, and {now.name} must be one")
        if not re.fullmatch(r"\d+\.\d+\.\d+", now.gone_in):
            found.append(f"{old}: {now.gone_in} is no release")
        elif release_order(release) >= release_order(now.gone_in):
            found.append(f"{old}: its time is over, take it out of the table")
    return found


def test_table_names_settings_and_no_past_release() -> None:
    assert problems(RENAMED, RELEASE) == []


@pytest.mark.parametrize(
    ("table", "wrong"),
    [
        ({"old": Renamed("openai_voice", "1.3.0")}, None),
        ({"old": Renamed("openai_voice", "1.2.0")}, "its time is over"),
        ({"old": Renamed("openai_voice", "soon")}, "is no release"),
        ({"old": Renamed("openai_vioce", "1.3.0")}, "must be one"),
        ({"openai_model": Renamed("openai_voice", "1.3.0")}, "must be no setting"),
    ],
)
def test_wrong_table_is_found(table: dict[str, Renamed], wrong: str | None) -> None:
    found = problems(table, "1.2.0")
    assert len(found) == (wrong is not None)
    assert wrong is None or wrong in found[0]
