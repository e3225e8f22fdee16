"""`docs/releases.md`: the table of what works with what agrees with the code, and commands and files exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import yaml

from common.link import wire
from common.runtime.release import RELEASE
from common.store.keys import KEY_PREFIX
from tests.docs.blocks import REPOSITORY, document

TEXT: Final = document("releases.md")
PYPROJECT: Final[dict[str, Any]] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
COLUMNS: Final = ("protocol", "understands", "keys", "python", "redis", "kubernetes", "core")


def _rows() -> dict[str, dict[str, str]]:
    """Return the rows of the first table, by release."""
    rows = re.findall(r"^\| (\d+\.\d+) \| (.*) \|$", TEXT.partition("\n## Upgrade")[0], re.MULTILINE)
    return {release: dict(zip(COLUMNS, cells.split(" | "), strict=True)) for release, cells in rows}


def _minor(release: str) -> str:
    return release.rpartition(".")[0]


def test_row_of_this_release_has_the_values_of_the_code() -> None:
    row = _rows()[_minor(RELEASE)]
    assert int(row["protocol"]) == wire.PROTOCOL_VERSION
    understood = sorted({wire.OLDEST_PROTOCOL_VERSION, wire.PROTOCOL_VERSION})
    assert row["understands"] == " and ".join(map(str, understood))
    assert row["keys"] == f"`{KEY_PREFIX}`"


def test_row_of_the_previous_release_has_its_protocol() -> None:
    previous = PYPROJECT["tool"]["avr-sts"]["previous-release"]
    row = _rows()[_minor(previous["version"])]
    assert int(row["protocol"]) == previous["protocol"]
    shares = previous["protocol"] >= wire.OLDEST_PROTOCOL_VERSION
    assert (row["keys"] == _rows()[_minor(RELEASE)]["keys"]) is shares


def test_pythons_are_those_of_the_classifiers() -> None:
    named = re.findall(r"Python :: (3\.\d+)", " ".join(PYPROJECT["project"]["classifiers"]))
    assert _rows()[_minor(RELEASE)]["python"] == f"{named[0]} to {named[-1]}"


def test_kubernetes_is_that_of_the_chart() -> None:
    chart = yaml.safe_load((REPOSITORY / "helm" / "Chart.yaml").read_text("utf-8"))
    oldest = re.fullmatch(r">=(\d+\.\d+)\.0-0", chart["kubeVersion"])
    assert oldest is not None
    assert _rows()[_minor(RELEASE)]["kubernetes"] == f"{oldest[1]} or newer"


def test_newest_redis_is_that_of_compose() -> None:
    compose = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text("utf-8"))
    version = compose["services"]["redis"]["image"].removeprefix("redis:").removesuffix("-alpine")
    newest = _rows()[_minor(RELEASE)]["redis"].split(" to ")[1]
    assert _minor(version) == newest
    assert version in TEXT


def test_document_says_that_the_workflows_have_never_run() -> None:
    assert "**These workflows have never run.**" in TEXT
    assert "release.yml" in {path.name for path in (REPOSITORY / ".github" / "workflows").iterdir()}


def test_every_named_file_exists() -> None:
    named = re.findall(r"`((?:tests|common|\.github|helm)/[\w./-]+)`", TEXT)
    assert named
    assert [name for name in named if not (REPOSITORY / name).exists()] == []


def test_identity_of_a_signature_is_the_release_workflow() -> None:
    (identity,) = re.findall(r"--certificate-identity (\S+)", TEXT)
    assert Path(identity.partition("@")[0]).name == "release.yml"
    assert identity.endswith("@refs/tags/vVERSION")
