"""A schema of the parts of Gateway API's HTTPRoute that the chart uses, because no package has that of the whole.

From the standard channel of `gateway.networking.k8s.io/v1`, release 1.4.
"""

from __future__ import annotations

from typing import Any, Final

_NAME: Final = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
_PORT: Final = {"type": "integer", "minimum": 1, "maximum": 65535}
_HOST: Final = {
    "type": "string",
    "pattern": r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    "maxLength": 253,
}
_DURATION: Final = {"type": "string", "pattern": r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"}


def _object(needed: tuple[str, ...], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": [*needed], "properties": properties}


_PARENT: Final = _object(
    ("name",),
    group={"type": "string"},
    kind={"type": "string"},
    namespace=_NAME,
    name={"type": "string", "minLength": 1, "maxLength": 253},
    sectionName={"type": "string"},
    port=_PORT,
)
_MATCH: Final = _object(
    (),
    path=_object(
        (),
        type={"enum": ["Exact", "PathPrefix", "RegularExpression"]},
        value={"type": "string", "maxLength": 1024},
    ),
    headers={"type": "array"},
    queryParams={"type": "array"},
    method={"type": "string"},
)
_RULE: Final = _object(
    (),
    matches={"type": "array", "maxItems": 64, "items": _MATCH},
    filters={"type": "array", "maxItems": 16, "items": {"type": "object", "required": ["type"]}},
    backendRefs={"type": "array", "maxItems": 16, "items": _object(("name", "port"), name=_NAME, port=_PORT)},
    timeouts=_object((), request=_DURATION, backendRequest=_DURATION),
)

HTTP_ROUTE: Final = _object(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "gateway.networking.k8s.io/v1"},
    kind={"const": "HTTPRoute"},
    metadata={"type": "object"},
    spec=_object(
        (),
        parentRefs={"type": "array", "minItems": 1, "maxItems": 32, "items": _PARENT},
        hostnames={"type": "array", "maxItems": 16, "items": _HOST},
        rules={"type": "array", "minItems": 1, "maxItems": 16, "items": _RULE},
    ),
)
