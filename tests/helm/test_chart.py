"""Chart.yaml, as Artifact Hub reads it (artifacthub.io/docs/topics/annotations/helm)."""

from __future__ import annotations

import tomllib
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from tests.helm.release import CHART, REPOSITORY, Object, render

METADATA: Object = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
HOME: str = PROJECT["urls"]["Homepage"]
CATEGORIES = {
    *("ai-machine-learning", "database", "integration-delivery", "monitoring-logging", "networking", "security"),
    *("storage", "streaming-messaging", "skip-prediction"),
}


def annotation(name: str) -> Any:
    """Return an annotation of Artifact Hub, whose text may be YAML."""
    text = METADATA["annotations"][f"artifacthub.io/{name}"]
    assert isinstance(text, str)
    return yaml.safe_load(text)


def test_annotations_are_those_of_artifact_hub() -> None:
    known = {
        "category",
        "changes",
        "containsSecurityUpdates",
        "images",
        "license",
        "links",
        "operator",
        "prerelease",
    }
    assert METADATA["annotations"].keys() == {f"artifacthub.io/{name}" for name in known}
    assert annotation("license") == PROJECT["license"]
    assert annotation("category") in CATEGORIES
    assert annotation("operator") is False
    assert not list(CHART.glob("crds/*")), "artifacthub.io/crds would have to list these"


def test_changes_have_kinds_and_sentences() -> None:
    kinds = {"added", "changed", "deprecated", "removed", "fixed", "security"}
    changes = annotation("changes")
    assert changes
    for change in changes:
        assert change.keys() <= {"kind", "description", "links"}
        assert change["kind"] in kinds
    security = any(change["kind"] == "security" for change in changes)
    assert annotation("containsSecurityUpdates") is security


def test_links_are_the_projects() -> None:
    links = {each["name"]: each["url"] for each in annotation("links")}
    assert links["support"] == PROJECT["urls"]["Issues"]
    for url in links.values():
        assert url.startswith(HOME)
        path = url.partition("/blob/main/")[2]
        assert not path or (REPOSITORY / path).is_file()


def test_images_are_those_of_the_default_values() -> None:
    images = {each["image"]: each for each in annotation("images")}
    rendered = {
        container["image"].removeprefix("docker.io/library/")
        for role in ("dispatcher", "worker", "redis")
        for container in render().pod(role)["containers"]
    }
    assert images.keys() == rendered
    # Artifact Hub scans what it can pull, and no registry has the placeholder.
    assert [each["image"] for each in images.values() if each.get("whitelisted")] == [
        f"avr-sts-openai:{METADATA['appVersion']}"
    ]
    for each in images.values():
        assert {"linux/amd64"} <= set(each["platforms"])


def test_chart_names_people_sources_and_kubernetes() -> None:
    assert METADATA["home"] == HOME
    assert METADATA["sources"] == [HOME]
    assert METADATA["kubeVersion"].startswith(">=")
    assert METADATA["keywords"]
    for maintainer in METADATA["maintainers"]:
        assert maintainer["name"]
        assert maintainer["url"].startswith("https://")


def test_icon_is_a_picture_of_the_chart() -> None:
    prefix, _, path = METADATA["icon"].partition("/raw/main/")
    assert prefix == HOME
    picture = ElementTree.parse(REPOSITORY / path).getroot()  # noqa: S314 - our own file
    assert picture.tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize("name", [file.stem for file in (CHART / "examples").glob("*.yaml")])
def test_readme_names_each_example(name: str) -> None:
    assert f"(examples/{name}.yaml)" in (CHART / "README.md").read_text("utf-8")
