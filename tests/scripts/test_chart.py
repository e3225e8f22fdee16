"""The chart's copies agree with the code and with grafana/."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from pydantic import SecretStr

from common.settings.settings import Settings
from scripts.chart import (
    OF_SERVE,
    REPOSITORY,
    SCHEMA,
    SECRETS,
    SET_BY_THE_CHART,
    VALUES,
    out_of_date,
    settings_of_the_chart,
    write,
)


def test_chart_has_the_current_settings_dashboards_and_rules() -> None:
    assert out_of_date() == [], "run: python -m scripts.chart"


def test_every_setting_is_for_people_or_for_the_chart() -> None:
    names = {name.upper() for name in Settings.model_fields}
    assert settings_of_the_chart().keys() >= names - SET_BY_THE_CHART - OF_SERVE
    assert not settings_of_the_chart().keys() & (SET_BY_THE_CHART | OF_SERVE)


def test_no_secret_can_be_written_into_values() -> None:
    hidden = {
        name.upper() for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)
    }
    assert SecretStr.__name__ in str(Settings.model_fields["openai_api_key"].annotation)
    assert hidden <= SECRETS
    properties = json.loads(SCHEMA.read_text("utf-8"))["properties"]
    assert not properties["config"]["properties"].keys() & (SECRETS | {"REDIS_URL"})
    assert properties["configFromSecrets"]["properties"].keys() >= SECRETS | {"REDIS_URL"}


@pytest.mark.parametrize(
    ("name", "types"),
    [
        ("OPENAI_SPEED", ["null", "number", "string"]),
        ("OPENAI_MAX_TOKENS", ["integer", "null", "string"]),
        ("OPENAI_MCP_SERVERS", ["array", "null", "string"]),
        ("OPENAI_VOICE", ["null", "string"]),
        ("PRICES_FILE", ["null", "string"]),
        ("OPENAI_WELCOME_INTERRUPTIBLE", ["boolean", "null", "string"]),
    ],
)
def test_setting_accepts_yaml_values_of_its_type(name: str, types: list[str]) -> None:
    assert settings_of_the_chart()[name]["type"] == types


def test_a_setting_with_choices_takes_these() -> None:
    assert settings_of_the_chart()["LOG_FORMAT"]["enum"] == ["json", "console", None]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return the relevant parts of a repository, with a dashboard."""
    (tmp_path / "helm").mkdir()
    shutil.copy(SCHEMA, tmp_path / "helm")
    shutil.copy(VALUES, tmp_path / "helm")
    for file, text in (("fleet.json", "{}"), ("cost.json", "{}"), ("README", "")):
        (tmp_path / "grafana/dashboards").mkdir(parents=True, exist_ok=True)
        (tmp_path / "grafana/dashboards" / file).write_text(text, "utf-8")
    return tmp_path


def test_missing_file_is_found_and_written(repository: Path) -> None:
    assert [str(path) for path in out_of_date(repository)] == [
        "helm/files/dashboards/cost.json",
        "helm/files/dashboards/fleet.json",
        "helm/files/rules/alerts.yaml",
        "helm/files/rules/recording.yaml",
    ]
    write(repository)
    assert out_of_date(repository) == []
    assert (repository / "helm/files/dashboards/fleet.json").read_text("utf-8") == "{}"


def test_changed_and_removed_files_are_found_and_mended(repository: Path) -> None:
    write(repository)
    (repository / "grafana/dashboards/fleet.json").write_text('{"title": "Fleet"}', "utf-8")
    (repository / "grafana/dashboards/cost.json").unlink()
    (repository / "helm/files/rules/alerts.yaml").write_text("groups: []\n", "utf-8")
    (repository / "helm/files/rules/former.yaml").write_text("groups: []\n", "utf-8")
    assert len(out_of_date(repository)) == 4
    write(repository)
    assert out_of_date(repository) == []
    assert not (repository / "helm/files/dashboards/cost.json").exists()
    assert not (repository / "helm/files/rules/former.yaml").exists()
    assert "@scope@" in (repository / "helm/files/rules/alerts.yaml").read_text("utf-8")


def test_value_that_may_be_null_from_now_on_changes_the_schema(repository: Path) -> None:
    write(repository)
    file = repository / VALUES.relative_to(REPOSITORY)
    file.write_text(file.read_text("utf-8").replace('fullnameOverride: ""', "fullnameOverride: null"), "utf-8")
    assert out_of_date(repository) == [SCHEMA.relative_to(REPOSITORY)]
    assert "fullnameOverride" in json.loads(SCHEMA.read_text("utf-8"))["required"]


def test_setting_unknown_to_the_code_is_found(repository: Path) -> None:
    file = repository / SCHEMA.relative_to(REPOSITORY)
    file.write_text(file.read_text("utf-8").replace("OPENAI_VOICE", "OPENAI_VOICES"), "utf-8")
    assert Path("helm/values.schema.json") in out_of_date(repository)
