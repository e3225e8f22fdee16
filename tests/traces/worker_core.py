"""Drives the worker's core by inputs that are plain JSON. Nothing else of the traces knows its methods."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from typing import Any, Final, get_args

import orjson

from common.audio import g711
from common.errors import IllegalTransition, PeerError, UpstreamError
from common.link import wire
from common.link.wire import EndReason
from common.settings.extensions import TransferRule
from common.settings.models import Service
from tests.traces import canonical
from tests.traces.canonical import Output
from tests.traces.names import code_fields, name_of
from tests.traces.sound import TONE, pcm, with_base64
from worker.config.session_config import SessionConfig
from worker.realtime import dialect
from worker.session import truncation
from worker.session.actions import AppendAudio, ToDispatcher, ToUpstream
from worker.session.hang_up import HangUp
from worker.session.memory.checkpoint import Checkpoint
from worker.session.session import Session

CHANNEL: Final = 3
DIALECTS: Final = {
    each.name: each for each in (dialect.GA, dialect.BETA, dialect.XAI, dialect.AZURE, dialect.AZURE_BETA)
}
RECORDS: Final = {name_of(record.__name__): record for record in get_args(wire.Control)}

# What `worker.runner.session_runner.SessionRunner` takes for an event of another shape than the API's.
BAD_INPUT: Final = (
    PeerError,
    IllegalTransition,
    LookupError,
    TypeError,
    ValueError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    RecursionError,
)


class WorkerCore:
    """One session, which is made from a trace's header.

    Attributes:
        outputs: of the last input.
    """

    def __init__(self, header: dict[str, Any]) -> None:
        random.seed(header["seed"])
        self._number = 0
        config = _config_of(header["plan"])
        self._dialect = config.dialect
        self._session = Session(
            opening_of(header["opening"]),
            config,
            header["now"],
            None if header["snapshot"] is None else _snapshot_of(header["snapshot"]),
        )
        self.outputs = self._taken()

    @property
    def state(self) -> Any:
        """Return the recorded part of the core's state after each input."""
        session = self._session
        return canonical.plain(
            [
                session.state,
                session.epoch,
                _hang_up(session),
                session.next_position_samples,
            ]
        )

    def apply(self, now: float, name: str, *arguments: Any) -> list[Output]:
        """Give the core an input, and return what it wants done."""
        raised: list[Output] = []
        try:
            _INPUTS[name](self._session, now, *arguments)
        except BAD_INPUT as error:
            raised = [canonical.raised(error)]
        self.outputs = self._taken() + raised
        return self.outputs

    def _taken(self) -> list[Output]:
        actions, self._session.actions = self._session.actions, []
        outputs: list[Output] = []
        for action in actions:
            if isinstance(action, ToUpstream):
                outputs.append(canonical.upstream(self._on_the_wire(action.event)))
            elif isinstance(action, AppendAudio):
                append = {"type": "input_audio_buffer.append", "audio": action.audio.decode()}
                outputs.append(canonical.upstream(self._on_the_wire(append)))
            elif isinstance(action, ToDispatcher):
                # The shell truncates a record that is too long.
                record = action.record
                if not isinstance(record, tuple):
                    outputs += [["record", *canonical.record(truncation.encoded(record, CHANNEL)[0])]]
                else:
                    outputs += [["record", *canonical.record(wire.encode_record(record, CHANNEL))]]
            else:
                outputs += canonical.action(action)
        return outputs

    def _on_the_wire(self, event: dict[str, Any]) -> dict[str, Any]:
        sent: dict[str, Any] = orjson.loads(orjson.dumps(self._dialect.to_wire(event)))
        return sent


def opening_of(fields: dict[str, Any]) -> wire.Open:
    return wire.Open(**fields)


def _config_of(fields: dict[str, Any]) -> SessionConfig:
    sets: dict[str, Any] = {
        name: frozenset(fields[name]) for name in ("approved_servers", "idempotent", "built_in") if name in fields
    }
    made: dict[str, Any] = {**fields, **sets, "dialect": DIALECTS[fields["dialect"]]}
    if "transfers" in fields:
        context, allowed = fields["transfers"]
        made["transfers"] = TransferRule(context, None if allowed is None else tuple(allowed))
    if "service" in fields:
        made["service"] = Service(fields["service"])
    if "notes" in fields:
        made["notes"] = tuple(fields["notes"])
    return SessionConfig(**made)


def _snapshot_of(fields: dict[str, Any]) -> Checkpoint:
    made = dict(fields)
    made["items"] = [_item_update(item) for item in fields.get("items", ())]
    made["replies"] = tuple(_reply(reply) for reply in fields.get("replies", ()))
    made["audio"] = [(position, pcm(sound)) for position, sound in fields.get("audio", ())]
    made["known_commands"] = frozenset(made.pop("orders", ()))
    made["running"] = frozenset(fields.get("running", ()))
    if "hang_up" in made:
        made["hang_up"] = HangUp(made["hang_up"], EndReason.AGENT_HUNG_UP) if made["hang_up"] else None
    return Checkpoint(**made)


