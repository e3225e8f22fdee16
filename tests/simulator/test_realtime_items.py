from __future__ import annotations

import base64

import pytest

from simulator.realtime_errors import RequestError
from simulator.realtime_items import read_item, read_pcm
from tests.simulator.realtime_driver import tone


def _new_id(prefix: str) -> str:
    return f"{prefix}_new"


def test_ids_that_the_client_left_out_are_made() -> None:
    wire = {"type": "function_call", "name": "find", "arguments": "{}"}
    item = read_item(wire, "item", new_id=_new_id, keep_audio=True)
    assert (item.id, item.call_id) == ("item_new", "call_new")
    given = read_item({**wire, "id": "a", "call_id": "b"}, "item", new_id=_new_id, keep_audio=True)
    assert (given.id, given.call_id) == ("a", "b")


@pytest.mark.parametrize("keep_audio", [True, False])
def test_the_length_of_audio_is_known_even_where_it_is_not_kept(keep_audio: bool) -> None:
    part = {"type": "input_audio", "audio": base64.b64encode(tone(250)).decode(), "transcript": "hm"}
    wire = {"type": "message", "role": "user", "content": [part]}
    item = read_item(wire, "item", new_id=_new_id, keep_audio=keep_audio)
    assert item.audio_ms == 250
    assert item.text == "hm"
    assert item.parts[0].pcm == (tone(250) if keep_audio else b"")


@pytest.mark.parametrize("audio", ["A", "A===", "AAAA\n", "é", base64.b64encode(b"odd").decode()])
def test_audio_that_is_not_base64_of_whole_samples_is_refused_by_its_path(audio: str) -> None:
    with pytest.raises(RequestError) as refused:
        read_pcm(audio, "item.content[0].audio")
    assert refused.value.param == "item.content[0].audio"
