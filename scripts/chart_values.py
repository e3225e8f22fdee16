"""Write the table of values in the chart's README from values.yaml: `python -m scripts.chart_values`.

The description of a value is the comment above it. Artifact Hub shows the README on the page of the chart.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

from scripts import written_part
from scripts.chart import CHART, SCHEMA, VALUES

README: Final = CHART / "README.md"
BEGIN: Final = "<!-- values: written by python -m scripts.chart_values -->"
END: Final = "<!-- end of values -->"

USUAL: Final = {
    "affinity": "Affinity of the pods.",
    "alertAnnotations": "Annotations of every alert.",
    "annotations": "Annotations of the object.",
    "containerSpec": "Fields of Kubernetes that are merged over the main container.",
    "deploymentAnnotations": "Annotations of the Deployment. A change restarts no pod.",
    "deploymentLabels": "Labels of the Deployment. A change restarts no pod.",
    "enabled": "true: create the object.",
    "envFrom": "ConfigMaps and Secrets whose entries become variables of the container.",
    "extraContainers": "Containers beside that of the chart.",
    "extraEnv": "Further variables of the container.",
    "extraInitContainers": "Init containers that run before those of the chart.",
    "extraVolumeMounts": "Further mounts of the container.",
    "extraVolumes": "Further volumes of the pods.",
    "imagePullSecrets": "Secrets for the registry: `[{name: ...}]`.",
    "labels": "Labels of the object.",
    "livenessProbe": "The container is restarted if this probe fails. null: no probe.",
    "maxReplicas": "Maximum number of pods.",
    "maxUnavailable": "Number or share of pods that may be missing at a time.",
    "maxSurge": "Number or share of additional pods during a rollout.",
    "minReplicas": "Minimum number of pods.",
    "nodeSelector": "Labels of the nodes for the pods.",
    "podAnnotations": "Annotations of the pods.",
    "podLabels": "Labels of the pods.",
    "podSpec": "Fields of Kubernetes that are merged over the pod.",
    "priorityClassName": "PriorityClass of the pods.",
    "pullPolicy": "Always, IfNotPresent or Never.",
    "readinessProbe": "The pod gets no new calls while this probe fails. null: no probe.",
    "resources": "Requests and limits of the container.",
    "startupProbe": "The time that the container has to start. null: no probe.",
    "tolerations": "Taints that the pods tolerate.",
    "topologySpreadConstraints": "null: spread pods over zones and nodes as far as possible.",
}
"""Descriptions of values with Kubernetes' own names, unless values.yaml has a comment."""

_KEY: Final = re.compile(r"^( *)([A-Za-z]\w*):")
_COMMENT: Final = re.compile(r"^ *# ?(.*)$")


@dataclass(frozen=True, slots=True)
class Row:
    """A value of the chart.

    Attributes:
        path: the names from the top, with dots.
        default: the value in values.yaml.
        meaning: the description; empty if there is none.
    """

    path: str
    default: object
    meaning: str


def rows() -> list[Row]:
    """Return all values, in the order of values.yaml."""
    text = VALUES.read_text("utf-8")
    comments = _comments(text)
    properties = json.loads(SCHEMA.read_text("utf-8"))
    return [
        Row(path, default, comments[path] or USUAL.get(path.rpartition(".")[2], ""))
        for path, default in _values(yaml.safe_load(text), properties)
    ]


def table() -> str:
    """Return the table as Markdown."""
    lines = [f"| `{row.path}` | `{_shown(row.default)}` | {row.meaning.replace('|', '/')} |" for row in rows()]
    return "\n".join(["| Key | Default | Description |", "| --- | --- | --- |", *lines])


def updated(readme: str) -> str:
    """Return the README with a current table.

    Raises:
        ValueError: the README has no place for the table.
    """
    return written_part.replaced(readme, BEGIN, END, table())


def _values(values: dict[str, Any], part: dict[str, Any], path: str = "") -> Iterator[tuple[str, object]]:
    """Yield the values whose names the schema lists; maps with other names count as one value."""
    for name, value in values.items():
        inner = part["properties"][name]
        # Settings have a table in the project's README.
        if (
            value
            and isinstance(value, dict)
            and "properties" in inner
            and name not in {"config", "configFromSecrets"}
        ):
            yield from _values(value, inner, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _comments(text: str) -> dict[str, str]:
    """Return the comment above each key, by its path."""
    found: dict[str, str] = {}
    names: list[tuple[int, str]] = []
    above: list[str] = []
    for line in text.splitlines():
        if comment := _COMMENT.match(line):
            above.append(comment[1])
            continue
        if key := _KEY.match(line):
            names = [*(each for each in names if each[0] < len(key[1])), (len(key[1]), key[2])]
            found[".".join(name for _, name in names)] = _prose(above)
        above = []
    return found


def _prose(lines: list[str]) -> str:
    """Return comment lines as one line; indented lines are examples."""
    return " ".join(f"`{line.strip()}`" if line.startswith("  ") else line for line in lines)


def _shown(default: object) -> str:
    return json.dumps(default).replace("|", "\\|")


if __name__ == "__main__":
    current = README.read_text("utf-8")
    if "--check" in sys.argv:
        sys.exit(0 if updated(current) == current else "helm/README.md: the values are out of date")
    README.write_text(updated(current), "utf-8")
