from __future__ import annotations

import base64

import pytest

from simulator.realtime.audio import PCM, PCMU
from simulator.realtime.errors import RequestError
from simulator.realtime.items import read_item, without_audio
from tests.simulator.realtime_driver import tone


def _new_id(prefix: str) -> str:
    return f"{prefix}_new"


def test_missing_ids_are_made() -> None:
    wire = {"type": "function_call", "name": "find", "arguments": "{}"}
    item = read_item(wire, "item", new_id=_new_id, audio=PCM, keep_audio=True)
    assert (item.id, item.call_id) == ("item_new", "call_new")
    given = read_item({**wire, "id": "a", "call_id": "b"}, "item", new_id=_new_id, audio=PCM, keep_audio=True)
    assert (given.id, given.call_id) == ("a", "b")


@pytest.mark.parametrize("keep_audio", [True, False])
def test_the_length_of_audio_is_known_even_where_it_is_not_kept(keep_audio: bool) -> None:
    part = {"type": "input_audio", "audio": base64.b64encode(tone(250)).decode(), "transcript": "hm"}
    wire = {"type": "message", "role": "user", "content": [part]}
    item = read_item(wire, "item", new_id=_new_id, audio=PCM, keep_audio=keep_audio)
    assert item.audio_ms == 250
    assert item.text == "hm"
    assert item.parts[0].pcm == (tone(250) if keep_audio else b"")


def test_audio_of_an_item_is_in_the_format_of_the_sessions_input() -> None:
    codes = bytes(range(256)) * 8
    part = {"type": "input_audio", "audio": base64.b64encode(codes).decode()}
    wire = {"type": "message", "role": "user", "content": [part]}
    item = read_item(wire, "item", new_id=_new_id, audio=PCMU, keep_audio=True)
    assert item.audio_ms == 256
    assert len(item.parts[0].pcm) == 256 * 48
    assert base64.b64decode(item.wire(PCMU.encode)["content"][0]["audio"]) == codes.replace(b"\x7f", b"\xff")


def test_an_event_is_remembered_without_its_audio() -> None:
    audio = {"type": "input_audio", "audio": "AAAA", "transcript": "hm"}
    event = {"type": "conversation.item.create", "item": {"type": "message", "content": [audio, "odd"]}}
    assert without_audio(event) == {
        "type": "conversation.item.create",
        "item": {"type": "message", "content": [{"type": "input_audio", "transcript": "hm"}, "odd"]},
    }
    for other in ({"type": "response.create"}, {"item": 1}, {"item": {"content": "text"}}):
        assert without_audio(other) == other


def test_bad_audio_is_refused_by_its_path() -> None:
    part = {"type": "input_audio", "audio": "A"}
    wire = {"type": "message", "role": "user", "content": [part]}
    with pytest.raises(RequestError) as refused:
        read_item(wire, "item", new_id=_new_id, audio=PCM, keep_audio=True)
    assert refused.value.param == "item.content[0].audio"
