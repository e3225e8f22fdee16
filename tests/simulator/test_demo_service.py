from __future__ import annotations

import pytest

from common.settings.fields import SECRETS
from common.settings.renamed import RENAMED, Renamed
from common.settings.settings import Settings
from simulator.demo_service import without_settings


@pytest.mark.parametrize(
    "name", [*Settings.model_fields, *(f"{name}_file" for name in SECRETS), "otel_exporter_x"]
)
def test_demo_inherits_no_setting(name: str) -> None:
    assert without_settings({name: "x", name.upper(): "x", name.title(): "x"}) == {}


@pytest.mark.parametrize("name", ["PATH", "HOME", "PYTHONPATH", "TMPDIR", "LANG", "SSL_CERT_FILE", "SHOP_URL"])
def test_demo_inherits_all_else(name: str) -> None:
    assert without_settings({name: "x"}) == {name: "x"}


def test_demo_inherits_no_setting_under_its_old_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.settings.renamed.RENAMED", {**RENAMED, "old_url": Renamed("ami_url", "9.9")})
    assert without_settings({"OLD_URL": "x"}) == {}
