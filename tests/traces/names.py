"""How names and texts of the code read in the frozen traces, which never change.

A class, field or text that gets another name or wording in the code gets a line here. A table that is empty says
that the code still has every name with which the traces were frozen.
"""

from __future__ import annotations

import functools
import re
from typing import Any, Final

NAMES: Final[dict[str, str]] = {
    "IllegalTransition": "LinkProtocolError",
    "ItemUpdate": "Remember",
    "Measurement": "Report",
    "MessageIgnored": "PassedOver",
    "Metric": "Seen",
    "PendingReplies": "Spoken",
    "Resume": "Go",
    "SendError": "Complain",
    "SendTranscript": "Tell",
    "TelephonyAction": "OrderAction",
    "TelephonyCommand": "Order",
    "TelephonyDone": "OrderDone",
}
"""Names of classes: in the code, in the traces. Actions, records of the link and exceptions have such names."""

FIELDS: Final[dict[str, str | None]] = {
    "Ended.end_reason": None,
    "Execute.command": "order",
    "Go.known_commands": "orders",
    "Open.traceparent": None,
    "Open.collects": None,
    "Open.tenant": None,
    "Opened.collecting": None,
    "Order.end_reason": None,
    "Remember.deleted": "forgotten",
    "Reply.truncated": "cut",
    "Profile.tenant": None,
    "Report.of": None,
}
"""Fields: `Class.field` in the code (the class as in the traces), the field in the traces; None: it has none."""

ADDED_METRICS: Final = frozenset(
    {"turn_part_seconds", "caller_gap_seconds", "caller_jitter_seconds", "caller_level_dbfs"}
)
"""Metrics that the cores measure since the traces were frozen: the traces do not have them."""

TEXTS: Final[tuple[tuple[str, str], ...]] = (
    ("side_error", "upstream_error"),
    ("spoke_first", ""),
    (r"the dispatcher does not answer interruptions \(FLUSH\)", "the dispatcher does not say what was heard"),
    ("an earlier call with this uuid continues", "it is the same call"),
    ("another session gets the call", "another session is to have the call"),
)
r"""Texts: a pattern that matches all of a text of the code, what the traces have (with `\1` for a group).

Reasons for people, states and values of labels are texts. The first pattern that matches counts.
"""

_TEXTS = tuple((re.compile(pattern, re.DOTALL), frozen) for pattern, frozen in TEXTS)


def name_of(name: str) -> str:
    """Return the name that a class of the code has in the traces."""
    return NAMES.get(name, name)


def field_of(class_name: str, field: str) -> str | None:
    """Return the name that a field of the code has in the traces; None: the traces do not have it."""
    return FIELDS.get(f"{class_name}.{field}", field)


def code_fields(class_name: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields of the traces under the names that they have in the code."""
    names = {frozen: name for name, frozen in FIELDS.items() if frozen is not None}
    prefix = f"{class_name}."
    known = {frozen: name.removeprefix(prefix) for frozen, name in names.items() if name.startswith(prefix)}
    return {known.get(field, field): value for field, value in fields.items()}


@functools.lru_cache(maxsize=4096)
def text_of(text: str) -> str:
    """Return a text of the code as the traces have it."""
    for pattern, frozen in _TEXTS:
        if (match := pattern.fullmatch(text)) is not None:
            return match.expand(frozen)
    return text
