"""The check of the settings: a finding for each wrong value, misspelt name and setting without effect."""

from __future__ import annotations

import pytest

from common.check import settings_check
from common.check.finding import State
from common.errors import SettingsError
from common.settings.roles import Role
from common.settings.settings import Settings

RIGHT = {"OPENAI_API_KEY": "sk-test-0123456789abcdef"}


def wrong(**variables: str) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        Settings.parse(RIGHT | variables, Role.SERVE)
    return caught.value


def test_each_wrong_setting_has_a_finding_rest_is_skipped() -> None:
    *found, rest = settings_check.of_wrong(wrong(PORT="70000", TLS_CERT="/nowhere.pem", TLS_KEY="/nowhere.key"))
    assert {(each.name, each.state) for each in found} == {("settings", State.FAIL)}
    assert {each.value for each in found} >= {"PORT"}
    port = next(each for each in found if each.value == "PORT")
    assert "70000" in port.what
    assert port.todo == "correct it in the environment or in .env"
    assert rest.state is State.SKIPPED


def test_missing_key_that_is_misspelt_is_a_rename() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.parse({"OPENAI_API_KYE": "sk-test-0123456789abcdef"}, Role.SERVE)
    found = settings_check.of_wrong(caught.value)
    assert "set it in the environment or in .env" in [each.todo for each in found]
    assert "rename it to OPENAI_API_KEY" in [each.todo for each in found]
    assert "0123456789" not in repr(found)


def test_notice_is_a_warning_with_the_variable() -> None:
    settings = Settings.parse(RIGHT | {"OPENAI_VOCE": "marin", "OPENAI_SPEED": "9"}, Role.SERVE)
    found = {each.value: each for each in settings_check.of_right(settings)}
    assert {each.state for each in found.values()} == {State.WARN}
    assert found["OPENAI_VOCE"].todo == "rename it to OPENAI_VOICE"
    assert "is used instead" in found["OPENAI_SPEED"].what


def test_right_settings_are_one_finding() -> None:
    (found,) = settings_check.of_right(Settings.parse(RIGHT, Role.SERVE))
    assert found.state is State.OK
