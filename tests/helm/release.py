"""A release of the chart: what Helm's own engine makes of some values."""

from __future__ import annotations

import copy
import functools
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import helm_python
import yaml

from common.settings.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]
CHART = REPOSITORY / "helm"
NAME = "demo"
NAMESPACE = "telephony"
FULLNAME = "demo-avr-sts-openai"

A_SECRET = "what-a-secret-holds-" * 3

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast

Object = dict[str, Any]
"""A Kubernetes object, or a part of one."""


@dataclass(frozen=True)
class Release:
    """What would be installed, and what the person who installs it reads.

    Attributes:
        objects: in no particular order.
        notes: the text of NOTES.txt.
    """

    objects: tuple[Object, ...]
    notes: str

    def of_kind(self, kind: str) -> list[Object]:
        """All objects of a kind."""
        return [each for each in self.objects if each["kind"] == kind]

    def get(self, kind: str, suffix: str = "") -> Object:
        """The object with the release's full name and `suffix`."""
        name = f"{FULLNAME}-{suffix}" if suffix else FULLNAME
        found = [each for each in self.of_kind(kind) if each["metadata"]["name"] == name]
        assert len(found) == 1, f"{len(found)} of {kind} {name}"
        return found[0]

    def pod(self, role: str) -> Object:
        """The pod template's spec of a role's Deployment."""
        return cast("Object", self.get("Deployment", role)["spec"]["template"]["spec"])

    def container(self, role: str) -> Object:
        """The container of a role that does its work."""
        (container,) = self.pod(role)["containers"]
        return cast("Object", container)

    def env(self, role: str) -> dict[str, Object]:
        """The variables of a role's container, by name: `{"value": ...}` or `{"valueFrom": ...}`."""
        entries = {each["name"]: {key: each[key] for key in each if key != "name"} for each in self._entries(role)}
        assert len(entries) == len(self._entries(role)), "a variable is there twice"
        return entries

    def text(self, role: str, name: str) -> str:
        """A variable's value as the process sees it: Kubernetes makes `$` of `$$`."""
        value = self.env(role)[name]["value"]
        assert isinstance(value, str)
        return value.replace("$$", "$")

    def variables(self, role: str) -> dict[str, str]:
        """The settings that a role's process reads, without those that name mounted files."""
        of_the_cluster = {"REDIS_URL": "redis://of.the.secret/0", "WORKER_ADDRESS": "10.0.0.7"}
        mounted = ("TLS_", "CLUSTER_TLS_", "OPENAI_FILE_INSTRUCTIONS")
        return {
            name: self.text(role, name) if "value" in each else of_the_cluster.get(name, A_SECRET)
            for name, each in self.env(role).items()
            if name.lower() in Settings.model_fields and not name.startswith(mounted)
        }

    def _entries(self, role: str) -> list[Object]:
        return cast("list[Object]", self.container(role)["env"])


def rendered_text(
    values: dict[str, Any] | None = None, *, chart: Path = CHART, name: str = NAME, **options: Any
) -> dict[str, str]:
    """What the templates of the chart become, by their paths.

    Raises:
        helm_python.HelmValuesError: the values' schema refuses them.
        helm_python.HelmRenderError: a template does.
    """
    with helm_python.Chart.load(chart) as loaded:
        rendered: dict[str, str] = loaded.render(values or {}, name=name, namespace=NAMESPACE, **options)
        return rendered


def render(
    values: dict[str, Any] | None = None, *, chart: Path = CHART, name: str = NAME, **options: Any
) -> Release:
    """Renders the chart, once for the same values: who changes the objects works on a copy.

    Raises as `rendered_text` does.
    """
    return _render(json.dumps(values or {}), chart, name, json.dumps(options))


@functools.cache
def _render(values: str, chart: Path, name: str, options: str) -> Release:
    rendered = rendered_text(json.loads(values), chart=chart, name=name, **json.loads(options))
    notes = next(text for path, text in rendered.items() if path.endswith("NOTES.txt"))
    documents = (
        document
        for path, text in rendered.items()
        if not path.endswith("NOTES.txt")
        for document in yaml.load_all(text, _Loader)
    )
    return Release(tuple(each for each in documents if each), notes)


def copy_of_chart(folder: Path, **chart_yaml: str) -> Path:
    """A copy of the chart in `folder`, with other fields in its Chart.yaml."""
    copied = folder / "helm"
    shutil.copytree(CHART, copied)
    file = copied / "Chart.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text("utf-8")), **chart_yaml}), "utf-8")
    return copied


def merged(*values: dict[str, Any]) -> dict[str, Any]:
    """Values over values, as Helm lays one file over another."""
    result: dict[str, Any] = {}
    for each in values:
        for key, value in each.items():
            known = result.get(key)
            both = isinstance(value, dict) and isinstance(known, dict)
            result[key] = merged(cast("dict[str, Any]", known), value) if both else copy.deepcopy(value)
    return result


def example(name: str) -> dict[str, Any]:
    """The values of `helm/examples/NAME.yaml`."""
    values: dict[str, Any] = yaml.safe_load((CHART / "examples" / f"{name}.yaml").read_text("utf-8"))
    return values


def schema() -> dict[str, Any]:
    """The schema of the values."""
    loaded: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    return loaded


def walk(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every value within, with the keys and indices that lead to it."""
    yield path, value
    if isinstance(value, dict):
        for key, each in value.items():
            yield from walk(each, (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from walk(each, (*path, index))
