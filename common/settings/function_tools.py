"""Function tools in a form that OpenAI's API accepts, because the API refuses a whole session for one wrong tool.

A tool is corrected where its meaning can be kept or widened, and refused otherwise. A wider schema is safe,
because the model's arguments are checked against the author's schema. In one case the schema becomes narrower: a
property that only some alternatives name keeps its schema, although the other alternatives accept any value. Rules
of the API, with their sources:

- an array schema needs `items`, at any depth: "array schema missing items"
  (https://github.com/livekit/agents/issues/1021); the empty schema is enough
  (https://github.com/langchain4j/langchain4j/pull/3452, with a test against OpenAI);
- `parameters` must have the type `object` and no `oneOf`, `anyOf`, `allOf`, `enum`, `const` or `not` at its top
  (https://github.com/nspady/google-calendar-mcp/issues/39, 2025-06-01; https://github.com/feigeCode/navop/pull/245,
  2026-09-20); the union of the properties with the common part of `required` accepts all that the alternatives do
  (https://github.com/farion1231/cc-switch/issues/5829);
- a description has at most 1,024 characters (users' reports of January 2025);
- a name is 1 to 64 letters, digits, _ and -;
- a session has at most 128 tools: "Expected an array with maximum length 128"
  (https://github.com/julep-ai/julep/issues/330).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from common.net.json_depth import MAX_LEVELS, is_too_deep

NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
MAX_TOOLS: Final = 128
MAX_DESCRIPTION_CHARACTERS: Final = 1024
MAX_TOOL_BYTES: Final = 64 * 1024
"""Maximum length as JSON, because a tool is sent to the model with every session."""

MARK: Final = " […]"
MAX_REFERENCES: Final = 16
"""Maximum depth of `$ref`s and combinations at the top of a schema."""
MAX_ALTERNATIVES: Final = 64
MAX_PARTS: Final = 500
"""Maximum number of parts at the top of one schema, each counted as often as it is referenced."""

_DROPPED: Final = ("enum", "const", "not")
_EITHER: Final = ("anyOf", "oneOf")
_AT_THE_TOP: Final = ("allOf", *_EITHER, *_DROPPED)
# Keywords of JSON Schema (2020-12 and draft 7) that hold schemas.
_ONE_SCHEMA: Final = frozenset(
    {
        *("additionalItems", "additionalProperties", "contains", "else", "if", "items", "not", "propertyNames"),
        *("then", "unevaluatedItems", "unevaluatedProperties"),
    }
)
_LISTS_OF_SCHEMAS: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NAMED_SCHEMAS: Final = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"})


@dataclass(frozen=True, slots=True)
class Change:
    """A change that was made to a tool, for a log line.

    Attributes:
        tool: the name of the tool, if it has one.
        field: the changed field; empty if the tool was dropped.
        done: description of the change.
    """

    tool: str
    field: str
    done: str

    def __str__(self) -> str:
        return f"{self.field}: {self.done}" if self.field else self.done


def mend(function: Mapping[str, Any]) -> tuple[dict[str, Any], list[Change]]:
    """Return a function tool that the API accepts, and the changes made. The given tool stays unchanged.

    Raises:
        ValueError: the tool cannot be corrected; says why.
    """
    name = function.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError("must have a name of 1 to 64 letters, digits, _ and -")
    made, changes = dict(function), []
    description = made.get("description")
    if isinstance(description, str) and len(description) > MAX_DESCRIPTION_CHARACTERS:
        made["description"] = truncate_at_word(description, MAX_DESCRIPTION_CHARACTERS)
        done = f"truncated from {len(description)} to {MAX_DESCRIPTION_CHARACTERS} characters at most"
        changes.append(Change(name, "description", done))
    if made.get("parameters") is not None:
        made["parameters"], done_to = _parameters(made["parameters"])
        changes += [Change(name, field, done) for field, done in done_to]
    if len(_as_json(made)) > MAX_TOOL_BYTES:
        raise ValueError(f"must be no longer than {MAX_TOOL_BYTES} bytes")
    return made, changes


def mend_all(tools: Iterable[object]) -> tuple[list[Any], list[Change]]:
    """Return the tools of a session that the API accepts, and the changes made.

    Tools that are not functions (MCP servers) pass unchanged.
    """
    made: list[Any] = []
    changes: list[Change] = []
    for tool in tools:
        if not isinstance(tool, Mapping) or tool.get("type", "function") != "function":
            made.append(tool)
            continue
        try:
            mended, done = mend(tool)
        except ValueError as error:
            changes.append(Change(str(tool.get("name"))[:64], "", f"left out, because it {error}"))
            continue
        made.append(mended)
        changes += done
    return made, changes


def by_tool(changes: Iterable[Change]) -> dict[str, str]:
    """Return the changes of each tool as one text, for one log line per tool."""
    told: dict[str, list[str]] = {}
    for change in changes:
        told.setdefault(change.tool, []).append(str(change))
    return {tool: "; ".join(texts) for tool, texts in told.items()}


def truncate_at_word(text: str, max_characters: int) -> str:
    """Return the beginning of a text, truncated at a word, with a mark that it was longer."""
    if len(text) <= max_characters:
        return text
    room = max_characters - len(MARK)
    head = text[: room + 1].rsplit(maxsplit=1)[0] if re.search(r"\s", text[room // 2 : room + 1]) else text[:room]
    return head[:room].rstrip() + MARK


def _as_json(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise ValueError("must be JSON") from error


def _parameters(schema: object) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    if not isinstance(schema, dict):
        raise ValueError("must have an object as its parameters")
    if is_too_deep(schema):
        raise ValueError(f"must have parameters that are less deeply nested than {MAX_LEVELS} levels")
    changes: list[tuple[str, str]] = []
    top = {name for name in ("$ref", *_AT_THE_TOP) if name in schema}
    made = _Top(schema).flat(schema)
    if top:
        changes.append(("parameters", f"{', '.join(sorted(top))} at the top replaced by one object"))
    if "type" not in schema:
        changes.append(("parameters.type", "object added"))
    elif schema["type"] != "object":
        changes.append(("parameters.type", "changed to object"))
    made = {"type": "object", "properties": {}} | made | {"type": "object"}
    if is_too_deep(made):
        raise ValueError(f"must have parameters that are less deeply nested than {MAX_LEVELS} levels")
    paths: list[str] = []
    made = _with_items(made, "parameters", paths)
    if paths:
        named = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
        changes.append((named, "items added to an array"))
    return made, changes


class _Top:
    """The top of one tool's parameters, converted into one object without references and combinations."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._parts = 0

    def flat(self, schema: object, depth: int = 0) -> dict[str, Any]:
        """Return an object's schema without a reference and without combinations at its top."""
        self._parts += 1
        if not isinstance(schema, dict):
            raise ValueError("must have parameters whose parts are objects")
        # References may branch, so 16 levels without a bound on all parts could take practically for ever.
        if depth > MAX_REFERENCES or self._parts > MAX_PARTS:
            raise ValueError("must have parameters with fewer references within each other")
        if not _may_be_object(schema):
            raise ValueError("must have parameters of the type object")
        made = {name: value for name, value in schema.items() if name not in _AT_THE_TOP and name != "$ref"}
        parts = _alternatives(schema.get("allOf", []))
        if "$ref" in schema:
            parts = [_referred(schema["$ref"], self._root), *parts]
        for part in parts:
            made = _both(made, self.flat(part, depth + 1))
        for word in _EITHER:
            if word in schema:
                made = _both(made, _either(self._branches(schema[word], depth)))
        return made

    def _branches(self, value: object, depth: int) -> list[dict[str, Any]]:
        """Return the alternatives that are objects, because arguments are always objects."""
        made = []
        for each in _alternatives(value):
            try:
                made.append(self.flat(each, depth + 1))
            except ValueError:
                if isinstance(each, dict) and _may_be_object(each):
                    raise
        if not made:
            raise ValueError("must have parameters of the type object")
        return made


