"""Write the Helm chart's copies from elsewhere in the repository: `python -m scripts.chart`.

`values.schema.json` names all settings of the code, all alerts and their thresholds, and requires the values of
`values.yaml`. `files/` has copies of Grafana's dashboards, because a chart cannot use files outside its own
folder. It has Prometheus' rules with placeholders, which the template fills.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import yaml
from pydantic import SecretStr

from common.settings.fields import SECRETS as IN_FILES
from common.settings.renamed import RENAMED
from common.settings.settings import Settings
from grafana import alerting, generate
from grafana.thresholds import ALERTING, Threshold

REPOSITORY: Final = Path(__file__).resolve().parents[1]
CHART: Final = REPOSITORY / "helm"
SCHEMA: Final = CHART / "values.schema.json"
VALUES: Final = CHART / "values.yaml"

SET_BY_THE_CHART: Final = frozenset(
    {
        "PORT",
        "ADMIN_PORT",
        "WORKER_PORT",
        "WORKER_ADDRESS",
        "TOOLS_DIR",
        "DRAIN_SECONDS",
        "TLS_CERT",
        "TLS_KEY",
        "CLUSTER_TLS_CERT",
        "CLUSTER_TLS_KEY",
        "CLUSTER_TLS_CA",
    }
)
"""Settings that follow from other values of the chart."""

OF_SERVE: Final = frozenset({"WORKERS", "DISPATCHERS"})
"""Settings that only `serve` reads; in a cluster, Kubernetes counts the processes."""

SECRETS: Final = frozenset(
    {
        "OPENAI_API_KEY",
        "SAFETY_IDENTIFIER_SECRET",
        "REDIS_URL_PASSWORD",
        "REDIS_SENTINEL_PASSWORD",
        "STS_TOKEN",
        "ADMIN_TOKEN",
        "CLUSTER_TOKEN",
        "CALL_RECORDS_SECRET",
        "CALL_RECORDS_REDIS_URL",
    }
)
"""Settings that are never written into values, because Helm stores values in its release."""

OF_OPENTELEMETRY: Final = "^OTEL_[A-Z0-9_]+$"
"""Variables of OpenTelemetry, which its SDK reads (docs/tracing.md)."""

COPIED: Final = {"dashboards": "*.json"}
"""Folders of grafana/ and of the chart's files/, with the pattern of the copied files."""

RULES: Final = "rules"
"""Folder of the chart's files/ with Prometheus' rules."""

_JSON_TYPES: Final[dict[object, tuple[str, ...]]] = {
    bool: ("boolean", "string"),
    int: ("integer", "string"),
    float: ("number", "string"),
    str: ("string",),
    Path: ("string",),
    SecretStr: ("string",),
    dict: ("object", "string"),
    list: ("array", "string"),
    type(None): ("null",),
}


def settings_of_the_chart() -> dict[str, dict[str, Any]]:
    """Return the JSON schema of each setting that people may choose, by its variable."""
    schemas: dict[str, dict[str, Any]] = {name: {"type": ["null", "string"]} for name in SECRETS}
    for name, field in Settings.model_fields.items():
        schemas[name.upper()] = {"description": field.description, **_schema_of(field.annotation)}
    for name, renamed in RENAMED.items():
        schemas[name.upper()] = schemas[renamed.name.upper()]
    return {name: schemas[name] for name in sorted(schemas) if name not in SET_BY_THE_CHART | OF_SERVE}


