"""Records what goes into the cores of a real process, as inputs of traces.

`install` is called in the process before anything of the service is imported (see `recording.py`); it has the
methods of both cores write each call that comes from outside, a file for each session and call. Audio becomes a
`tone` of the same length and loudness.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import dataclasses
import importlib.util
import inspect
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from enum import Enum
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Final

CURRENT: Final = "current-test"
# All times of a trace are counted from when its core was made, and this.
START_SECONDS: Final = 1000.0
# Shorter strings in events are no audio.
_LEAST_BASE64: Final = 64
_numbers = itertools.count(1)

Arguments = dict[str, Any]


def install(folder: str) -> None:
    """Record from now on into the folder of the test that runs, which is named in a file of this folder."""
    sys.meta_path.insert(0, _Finder(Path(folder)))


def folder_of_test(folder: Path) -> Path:
    """Return where a core that is made now is recorded: several tests may share a process."""
    with contextlib.suppress(FileNotFoundError):
        folder = folder / (folder / CURRENT).read_text("utf-8")
        folder.mkdir(exist_ok=True)
    return folder


class _Finder(MetaPathFinder):
    """Patches the cores' classes when their modules are imported."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _CORES:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            sys.meta_path.insert(0, self)
        assert spec is not None
        loader = spec.loader
        assert loader is not None
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            core, class_name, inputs = _CORES[fullname]
            _patch(getattr(module, class_name), core, inputs, self._folder)

        loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


