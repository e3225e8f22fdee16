from __future__ import annotations

from typing import Any

import pytest

from simulator.realtime.beta import BetaDialect
from simulator.realtime.dialect import Dialect
from simulator.realtime.errors import RequestError
from simulator.realtime.xai import XaiDialect

_GA_UPDATE = {"type": "session.update", "session": {"type": "realtime", "audio": {"output": {"voice": "ash"}}}}
_BETA_UPDATE = {"type": "session.update", "session": {"voice": "ash"}}
_APPEND = {"type": "input_audio_buffer.append", "audio": "AAAA"}


@pytest.mark.parametrize(
    ("dialect", "right", "wrong"),
    [
        (Dialect, _GA_UPDATE, _BETA_UPDATE),
        (BetaDialect, _BETA_UPDATE, _GA_UPDATE),
        (XaiDialect, _BETA_UPDATE, _GA_UPDATE),
    ],
)
def test_each_dialect_takes_its_own_session_and_no_other(
    dialect: type[Dialect], right: dict[str, Any], wrong: dict[str, Any]
) -> None:
    assert dialect().check(right) == "session.update"
    assert dialect().read(right)["session"]["audio"]["output"]["voice"] == "ash"
    with pytest.raises(RequestError):
        dialect().check(wrong)


@pytest.mark.parametrize("dialect", [Dialect, BetaDialect, XaiDialect])
def test_audio_is_appended_alike_in_all(dialect: type[Dialect]) -> None:
    assert dialect().check(_APPEND) == "input_audio_buffer.append"
    assert dialect().read(_APPEND) == _APPEND


@pytest.mark.parametrize("dialect", [Dialect, BetaDialect, XaiDialect])
def test_reading_and_writing_leave_the_event_unchanged(dialect: type[Dialect]) -> None:
    item = {"id": "i", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "x"}]}
    content = {"item": item, "previous_item_id": None}
    before = repr(content)
    tuple(dialect().write("conversation.item.added", content))
    assert repr(content) == before
    update = {"type": "session.update", "session": {"voice": "ash", "turn_detection": {"type": "server_vad"}}}
    before = repr(update)
    dialect().read(update)
    assert repr(update) == before
