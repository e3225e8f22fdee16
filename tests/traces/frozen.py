"""The frozen traces: what the cores did, in files beside this one.

`CORE.jsonl.xz` has a line for each seed: how many results its sequence has, a digest of the whole trace, and one
byte for each result, so that the first difference can be told. `CORE_whole.jsonl.xz` has the traces of the first
seeds as they are, and `CORE_scenarios.jsonl.xz` those of sessions and calls of the scenario tests, by name.
"""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from tests.traces.run import Trace

FOLDER: Final = Path(__file__).parent / "frozen"
SEEDS: Final = 5000
WHOLE: Final = 100


@dataclass(frozen=True, slots=True)
class Mark:
    """What is kept of a generated trace.

    Attributes:
        digest: of the whole trace.
        marks: the first byte of the digest of each result.
    """

    digest: str
    marks: bytes

    @classmethod
    def of(cls, trace: Trace) -> Mark:
        digests = trace.digests()
        return cls(digests[-1].hex(), bytes(digest[0] for digest in digests))


def read_marks(core: str) -> list[Mark]:
    """Return what is kept of the generated traces, by seed."""
    return [Mark(digest, bytes.fromhex(marks)) for digest, marks in _read(f"{core}.jsonl.xz")]


def write_marks(core: str, marks: Iterable[Mark]) -> None:
    _write(f"{core}.jsonl.xz", ([mark.digest, mark.marks.hex()] for mark in marks))


def read_whole(core: str) -> list[Trace]:
    """Return the whole traces of the first seeds."""
    return [Trace(**fields) for fields in _read(f"{core}_whole.jsonl.xz")]


def write_whole(core: str, traces: Iterable[Trace]) -> None:
    _write(f"{core}_whole.jsonl.xz", (trace.to_json() for trace in traces))


def read_scenarios(core: str) -> dict[str, Trace]:
    """Return the traces of the scenario tests, by name."""
    return {name: Trace(**fields) for name, fields in _read(f"{core}_scenarios.jsonl.xz")}


def write_scenarios(core: str, traces: dict[str, Trace]) -> None:
    _write(f"{core}_scenarios.jsonl.xz", ([name, trace.to_json()] for name, trace in sorted(traces.items())))


def _read(name: str) -> Iterator[Any]:
    path = FOLDER / name
    if path.exists():
        with lzma.open(path) as file:
            yield from map(orjson.loads, file)


def _write(name: str, lines: Iterable[Any]) -> None:
    FOLDER.mkdir(exist_ok=True)
    with lzma.open(FOLDER / name, "wb", preset=9 | lzma.PRESET_EXTREME) as file:
        for line in lines:
            file.write(orjson.dumps(line, option=orjson.OPT_SORT_KEYS) + b"\n")
