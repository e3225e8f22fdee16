"""`docs/settings.md` and the README's short list are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from common.settings.fallbacks import HARMLESS
from common.settings.fields import SECRETS
from common.settings.settings import Settings
from scripts.settings_table import FIRST_HOUR, GROUPS, PAGE, README, page_part, reader, short_list, updated

ROWS = {
    cells[0].strip("`").lower(): cells
    for line in page_part().splitlines()
    if line.startswith("| `")
    for cells in [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]]
}


@pytest.mark.parametrize(("file", "part"), [(PAGE, page_part()), (README, short_list())], ids=["page", "README"])
def test_document_has_the_settings_of_the_code(file: Path, part: str) -> None:
    text = file.read_text("utf-8")
    assert updated(text, part) == text, "run: python -m scripts.settings_table"


def test_each_setting_is_in_one_group() -> None:
    grouped = [name for names in GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(Settings.model_fields)
    assert ROWS.keys() == Settings.model_fields.keys()


@pytest.mark.parametrize("name", Settings.model_fields)
def test_row_has_values_reader_and_meaning(name: str) -> None:
    _, values, _, read_by, effect, meaning = ROWS[name]
    assert values
    assert "must" not in values
    assert meaning
    assert read_by == reader(name)
    assert read_by in {"dispatcher", "worker", "serve", "all"}
    assert (effect == "replaced") == (name in HARMLESS)


@pytest.mark.parametrize(
    ("name", "values", "default", "read_by", "effect"),
    [
        ("port", "0 to 65,535, whole", "`6030`", "dispatcher", "stops the start"),
        ("openai_api_key", "secret", "required", "worker", "stops the start"),
        ("openai_speed", "0.25 to 1.5", "", "worker", "replaced"),
        ("openai_max_tokens", "1 to 4,096, whole, or inf", "`inf`", "worker", "replaced"),
        ("openai_instructions", "text", "", "worker", ""),
        ("openai_session", "JSON object", "", "worker", "stops the start"),
        ("max_call_seconds", "1 to 86,400, or off", "", "worker", "stops the start"),
        ("recordings_keep_seconds", "0 to 315,360,000", "`2592000`", "dispatcher", "stops the start"),
        ("fallback_wav", "path, builtin or none", "`builtin`", "dispatcher", "stops the start"),
        ("tools_dir", "path", "`tools`", "worker", "warning"),
        ("call_records_metadata", "names of at most 64 characters, with commas between them", "`from,to`",
         "dispatcher", "stops the start"),
        ("redis_url", "redis://host:port/db, rediss://host:port/db, unix:///path or "
         "redis+sentinel://host:port,host:port/service/db (rediss+sentinel: with TLS)",
         "", "all", "stops the start"),
        ("tls_cert", "path", "", "dispatcher", "stops the start"),
        ("no_proxy", "text", "", "worker", ""),
        ("workers", "1 to 256, whole", "", "serve", "stops the start"),
        ("log_format", "one of json, console", "", "all", "stops the start"),
    ],
)  # fmt: skip
def test_row_says_what_the_code_does(name: str, values: str, default: str, read_by: str, effect: str) -> None:
    assert ROWS[name][1:5] == [values, default, read_by, effect]


def test_stars_are_escaped() -> None:
    assert r"\*-realtime-preview\*" in page_part()


def test_page_names_the_variables_that_may_be_in_files() -> None:
    part = PAGE.read_text("utf-8").partition("These variables have a `_FILE`:")[2].partition("\nEach process")[0]
    assert set(re.findall(r"`([A-Z_]+)`", part)) == {name.upper() for name in SECRETS}


def test_short_list_is_short_and_has_what_is_needed() -> None:
    assert {"openai_api_key", "openai_instructions", "redis_url"} <= set(FIRST_HOUR)
    assert len(FIRST_HOUR) < 16


def test_document_without_a_place_for_it_is_refused() -> None:
    with pytest.raises(ValueError, match="no place"):
        updated("# Something else\n", short_list())
