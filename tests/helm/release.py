"""Render a release of the chart with Helm's own engine."""

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

from common.settings.fields import SECRETS
from common.settings.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]
CHART = REPOSITORY / "helm"
NAME = "demo"
NAMESPACE = "telephony"
FULLNAME = "demo-avr-sts-openai"

A_SECRET = "what-a-secret-holds-" * 3


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the C one is ten times faster
    """A loader that refuses a key twice, as the API server and some of Helm's post-renderers do."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a map of a node.

        Raises:
            yaml.constructor.ConstructorError: a key is there twice.
        """
        known: set[str] = set()
        for key, _ in node.value:
            if key.value in known:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is there twice", key.start_mark)
            known.add(key.value)
        return cast("dict[Any, Any]", super().construct_mapping(node, deep))


Object = dict[str, Any]
"""A Kubernetes object, or a part of one."""


@dataclass(frozen=True)
class Release:
    """A rendered release.

    Attributes:
        objects: the objects to install, in no particular order.
        notes: the text of NOTES.txt.
    """

    objects: tuple[Object, ...]
    notes: str

    def of_kind(self, kind: str) -> list[Object]:
        """Return all objects of a kind."""
        return [each for each in self.objects if each["kind"] == kind]

    def get(self, kind: str, suffix: str = "") -> Object:
        """Return the object whose name is the release's full name with `suffix`."""
        name = f"{FULLNAME}-{suffix}" if suffix else FULLNAME
        found = [each for each in self.of_kind(kind) if each["metadata"]["name"] == name]
        assert len(found) == 1, f"{len(found)} of {kind} {name}"
        return found[0]

    def pod(self, role: str) -> Object:
        """Return the spec of the pod template in a role's Deployment."""
        return cast("Object", self.get("Deployment", role)["spec"]["template"]["spec"])

    def container(self, role: str) -> Object:
        """Return the main container of a role."""
        (container,) = (each for each in self.pod(role)["containers"] if each["name"] == role)
        return cast("Object", container)

    def env(self, role: str) -> dict[str, Object]:
        """Return the variables of a role's container, by name: `{"value": ...}` or `{"valueFrom": ...}`."""
        entries = {each["name"]: {key: each[key] for key in each if key != "name"} for each in self._entries(role)}
        assert len(entries) == len(self._entries(role)), "a variable is there twice"
        return entries

    def text(self, role: str, name: str) -> str:
        """Return a variable's value as the process sees it, because Kubernetes turns `$$` into `$`."""
        value = self.env(role)[name]["value"]
        assert isinstance(value, str)
        return value.replace("$$", "$")

    def variables(self, role: str) -> dict[str, str]:
        """Return the settings that a role's process reads, without those that name mounted files."""
        of_the_cluster = {
            "REDIS_URL": "redis://of.the.secret/0",
            "CALL_RECORDS_REDIS_URL": "redis://of.the.secret/1",
            "CALL_RECORDS_WEBHOOK": "https://of.the.secret/records",
            "AMI_URL": "https://of.the.secret",
            "WORKER_ADDRESS": "10.0.0.7",
        }
        mounted = ("TLS_", "CLUSTER_TLS_", "OPENAI_FILE_INSTRUCTIONS")
        in_files = (name.removesuffix("_FILE") for name in self.env(role) if name.endswith("_FILE"))
        return {
            **{name: of_the_cluster.get(name, A_SECRET) for name in in_files if name.lower() in SECRETS},
            **self._plain_variables(role, of_the_cluster, mounted),
        }

    def _plain_variables(
        self, role: str, of_the_cluster: dict[str, str], mounted: tuple[str, ...]
    ) -> dict[str, str]:
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
    """Return the rendered templates of the chart, by path.

    Raises:
        helm_python.HelmValuesError: the schema refuses the values.
        helm_python.HelmRenderError: a template refuses the values.
    """
    with helm_python.Chart.load(chart) as loaded:
        rendered: dict[str, str] = loaded.render(values or {}, name=name, namespace=NAMESPACE, **options)
        return rendered


def render(
    values: dict[str, Any] | None = None, *, chart: Path = CHART, name: str = NAME, **options: Any
) -> Release:
    """Render the chart, once for the same values. Callers that change the objects must copy these.

    Raises the exceptions of `rendered_text`.
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


def load(text: str) -> Object:
    """Return a document.

    Raises:
        yaml.constructor.ConstructorError: a key is there twice.
    """
    (document,) = yaml.load_all(text, _Loader)
    return cast("Object", document)


def copy_of_chart(folder: Path, **chart_yaml: str) -> Path:
    """Copy the chart to `folder`, with other fields in its Chart.yaml."""
    copied = folder / "helm"
    shutil.copytree(CHART, copied)
    file = copied / "Chart.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text("utf-8")), **chart_yaml}), "utf-8")
    return copied


def merged(*values: dict[str, Any]) -> dict[str, Any]:
    """Merge values over values, as Helm merges one file over another."""
    result: dict[str, Any] = {}
    for each in values:
        for key, value in each.items():
            known = result.get(key)
            both = isinstance(value, dict) and isinstance(known, dict)
            result[key] = merged(cast("dict[str, Any]", known), value) if both else copy.deepcopy(value)
    return result


def example(name: str) -> dict[str, Any]:
    """Return the values of `helm/examples/NAME.yaml`."""
    values: dict[str, Any] = yaml.safe_load((CHART / "examples" / f"{name}.yaml").read_text("utf-8"))
    return values


def schema() -> dict[str, Any]:
    """Return the schema of the values."""
    loaded: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text("utf-8"))
    return loaded


def walk(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield every nested value with its path of keys and indices."""
    yield path, value
    if isinstance(value, dict):
        for key, each in value.items():
            yield from walk(each, (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from walk(each, (*path, index))
