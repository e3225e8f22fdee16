"""The values, files and names in the chart's README exist."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.helm.release import CHART, render, walk

NOT_VALUES = {"appVersion", "asFile"}
HOME = "https://github.com/avr-sts-openai/avr-sts-openai"
README = (CHART / "README.md").read_text("utf-8")


@pytest.mark.parametrize("snippet", re.findall(r"```yaml\n(.*?)```", README, re.DOTALL))
def test_values_in_the_readme_render(snippet: str) -> None:
    assert render(yaml.safe_load(snippet)).objects


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_linked_files_of_the_readme_exist(link: str) -> None:
    assert (CHART / link).is_file()


def test_links_work_where_only_the_chart_is() -> None:
    """Artifact Hub shows the README without the files around the chart."""
    assert not re.findall(r"\]\(\.\./[^)]*\)", README)


@pytest.mark.parametrize("path", sorted(set(re.findall(rf"\]\({HOME}/blob/main/([^)#]+)", README))))
def test_linked_files_of_the_project_exist(path: str) -> None:
    assert (CHART.parent / path).is_file()


@pytest.mark.parametrize(
    "name", sorted(set(re.findall(r"`\.?((?:[a-z]\w*\.)*[a-z]\w*[A-Z]\w*)(?:: [^`]+)?`", README)))
)
def test_named_values_of_the_readme_exist(name: str) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    paths = {".".join(["", *map(str, path)]) for path, _ in walk(values)}
    # The README may leave out the first parts of a name under a heading.
    assert any(path.endswith(f".{name}") for path in paths) or name in NOT_VALUES