def schema(current: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of the chart's values: `current` with the code's settings and the needed values.

    Args:
        current: the schema as it is.
        defaults: of values.yaml.
    """
    settings = settings_of_the_chart()
    plain = {name: each for name, each in settings.items() if name not in SECRETS | {"REDIS_URL"}}
    in_files = {name.upper() for name in IN_FILES}
    plain |= {f"{name}_FILE": {"type": ["null", "string"]} for name in sorted(in_files)}
    referred = {
        name: {"$ref": "#/$defs/secretFile" if name in in_files else "#/$defs/secretKey"} for name in settings
    }
    properties = current["properties"]
    updated = {
        **current,
        "properties": {
            **properties,
            "config": {
                **properties["config"],
                "properties": plain,
                "patternProperties": {OF_OPENTELEMETRY: {"type": ["boolean", "null", "number", "string"]}},
            },
            "configFromSecrets": {
                **properties["configFromSecrets"],
                "properties": referred,
                "patternProperties": {OF_OPENTELEMETRY: {"$ref": "#/$defs/secretKey"}},
            },
            "monitoring": _with_alerts(properties["monitoring"]),
        },
    }
    return _with_required(updated, defaults, updated["$defs"])


def _with_alerts(monitoring: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of the values of monitoring, with the names of alerts and thresholds."""
    rule = monitoring["properties"]["prometheusRule"]
    names = [alert.name for alert in alerting.ALERTS]
    alerts = {**rule["properties"]["alerts"], "propertyNames": {"enum": names}}
    thresholds = {
        **rule["properties"]["thresholds"],
        "properties": {name: _threshold(each) for name, each in ALERTING.items()},
    }
    properties = {**rule["properties"], "alerts": alerts, "thresholds": thresholds}
    changed = {"prometheusRule": {**rule, "properties": properties}}
    return {**monitoring, "properties": {**monitoring["properties"], **changed}}


def _threshold(threshold: Threshold) -> dict[str, Any]:
    least = {"minimum": threshold.least} if threshold.least else {"exclusiveMinimum": 0}
    most = {} if threshold.most is None else {"maximum": threshold.most}
    return {"description": threshold.meaning, "type": "number", **least, **most}


def _with_required(part: dict[str, Any], defaults: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    """Return a part of the schema that requires each value of `defaults`, except those that may be null.

    Helm removes a value that people set to null. Without this list, a template would fail at some other place.
    """
    properties = {
        name: _with_required(each, defaults[name], shared)
        if "properties" in each and isinstance(defaults.get(name), dict) and name != "global"
        else each
        for name, each in part["properties"].items()
    }
    needed = [
        name
        for name, each in properties.items()
        # `global` comes from the parent of a subchart.
        if defaults.get(name) is not None and name != "global" and not _may_be_null(each, shared)
    ]
    rest = {name: each for name, each in part.items() if name not in {"properties", "required"}}
    return {**rest, "properties": properties, **({"required": needed} if needed else {})}


def _may_be_null(part: dict[str, Any], shared: dict[str, Any]) -> bool:
    resolved = shared[part["$ref"].rpartition("/")[2]] if "$ref" in part else part
    choices = resolved.get("anyOf", [resolved])
    return any("null" in each.get("type", ()) or None in each.get("enum", ()) for each in choices)


def files(repository: Path = REPOSITORY) -> dict[Path, bytes]:
    """Return the content of each file of the chart, by its path from the repository's top."""
    current = json.loads((repository / SCHEMA.relative_to(REPOSITORY)).read_text("utf-8"))
    defaults = yaml.safe_load((repository / VALUES.relative_to(REPOSITORY)).read_text("utf-8"))
    wanted = {SCHEMA.relative_to(REPOSITORY): f"{json.dumps(schema(current, defaults), indent=2)}\n".encode()}
    for folder, pattern in COPIED.items():
        for source in (repository / "grafana" / folder).glob(pattern):
            wanted[Path("helm/files") / folder / source.name] = source.read_bytes()
    for name, groups in alerting.FILES.items():
        text = generate.NOTE + generate.yaml_of(alerting.document(groups))
        wanted[Path("helm/files") / RULES / f"{name}.yaml"] = text.encode()
    return wanted


def out_of_date(repository: Path = REPOSITORY) -> list[Path]:
    """Return files of the chart that differ from their source, are missing, or have no source."""
    wanted = files(repository)
    present = {file.relative_to(repository) for file in _copies(repository)}
    changed = {
        path
        for path, content in wanted.items()
        if not (repository / path).is_file() or (repository / path).read_bytes() != content
    }
    return sorted(changed | (present - wanted.keys()))


def write(repository: Path = REPOSITORY) -> None:
    """Update the chart's files."""
    wanted = files(repository)
    for file in _copies(repository):
        if file.relative_to(repository) not in wanted:
            file.unlink()
    for path, content in wanted.items():
        (repository / path).parent.mkdir(parents=True, exist_ok=True)
        (repository / path).write_bytes(content)


def _copies(repository: Path) -> Iterator[Path]:
    for folder in (*COPIED, RULES):
        yield from (file for file in (repository / "helm/files" / folder).glob("*") if file.is_file())


def _schema_of(annotation: object) -> dict[str, Any]:
    """Return the YAML values that a type accepts; the service itself checks their meaning."""
    choices: list[object] = []
    names: set[str] = set()
    for each in _alternatives(annotation):
        if isinstance(each, type) and issubclass(each, Enum):
            choices += [member.value for member in each]
        elif get_origin(each) is Literal:
            names.add("string")
        else:
            names.update(_JSON_TYPES[get_origin(each) or each])
    if choices:
        return {"enum": [*choices, None]}
    return {"type": sorted(names | {"null"})}


def _alternatives(annotation: object) -> Iterator[object]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for each in get_args(annotation):
            yield from _alternatives(each)
    else:
        yield annotation


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit("\n".join(f"{path} is out of date" for path in out_of_date()) or 0)
    write()
