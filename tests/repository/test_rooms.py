"""The rooms of the product: which room may import which, file sizes, and the compiled modules."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.repository.imports import (
    PACKAGES,
    ROOT,
    circles,
    graph_of,
    imported_packages,
    imports,
    module_of,
    room_of,
    sources,
)

MAX_LINES = 500

LONGER_FILES: dict[str, str] = {}
"""Files that may be longer than `MAX_LINES` for now, each with its reason."""

# From the lowest room to the highest one: a room imports rooms above it in this table.
ROOMS_OF_COMMON = {
    "common.errors": set[str](),
    "common.plain_number": set[str](),
    "common.transitions": {"common.errors"},
    "common.audio": {"common.errors"},
    "common.observe": {"common.errors"},
    "common.net": {"common.errors", "common.observe"},
    "common.settings": {
        *("common.audio", "common.errors", "common.net", "common.observe"),
        "common.plain_number",
    },
    "common.link": {"common.errors", "common.net", "common.observe"},
    "common.runtime": {"common.errors", "common.net", "common.observe", "common.settings"},
    # The embedded Redis is a process, with a heartbeat.
    "common.store": {"common.errors", "common.net", "common.observe", "common.runtime"},
    # Checks look at all of them. Those of a role are imported by their names, as roles are.
    "common.check": {
        *("common.errors", "common.net", "common.observe", "common.runtime", "common.settings"),
        "common.store",
    },
}

ROOMS_OF_A_PACKAGE = {
    # Calls from the live page speak AVR Core's protocol.
    "dispatcher.api": {"dispatcher.avr", "dispatcher.call", "dispatcher.recording", "dispatcher.records"},
    "dispatcher.asterisk": {"dispatcher.call"},
    "dispatcher.avr": {"dispatcher.call"},
    "dispatcher.check": set[str](),
    "dispatcher.call": {"dispatcher.avr", "dispatcher.recording"},
    "dispatcher.recording": {"dispatcher.records"},
    "dispatcher.records": {"dispatcher.call"},
    "dispatcher.runner": {
        *(
            "dispatcher.asterisk",
            "dispatcher.avr",
            "dispatcher.call",
            "dispatcher.recording",
            "dispatcher.records",
        ),
        "dispatcher.workers",
    },
    "dispatcher.workers": {"dispatcher.api", "dispatcher.call"},
    "dispatcher.security": set[str](),
    "dispatcher.admission": {"dispatcher.avr", "dispatcher.security"},
    "dispatcher.service": {
        "dispatcher.admission",
        *("dispatcher.api", "dispatcher.asterisk", "dispatcher.avr", "dispatcher.call", "dispatcher.runner"),
        *("dispatcher.recording", "dispatcher.records", "dispatcher.security", "dispatcher.workers"),
    },
    "dispatcher.main": {
        *(
            "dispatcher.api",
            "dispatcher.asterisk",
            "dispatcher.call",
            "dispatcher.recording",
            "dispatcher.records",
        ),
        "dispatcher.runner",
        "dispatcher.security",
        "dispatcher.service",
    },
    "worker.audio": {"worker.config"},
    "worker.check": {"worker.config", "worker.realtime", "worker.session", "worker.tools"},
    "worker.chat": {"worker.config", "worker.runner", "worker.tools"},
    "worker.config": {"worker.realtime", "worker.tools"},
    "worker.realtime": set[str](),
    "worker.session": {"worker.audio", "worker.config", "worker.realtime", "worker.tools"},
    "worker.tools": set[str](),
    "worker.runner": {"worker.audio", "worker.config", "worker.realtime", "worker.session", "worker.tools"},
    "worker.dispatcher_link": {"worker.audio", "worker.runner"},
    "worker.service": {"worker.dispatcher_link", "worker.runner"},
    "worker.main": {"worker.config", "worker.runner", "worker.service", "worker.tools"},
    "simulator.avr": {"simulator.waiting"},
    "simulator.realtime": {"simulator.schedule", "simulator.waiting"},
    "simulator.schedule": set[str](),
    "simulator.terminal": set[str](),
    "simulator.waiting": set[str](),
    "simulator.espeak": set[str](),
    "simulator.caller_speech": {"simulator.espeak"},
    "simulator.call_progress": {"simulator.avr"},
    "simulator.call": {
        *("simulator.avr", "simulator.call_progress", "simulator.caller_speech", "simulator.dialogue"),
        "simulator.terminal",
    },
    "simulator.dialogue": {"simulator.avr", "simulator.espeak", "simulator.realtime"},
    "simulator.demo": {
        *("simulator.avr", "simulator.demo_call", "simulator.demo_service", "simulator.dialogue"),
        *("simulator.realtime", "simulator.terminal"),
    },
    "simulator.demo_call": {
        *("simulator.avr", "simulator.demo_service", "simulator.dialogue", "simulator.realtime"),
        "simulator.terminal",
    },
    "simulator.demo_service": set[str](),
    "simulator.load": {"simulator.avr", "simulator.caller_speech", "simulator.terminal"},
    "simulator.simulate": {"simulator.dialogue", "simulator.realtime", "simulator.terminal"},
}
"""Which room of a package may import which other room of the same package."""

PACKAGES_BELOW = {
    "common": set[str](),
    "dispatcher": {"common"},
    "worker": {"common"},
    "simulator": {"common"},
}
"""Which package may import which other one: a dispatcher knows no worker, and a worker no dispatcher."""

ON_THE_CALL_PATH = ("common/link", "dispatcher/call", "dispatcher/runner", "worker/runner", "worker/session")
"""Rooms whose files are compiled, unless `INTERPRETED` names a reason."""

CORES = ("dispatcher/call", "worker/session")
"""Sans-I/O rooms: they get events and the time, and return actions."""

IO_MODULES = {"aiohttp", "asyncio", "os", "random", "redis", "socket", "subprocess", "threading", "time"}
"""What a Sans-I/O module does not import."""

_RECORDS = "dataclasses alone, which compilation does not make faster"
_ONCE_A_CALL = "runs a few times in a call"
INTERPRETED = {
    "common/link/binary_records.py": "tuples alone, which compilation does not make faster",
    "common/link/call_records.py": _RECORDS,
    "common/link/figure_records.py": _RECORDS,
    "common/link/kinds.py": "enums alone",
    "common/link/link_records.py": _RECORDS,
    "common/link/memory_records.py": _RECORDS,
    "common/link/records.py": "a union of types",
    "common/link/speech_records.py": _RECORDS,
    "common/link/telephony_records.py": _RECORDS,
    "common/link/token_handshake.py": "defines an exception, and runs once for a link",
    "dispatcher/call/actions.py": _RECORDS,
    "dispatcher/call/announcements.py": _RECORDS,
    "dispatcher/call/assignment.py": _RECORDS,
    "dispatcher/runner/asterisk_runner.py": _ONCE_A_CALL,
    "dispatcher/runner/call_trace.py": "runs a few times in a traced call",
    "dispatcher/runner/call_end.py": _ONCE_A_CALL,
    "dispatcher/runner/calls.py": "an interface",
    "dispatcher/runner/held_calls.py": "runs a few times a second",
    "dispatcher/call/identity.py": _RECORDS,
    "dispatcher/call/limits.py": "constants and a dataclass",
    "dispatcher/runner/page_line.py": _ONCE_A_CALL,
    "dispatcher/runner/measurements.py": "runs when something is counted, not for each frame",
    "dispatcher/call/states.py": _ONCE_A_CALL,
    "dispatcher/runner/record_side.py": "runs a few times in a turn",
    "dispatcher/runner/sounds.py": "reads recordings when the process starts",
    "dispatcher/call/telephony_commands.py": _ONCE_A_CALL,
    "dispatcher/call/caller/token_bucket.py": _ONCE_A_CALL,
    "worker/runner/own_key.py": "runs a few times in a turn",
    "worker/runner/session_queue.py": _ONCE_A_CALL,
    "worker/runner/session_figures.py": "runs a few times in a turn",
    "worker/runner/conversation_notes.py": "runs a few times in a turn",
    "worker/runner/session_trace.py": "runs a few times in a traced turn",
    "worker/runner/turn_trace.py": _RECORDS,
    "worker/session/actions.py": _RECORDS,
    "worker/session/caller/digits.py": "runs when a caller presses keys",
    "worker/session/hang_up.py": _RECORDS,
    "worker/session/memory_writer.py": "runs once for an item of the conversation",
    "worker/runner/preparation.py": _ONCE_A_CALL,
    "worker/runner/resources.py": "a dataclass alone",
}


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    found = circles(graph_of((each.importer, each.imported) for each in imports()))
    assert [sorted(each) for each in found] == []


def test_folders_in_a_room_do_not_import_each_other_in_a_circle() -> None:
    """The modules beside the folders stand below some of them and above others, and do not count."""
    folders = [(_folder(each.importer), _folder(each.imported)) for each in imports()]
    assert circles(graph_of((one, other) for one, other in folders if one and other and one != other)) == []


@pytest.mark.parametrize("path", [each for each in sources() if str(each).startswith(CORES)], ids=str)
def test_a_core_imports_no_io(path: Path) -> None:
    assert imported_packages(path) & IO_MODULES == set()


def test_rooms_of_common_do_not_import_each_other_in_a_circle() -> None:
    assert circles(ROOMS_OF_COMMON) == []


def test_a_room_imports_the_rooms_of_its_package_in_the_table() -> None:
    allowed = ROOMS_OF_COMMON | ROOMS_OF_A_PACKAGE
    wrong = [
        f"{each.importer} imports {each.imported}"
        for each in imports()
        if room_of(each.importer) != room_of(each.imported)
        and _package(each.importer) == _package(each.imported)
        and room_of(each.imported) not in allowed.get(room_of(each.importer), set())
    ]
    assert wrong == []


def test_a_package_imports_common_and_no_other_package() -> None:
    wrong = [
        f"{each.importer} imports {each.imported}"
        for each in imports()
        if _package(each.importer) != _package(each.imported)
        and _package(each.imported) not in PACKAGES_BELOW[_package(each.importer)]
    ]
    assert wrong == []


def test_every_room_stands_in_the_table() -> None:
    rooms = {room_of(module_of(path)) for path in sources()} - set(PACKAGES)
    importing = {room_of(each.importer) for each in imports()} & rooms
    assert importing - ROOMS_OF_COMMON.keys() - ROOMS_OF_A_PACKAGE.keys() == set()


@pytest.mark.parametrize("path", sources(), ids=str)
def test_a_file_is_short_unless_the_table_names_it(path: object) -> None:
    lines = len((ROOT / str(path)).read_text("utf-8").splitlines())
    if str(path) in LONGER_FILES:
        assert lines > MAX_LINES, f"{path} is short now: remove it from LONGER_FILES"
    else:
        assert lines <= MAX_LINES


def test_a_longer_file_in_the_table_exists() -> None:
    assert LONGER_FILES.keys() - {str(path) for path in sources()} == set()


def test_a_file_of_the_call_path_is_compiled_or_exempt() -> None:
    files = {
        path
        for path in map(str, sources())
        if path.startswith(tuple(f"{room}/" for room in ON_THE_CALL_PATH)) and not path.endswith("__init__.py")
    }
    compiled = set(_compiled())
    assert files - compiled - INTERPRETED.keys() == set()
    assert INTERPRETED.keys() & compiled == set()
    assert INTERPRETED.keys() - files == set(), "these files are gone: remove them from INTERPRETED"


def test_a_compiled_file_exists() -> None:
    assert [path for path in _compiled() if not (ROOT / path).is_file()] == []


def test_a_circle_is_found_once() -> None:
    graph = {"a": ["b"], "b": ["c"], "c": ["b"], "d": ["a"]}
    assert circles(graph) == [{"b", "c"}]


def _folder(module: str) -> str:
    """Return the folder inside a room in which a module lies, or "" if it lies in none."""
    parts = module.split(".")
    return ".".join(parts[:3]) if len(parts) > 3 else ""


def _package(module: str) -> str:
    return module.split(".", maxsplit=1)[0]


def _compiled() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    compiled: list[str] = project["tool"]["avr-sts"]["compiled"]
    return compiled
