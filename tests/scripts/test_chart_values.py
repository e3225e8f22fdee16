"""The table of values in the chart's README agrees with values.yaml."""

from __future__ import annotations

import pytest

from scripts.chart_values import README, Row, rows, updated


def test_table_of_values_is_current() -> None:
    text = README.read_text("utf-8")
    assert updated(text) == text, "run: python -m scripts.chart_values"


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.path)
def test_each_value_has_a_description(row: Row) -> None:
    assert row.meaning, f"write a comment above {row.path} in values.yaml"
    assert row.meaning.count("`") % 2 == 0


def test_table_has_nested_values_and_whole_maps() -> None:
    found = {row.path: row for row in rows()}
    assert found["dispatcher.service.port"].default == 6030
    assert found["worker.resources"].default == {
        "requests": {"cpu": "500m", "memory": "256Mi"},
        "limits": {"memory": "1Gi"},
    }
    assert "dispatcher" not in found
    assert found["configFromSecrets"].meaning


def test_readme_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no place"):
        updated("# The chart\n")
