"""The context of a trace as W3C's Trace Context writes it: `version-traceid-spanid-flags`, in lower-case hex.

A call's ids follow from its uuid, so that a dispatcher that takes a call over continues the same trace, even while
Redis is away. Source: https://www.w3.org/TR/trace-context/#traceparent-header (read 2026-11-30).
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Final, Self

PARAMETER: Final = "traceparent"
"""Name of the query parameter of AVR Core's URL, and of the entry in a tool's metadata."""

MAX_CHARS: Final = 256
"""Length of a `traceparent` that is read: a later version may add fields."""

_FIELDS: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_SAMPLED: Final = 0x01
_TRACE_ID_BYTES: Final = 16
_SPAN_ID_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class TraceContext:
    """One span of a trace, as its children know it.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
        is_sampled: the spans of this trace are exported.
    """

    trace_id: str
    span_id: str
    is_sampled: bool

    @property
    def traceparent(self) -> str:
        """The context for another process."""
        return f"00-{self.trace_id}-{self.span_id}-{int(self.is_sampled):02x}"

    def child(self, name: str) -> Self:
        """Return the context of a child that any process can name, such as `session 2`."""
        return type(self)(
            self.trace_id, _digest(f"{self.trace_id} {self.span_id} {name}", _SPAN_ID_BYTES), self.is_sampled
        )

    def new_child(self) -> Self:
        """Return the context of a child with a random id."""
        return type(self)(self.trace_id, secrets.token_hex(_SPAN_ID_BYTES), self.is_sampled)


def parse(traceparent: str) -> TraceContext | None:
    """Return the context in a `traceparent`; None if it is not valid."""
    found = _FIELDS.fullmatch(traceparent) if len(traceparent) <= MAX_CHARS else None
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    # Version ff is invalid, and version 00 has no further fields.
    if version == "ff" or (version == "00" and rest is not None):
        return None
    if not int(trace_id, 16) or not int(span_id, 16):
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def of_call(uuid: str, parent: TraceContext | None) -> TraceContext:
    """Return the context of a call's first span; whether it is sampled is not decided yet.

    Args:
        uuid: of the call.
        parent: the span that placed the call; None: the call begins a trace.
    """
    trace_id = _digest(f"trace {uuid}", _TRACE_ID_BYTES) if parent is None else parent.trace_id
    return TraceContext(trace_id, _digest(f"call {trace_id} {uuid}", _SPAN_ID_BYTES), is_sampled=False)


def of_session(call: TraceContext, epoch: int) -> TraceContext:
    """Return the context of a session's span: its worker exports the span, or the dispatcher of a lost worker.

    Args:
        call: context of the call's first span.
        epoch: at which the session was opened.
    """
    return call.child(f"session {epoch}")


def _digest(text: str, size_bytes: int) -> str:
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=size_bytes).hexdigest()
