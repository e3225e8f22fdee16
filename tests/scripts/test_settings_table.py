from __future__ import annotations

import re

import pytest

from common.settings.settings import Settings
from scripts.settings_table import README, table, updated


def test_the_readme_has_the_settings_of_the_code() -> None:
    readme = README.read_text("utf-8")
    assert updated(readme) == readme, "run: python -m scripts.settings_table"


def test_the_table_has_a_row_with_a_meaning_for_every_variable() -> None:
    rows = table().splitlines()[2:]
    assert len(rows) == len(Settings.model_fields)
    for row, name in zip(rows, Settings.model_fields, strict=True):
        variable, _, meaning = (cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip("|")))
        assert variable == f"`{name.upper()}`"
        assert meaning


def test_values_are_shown_and_stars_escaped() -> None:
    assert "| `OPENAI_WELCOME_INTERRUPTIBLE` | `true` |" in table()
    assert "| `OPENAI_AUDIO_FORMAT` | `pcm` |" in table()
    assert r"\*-realtime-preview\*" in table()


def test_a_readme_without_a_place_for_it_is_refused() -> None:
    with pytest.raises(ValueError, match="no place"):
        updated("# Something else\n")