class _Recording:
    """One core's inputs on their way to a file. A process may be killed: each line is written at once."""

    def __init__(self, path: Path) -> None:
        self.depth = 0
        self.legs: list[Any] = []
        self.base_seconds = 0.0
        self.sound = 0
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def seconds(self, now_seconds: float) -> float:
        return round(now_seconds - self.base_seconds + START_SECONDS, 6)

    def write(self, value: Any) -> None:
        os.write(self._file, json.dumps(value).encode() + b"\n")

    def close(self) -> None:
        os.close(self._file)

    def tone(self, data: bytes) -> Any:
        """Return what stands for this audio in the trace."""
        from tests.traces.sound import level_of, tone  # noqa: PLC0415 - numpy, after the process has begun

        self.sound += 1
        level = level_of(data)
        return tone(-(-len(data) // 2), round(level, -2), self.sound % 1000 if level >= 50 else 0)


def _patch(core_class: type[Any], core: str, inputs: dict[str, _Encoder], folder: Path) -> None:
    made = core_class.__init__

    def __init__(self: Any, *arguments: Any, **named: Any) -> None:  # noqa: N807
        recording = _Recording(folder_of_test(folder) / f"{core}-{os.getpid()}-{next(_numbers)}.jsonl")
        bound = _bound(made, self, arguments, named)
        recording.base_seconds = bound["now_seconds"]
        recording.write(_HEADERS[core](recording, bound))
        recording.depth = 1
        self.__dict__["_recording"] = recording
        made(self, *arguments, **named)
        recording.depth = 0

    core_class.__init__ = __init__
    for name, encode in inputs.items():
        setattr(core_class, name, _recorded(getattr(core_class, name), name, encode))
    if core == "dispatcher":
        core_class.__setattr__ = _set  # type: ignore[assignment]


def _set(core: Any, name: str, value: Any) -> None:
    """Placement tells a call the epoch that it has found by an attribute."""
    recording = core.__dict__.get("_recording")
    if name == "epoch" and recording is not None and not recording.depth:
        recording.write([recording.seconds(time.monotonic()), "epoch", value])
    object.__setattr__(core, name, value)


def _recorded(method: Callable[..., Any], name: str, encode: _Encoder) -> Callable[..., Any]:
    def wrapper(self: Any, *arguments: Any, **named: Any) -> Any:
        recording: _Recording = self.__dict__["_recording"]
        if not recording.depth:
            bound = _bound(method, self, arguments, named)
            now = recording.seconds(bound.pop("now_seconds", None) or time.monotonic())
            recording.write([now, *encode(recording, self, bound)])
        recording.depth += 1
        try:
            returned = method(self, *arguments, **named)
        finally:
            recording.depth -= 1
        if name == "placed":
            recording.legs.append(returned)
        return returned

    return wrapper


def _bound(method: Callable[..., Any], core: Any, arguments: Sequence[Any], named: Arguments) -> Arguments:
    bound = inspect.signature(method).bind(core, *arguments, **named)
    bound.apply_defaults()
    return {name: value for name, value in bound.arguments.items() if name != "self"}


# Values


def _json(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: _json(each) for name, each in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, (list, tuple)):
        return [_json(each) for each in value]
    return value


def _without_audio(recording: _Recording, value: Any) -> Any:
    """Return JSON of the API's or AVR Core's in which audio is a `tone`."""
    if isinstance(value, list):
        return [_without_audio(recording, each) for each in value]
    if not isinstance(value, dict):
        return value
    made = {}
    for name, each in value.items():
        made[name] = _without_audio(recording, each)
        if name in ("audio", "delta", "sound") and isinstance(each, str) and len(each) >= _LEAST_BASE64:
            try:
                made[name] = recording.tone(base64.b64decode(each, validate=True))
            except binascii.Error:
                continue
    return made


def _remember(recording: _Recording, record: Any) -> Any:
    fields = _json(record)
    if fields["sound"]:
        fields["sound"] = _mulaw(recording, base64.b64decode(fields["sound"]))
    return _without_audio(recording, fields)


def _mulaw(recording: _Recording, codes: bytes) -> Any:
    from common import g711  # noqa: PLC0415 - only in the process that is recorded

    return recording.tone(g711.decode_ulaw(codes))


def _record(recording: _Recording, bound: Arguments) -> list[Any]:
    """A record of the link: its name and fields, or its bytes if it cannot be understood."""
    from common import link  # noqa: PLC0415
    from common.errors import LinkProtocolError  # noqa: PLC0415
    from tests.traces.worker_core import RECORDS  # noqa: PLC0415

    kind, payload = bound["kind"], bound["payload"]
    types = {record.kind: record for record in RECORDS.values()}
    try:
        match kind:
            case link.Kind.CREDIT:
                return ["record", "Credit", {"credit_bytes": link.decode_credit(payload)}]
            case link.Kind.ACK:
                return ["record", "Ack", {"received": link.decode_ack(payload)}]
            case link.Kind.REPLY_AUDIO:
                index, pcm = link.decode_reply_audio(payload)
                return ["record", "ReplyAudio", {"index": index, "pcm": recording.tone(bytes(pcm))}]
            case link.Kind.REPLY_TEXT:
                index, samples, text = link.decode_reply_text(payload)
                return ["record", "ReplyText", {"index": index, "received_samples": samples, "text": text}]
            case link.Kind.KEPT_AUDIO:
                position, codes = link.decode_kept_audio(payload)
                sound = _mulaw(recording, bytes(codes))
                return ["record", "KeptAudio", {"position_samples": position, "pcm": sound}]
        if kind not in types:
            return ["raw", kind, bytes(payload).hex()]
        record: Any = link.decode_control(types[kind], payload)
    except LinkProtocolError:
        return ["raw", kind, bytes(payload).hex()]
    fields = _remember(recording, record) if isinstance(record, link.Remember) else _json(record)
    if isinstance(record, (link.Heard, link.Playout)):
        fields = {
            name: [list(each.values()) for each in value] if isinstance(value, list) else value
            for name, value in fields.items()
        }
    return ["record", type(record).__name__, fields]


# The worker's core


def _snapshot(recording: _Recording, snapshot: Any) -> Any:
    if snapshot is None:
        return None
    fields = {field.name: getattr(snapshot, field.name) for field in dataclasses.fields(snapshot)}
    items = [_remember(recording, item) for item in fields.pop("items")]
    audio = [[position, recording.tone(pcm)] for position, pcm in fields.pop("audio")]
    return {**_json(fields), "items": items, "audio": audio}


def _opening(opening: Any) -> Any:
    # It may hold a key, and no session reads it.
    return {**_json(opening), "provider_config": {}}


def _worker_header(recording: _Recording, bound: Arguments) -> Any:
    plan = bound["plan"]
    fields = _json(
        {field.name: getattr(plan, field.name) for field in dataclasses.fields(plan)}
        | {"dialect": plan.dialect.name}
    )
    fields["transfers"] = list(fields["transfers"].values())
    return {
        "seed": 0,
        "now": START_SECONDS,
        "opening": _opening(bound["opening"]),
        "plan": fields,
        "snapshot": _snapshot(recording, bound["snapshot"]),
    }


def _failure(recording: _Recording, bound: Arguments) -> Any:
    error = bound["error"]
    return {
        "message": str(error),
        "code": error.code,
        "retryable": error.retryable,
        "retry_after_seconds": error.retry_after_seconds,
    }


_Encoder = Callable[[_Recording, Any, Arguments], list[Any]]


def _plain(name: str) -> _Encoder:
    """All arguments are JSON, in the order of the method."""
    return lambda recording, core, bound: [name, *map(_json, bound.values())]


_WORKER: Final[dict[str, _Encoder]] = {
    "connected": _plain("connected"),
    "connect_failed": lambda r, core, bound: ["connect_failed", _failure(r, bound)],
    "connection_lost": _plain("connection_lost"),
    "upstream_paused": _plain("paused"),
    "upstream_writable": _plain("writable"),
    "event": lambda r, core, bound: ["event", _without_audio(r, bound["event"])],
    "record": lambda r, core, bound: _record(r, bound),
    "go": lambda r, core, bound: ["go", _snapshot(r, bound["snapshot"]), _json(bound["session"])],
    "detached": _plain("detached"),
    "resumed": _plain("resumed"),
    "attached": lambda r, core, bound: ["attached", _opening(bound["opening"])],
    "move": _plain("move"),
    "release": _plain("release"),
    "dispatcher_lost": _plain("dispatcher_lost"),
    "stopped": _plain("stopped"),
    "tick": lambda r, core, bound: [
        "tick",
        None if bound["heard_seconds"] is None else r.seconds(bound["heard_seconds"]),
    ],
    "caller_audio": lambda r, core, bound: ["audio", bound["position_samples"], r.tone(bound["pcm"])],
    "tool_done": _plain("tool_done"),
    "command": _plain("command"),
}


# The dispatcher's core


def _dispatcher_header(recording: _Recording, bound: Arguments) -> Any:
    announcements = bound["announcements"]
    fields = {field.name: getattr(announcements, field.name) for field in dataclasses.fields(announcements)}
    sounds = {name: recording.tone(fields[name]) for name in ("sentence", "filler")}
    return {
        "seed": 0,
        "now": START_SECONDS,
        "metadata": bound["metadata"],
        "limits": _json(bound["limits"]),
        "announcements": {**fields, **sounds},
    }


def _message(recording: _Recording, bound: Arguments) -> Any:
    text = bytes(bound["data"]).decode(errors="replace")
    try:
        return _without_audio(recording, json.loads(text))
    except ValueError:
        return text


def _placed(core: Any, bound: Arguments) -> list[Any]:
    from dispatcher.actions import Purpose  # noqa: PLC0415

    purpose = Purpose.MOVE if core.wants(Purpose.MOVE) else Purpose.BEGIN
    return ["placed", purpose.value, _json(bound["placed"])]


def _stored(memory: Any) -> Any:
    items = {f"item:{item_id}": memory.item(item_id) for item_id in memory.order}
    profile = {} if memory.profile is None else {"profile": memory.profile.record}
    return {**profile, "order": memory.order, **items}


def _of_leg(name: str) -> _Encoder:
    return lambda r, core, bound: [name, _leg(r, bound["leg"])]


def _leg(recording: _Recording, leg: Any) -> int:
    return next(number for number, each in enumerate(recording.legs) if each is leg)


def _leg_record(recording: _Recording, core: Any, bound: Arguments) -> list[Any]:
    name, *rest = _record(recording, bound)
    return [name, _leg(recording, bound["leg"]), *rest]


_DISPATCHER: Final[dict[str, _Encoder]] = {
    "message": lambda r, core, bound: ["message", _message(r, bound)],
    "began": _plain("began"),
    "audio": lambda r, core, bound: ["audio", r.tone(bound["pcm"]), bound["messages"]],
    "broke_protocol": _plain("broke_protocol"),
    "caller_closed": _plain("caller_closed"),
    "caller_back": _plain("caller_back"),
    "caller_paused": _plain("caller_paused"),
    "caller_writable": _plain("caller_writable"),
    "superseded": _plain("superseded"),
    "absorbed": _plain("absorbed"),
    "stopped": _plain("stopped"),
    "failed": _plain("failed"),
    "hang_up": _plain("hang_up"),
    "left": _plain("left"),
    "outrank": _plain("outrank"),
    "place": _plain("place"),
    "placed": lambda r, core, bound: _placed(core, bound),
    "restored": lambda r, core, bound: ["restored", _stored(bound["memory"])],
    "not_placed": _plain("not_placed"),
    "record": _leg_record,
    "link_broke": _of_leg("link_broke"),
    "resume": _of_leg("resume"),
    "worker_lost": _of_leg("worker_lost"),
    "tick": _plain("tick"),
    "wake": _plain("wake"),
    "executed": _plain("executed"),
    "transferred_away": _plain("transferred_away"),
}
_HEADERS: Final[dict[str, Callable[[_Recording, Arguments], Any]]] = {
    "worker": _worker_header,
    "dispatcher": _dispatcher_header,
}
_CORES: Final = {
    "worker.session": ("worker", "Session", _WORKER),
    "dispatcher.call": ("dispatcher", "Call", _DISPATCHER),
}
