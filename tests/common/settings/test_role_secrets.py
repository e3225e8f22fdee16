from __future__ import annotations

from pathlib import Path

import pytest

from common.settings import role_secrets
from common.settings.roles import Role
from common.settings.settings import Settings
from tests.common.secrets_of_roles import OF_DISPATCHERS, OF_WORKERS, WRITTEN


def test_every_secret_setting_has_its_readers() -> None:
    """Settings that are not shown, or whose name says so."""
    secret = {
        name
        for name, field in Settings.model_fields.items()
        if not field.repr or "Secret" in str(field.annotation) or name.endswith(("_key", "_token", "_secret"))
    }
    # The name of a metadata entry.
    assert role_secrets.READERS.keys() == secret - {"tenant_key"}


@pytest.mark.parametrize(("role", "others"), [("dispatcher", OF_WORKERS), ("worker", OF_DISPATCHERS)])
def test_a_role_ignores_another_roles_secrets_in_the_env_file(
    role: str, others: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("".join(f"{name}='{value}'\n" for name, value in WRITTEN.items()))
    settings = Settings.load(Role(role))
    unset = Settings()
    assert {name: getattr(settings, name.lower()) for name in others} == {
        name: getattr(unset, name.lower()) for name in others
    }
    for name in WRITTEN.keys() - others:
        assert getattr(settings, name.lower()) != getattr(unset, name.lower()), name
