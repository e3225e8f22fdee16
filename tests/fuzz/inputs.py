"""Inputs of the fuzz tests: bytes, JSON that is almost right, and hostile values."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import orjson
from hypothesis import strategies as st

NUMBERS = [0, 1, -1, 7, 160, 2**31, 2**32 - 1, 2**32, 2**52, 2**63, 2**64 - 1, 2**64, -(2**63), 0.5, -0.0, 1e308]
TEXTS = ["", "\0", "a\0b", "\ud800", "😀", "é" * 130, "x" * 5_000, "sk-abcdefgh12345678", "null", "../..", "%s{}"]
scalars = st.sampled_from([None, True, False, *NUMBERS, float("inf"), float("nan"), *TEXTS])


def deep(levels: int, *, as_list: bool = False) -> Any:
    """Return an object, or a list, of nested objects."""
    value: Any = 1
    for _ in range(levels):
        value = [value] if as_list else {"a": value}
    return value


# orjson reads 1,024 levels and writes 254; Python's own recursion ends at 1,000.
nested = st.builds(deep, st.sampled_from([2, 100, 253, 300, 900]), as_list=st.booleans())
hostile = st.one_of(
    scalars,
    scalars,
    nested,
    st.lists(scalars, max_size=3),
    st.dictionaries(st.sampled_from(["id", "type", "item", "0", ""]), scalars, max_size=3),
)


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield all places in a JSON value, except its root."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(pairs):
        yield (*at, key)
        yield from paths(inner, (*at, key))


@st.composite
def mutated(draw: st.DrawFn, valid: dict[str, Any], changes: int = 2) -> dict[str, Any]:
    """Draw a JSON object with a few fields missing or changed."""
    made = copy.deepcopy(valid)
    for _ in range(draw(st.integers(0, changes))):
        places = list(paths(made))
        if not places:
            break
        *way, last = draw(st.sampled_from(places))
        holder: Any = made
        for key in way:
            holder = holder[key]
        if draw(st.booleans()) and isinstance(holder, dict):
            del holder[last]
        else:
            holder[last] = draw(hostile)
    return made


def as_json(value: Any) -> bytes:
    """Return JSON as Python writes it, with NaN, Infinity and lone surrogates, which other parsers refuse."""
    return json.dumps(value).encode()


@st.composite
def bent(draw: st.DrawFn, data: bytes) -> bytes:
    """Draw bytes with some cut, changed or inserted."""
    place = draw(st.integers(0, len(data)))
    match draw(st.sampled_from(["as it is", "cut", "changed", "inserted"])):
        case "cut":
            return data[:place]
        case "changed":
            return data[:place] + draw(st.binary(min_size=1, max_size=2)) + data[place + 1 :]
        case "inserted":
            return data[:place] + draw(st.binary(min_size=1, max_size=8)) + data[place:]
        case _:
            return data


def as_read(value: dict[str, Any]) -> dict[str, Any] | None:
    """Return an object as orjson reads it; None if orjson refuses it."""
    try:
        read = orjson.loads(as_json(value))
    except orjson.JSONDecodeError:
        return None
    return read if isinstance(read, dict) else None