def _alternatives(value: object) -> list[Any]:
    if not isinstance(value, list) or len(value) > MAX_ALTERNATIVES:
        raise ValueError(f"must have parameters with lists of at most {MAX_ALTERNATIVES} alternatives")
    return value


def _may_be_object(schema: Mapping[str, Any]) -> bool:
    kind = schema.get("type", "object")
    return kind == "object" or (isinstance(kind, list) and "object" in kind)


def _referred(reference: object, root: Mapping[str, Any]) -> object:
    if not isinstance(reference, str) or not reference.startswith("#/"):
        raise ValueError("must have parameters without references to elsewhere")
    found: object = root
    for step in reference[2:].split("/"):
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    if found is None:
        raise ValueError("must have parameters without references to nothing")
    return found


def _both(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object's schema that accepts at least all values that both schemas accept."""
    made = {**other, **one}
    properties = dict(_properties(one))
    for name, schema in _properties(other).items():
        known = properties.get(name, schema)
        if known == schema:
            properties[name] = schema
        elif isinstance(known, dict) and known.keys() == {"allOf"} and isinstance(known["allOf"], list):
            properties[name] = {"allOf": [*known["allOf"], schema]}
        else:
            properties[name] = {"allOf": [known, schema]}
    required = dict.fromkeys((*_required(one), *_required(other)))
    for name, value in (("properties", properties), ("required", list(required))):
        made.pop(name, None)
        if value:
            made[name] = value
    for name in ("$defs", "definitions"):
        if isinstance(one.get(name), dict) and isinstance(other.get(name), dict):
            made[name] = {**other[name], **one[name]}
    # `additionalProperties: false` of one schema refers only to that schema's own properties.
    closed = [each for each in (one, other) if each.get("additionalProperties") is False]
    if closed and any(properties.keys() - _properties(each).keys() for each in closed):
        made.pop("additionalProperties", None)
    return made


def _either(branches: list[dict[str, Any]]) -> dict[str, Any]:
    """Return an object's schema that accepts at least all values that one of the branches accepts."""
    schemas: dict[str, list[Any]] = {}
    for branch in branches:
        for name, schema in _properties(branch).items():
            known = schemas.setdefault(name, [])
            if schema not in known:
                known.append(schema)
    made: dict[str, Any] = {}
    if schemas:
        made["properties"] = {name: _one_of(known) for name, known in schemas.items()}
    first, *others = (_required(branch) for branch in branches)
    required = [name for name in first if all(name in other for other in others)]
    if required:
        made["required"] = required
    if all(branch.get("additionalProperties") is False for branch in branches):
        made["additionalProperties"] = False
    return made


def _one_of(schemas: list[Any]) -> Any:
    """Return one schema for a property that differs between alternatives; constants give an `enum`."""
    if len(schemas) == 1:
        return schemas[0]
    values: list[Any] = []
    for schema in schemas:
        if not isinstance(schema, dict) or not ("const" in schema or isinstance(schema.get("enum"), list)):
            return {"anyOf": schemas}
        values += [schema["const"]] if "const" in schema else schema["enum"]
    distinct = [value for index, value in enumerate(values) if value not in values[:index]]
    kinds = [schema.get("type") for schema in schemas]
    kind = {"type": kinds[0]} if kinds[0] is not None and all(each == kinds[0] for each in kinds) else {}
    return kind | {"enum": distinct}


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    found = schema.get("properties")
    return found if isinstance(found, dict) else {}


def _required(schema: Mapping[str, Any]) -> list[str]:
    found = schema.get("required")
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def _with_items(schema: Any, path: str, paths: list[str]) -> Any:
    """Return a schema whose arrays all have `items`; the changed places are added to `paths`."""
    if not isinstance(schema, dict):
        return schema
    made: dict[str, Any] = {}
    for name, value in schema.items():
        if name in _NAMED_SCHEMAS and isinstance(value, dict):
            made[name] = {key: _with_items(each, f"{path}.{key}", paths) for key, each in value.items()}
        elif name in _LISTS_OF_SCHEMAS and isinstance(value, list):
            made[name] = [_with_items(each, f"{path}.{name}[{index}]", paths) for index, each in enumerate(value)]
        elif name in _ONE_SCHEMA and isinstance(value, dict):
            made[name] = _with_items(value, f"{path}.{name}", paths)
        else:
            made[name] = value
    kind = made.get("type")
    if kind == "array" or (isinstance(kind, list) and "array" in kind):
        items = made.get("items")
        if isinstance(items, list):
            # A tuple of draft 7. The API accepts only one schema for all elements.
            schemas = [_with_items(each, f"{path}.items", paths) for each in items]
            made["items"] = {"anyOf": schemas} if schemas else {}
            paths.append(path)
        elif items is None or items is True:
            made["items"] = {}
            paths.append(path)
    return made