def _reply(fields: dict[str, Any]) -> wire.Reply:
    return wire.Reply(**code_fields("Reply", fields))


def _item_update(fields: dict[str, Any]) -> wire.ItemUpdate:
    return wire.ItemUpdate(**code_fields("Remember", with_mulaw(fields)))


def with_mulaw(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the sound of a remembered turn: mu-law in base64."""
    if not fields.get("sound"):
        return fields
    return {**fields, "sound": _mulaw64(fields["sound"])}


def _mulaw64(sound: dict[str, list[int]]) -> str:
    return base64.b64encode(g711.encode_ulaw(pcm(sound))).decode()


def payload_of(name: str, fields: dict[str, Any]) -> tuple[int, memoryview]:
    """Return kind and payload of a record of the link."""
    ((kind, _, payload),) = wire.decode(_encoded(name, fields))
    return kind, payload


def _encoded(name: str, fields: dict[str, Any]) -> bytes:
    match name:
        case "Credit":
            return wire.encode_credit(CHANNEL, fields["credit_bytes"])
        case "Ack":
            return wire.encode_ack(CHANNEL, fields["received"])
        case "ReplyAudio":
            return wire.encode_reply_audio(CHANNEL, fields["index"], pcm(fields["pcm"]))
        case "ReplyText":
            return wire.encode_reply_text(CHANNEL, fields["index"], fields["received_samples"], fields["text"])
        case "KeptAudio":
            return wire.encode_kept_audio(
                CHANNEL, fields["position_samples"], g711.encode_ulaw(pcm(fields["pcm"]))
            )
        case "Remember":
            return wire.encode(_item_update(fields), CHANNEL)
        case "Spoken":
            return wire.encode(wire.PendingReplies(tuple(map(_reply, fields["replies"]))), CHANNEL)
        case "Heard" | "Playout":
            made = {
                key: tuple(wire.ItemHeard(*each) for each in value) if isinstance(value, list) else value
                for key, value in fields.items()
            }
            return wire.encode(RECORDS[name](**made), CHANNEL)
        case "Go":
            made = code_fields("Go", {**fields, "orders": tuple(fields.get("orders", ()))})
            return wire.encode(wire.Resume(**made), CHANNEL)
    return wire.encode(RECORDS[name](**fields), CHANNEL)


def _error(fields: dict[str, Any]) -> UpstreamError:
    return UpstreamError(
        fields["message"],
        code=fields["code"],
        retryable=fields["retryable"],
        retry_after_seconds=fields.get("retry_after_seconds"),
    )


def _go(session: Session, now: float, snapshot: dict[str, Any], changed: dict[str, Any] | None = None) -> None:
    session.take_call(_snapshot_of(snapshot), now, changed)


def _raw(session: Session, now: float, kind: int, payload: str) -> None:
    session.record(kind, memoryview(bytes.fromhex(payload)), now)


def _audio(session: Session, now: float, position: int, sound: dict[str, list[int]]) -> None:
    assert TONE in sound
    session.caller_audio(position, pcm(sound), now)


Input = Callable[..., None]
_INPUTS: Final[dict[str, Input]] = {
    "connected": lambda s, now, repeat=False: s.connected(now, repeat=repeat),
    "connect_failed": lambda s, now, error: s.connect_failed(_error(error), now),
    "connection_lost": lambda s, now, reason: s.connection_lost(reason, now),
    "paused": lambda s, now: s.upstream_paused(),
    "writable": lambda s, now: s.upstream_writable(now),
    "event": lambda s, now, event: s.event(with_base64(event), now),
    "record": lambda s, now, name, fields: s.record(*payload_of(name, fields), now),
    "raw": _raw,
    "go": _go,
    "detached": lambda s, now: s.detached(),
    "resumed": lambda s, now: s.resumed(),
    "attached": lambda s, now, opening: s.attached(opening_of(opening), now),
    "move": lambda s, now, reason, seconds: s.move(reason, seconds, now),
    "release": lambda s, now, reason, message: s.release(reason, message),
    "dispatcher_lost": lambda s, now: s.dispatcher_lost(),
    "stopped": lambda s, now, reason: s.stopped(reason),
    "tick": lambda s, now, heard=None: s.tick(now, heard),
    "audio": _audio,
    "tool_done": lambda s, now, call_id, output, lost=False: s.tool_done(call_id, output, now, lost=lost),
    "command": lambda s, now, number, action, body: s.command(number, action, body, now),
}


def _hang_up(session: Session) -> str:
    order = session.requested_hang_up
    return "" if order is None else order.text
