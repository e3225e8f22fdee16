"""`docs/avr-protocol.md` against the code: each example through the parser, each reason, code and limit."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import orjson
import pytest

from common.errors import AvrProtocolError
from common.net.admission_control import DEFAULT_ADMISSION_LIMITS
from common.settings.settings import Settings
from dispatcher.avr import legacy, protocol
from dispatcher.call.limits import BAD_INPUT_REASONS, DEFAULT_LIMITS
from dispatcher.service import CALLER_LIMITS
from tests.docs.blocks import document

PAGE: Final = document("avr-protocol.md")


def section(title: str) -> str:
    """Return the part of the page under a heading."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def examples(title: str) -> list[str]:
    """Return the JSON blocks under a heading."""
    found = re.findall(r"^```json\n(.*?)^```$", section(title), re.MULTILINE | re.DOTALL)
    assert found
    return [each.strip() for each in found]


def rows(title: str) -> dict[str, tuple[str, ...]]:
    """Return the rows of the last table under a heading by their first cell."""
    table = section(title).rpartition("| --- |")[2].partition("\n\n")[0]
    lines = [line.strip("|") for line in table.splitlines()[1:]]
    cells = [[cell.strip() for cell in line.split(" | ")] for line in lines]
    return {first.strip("` "): tuple(rest) for first, *rest in cells}


@pytest.mark.parametrize("example", examples("Messages from AVR Core"))
def test_example_of_avr_core_is_understood(example: str) -> None:
    read = protocol.parse(example.encode())
    # A binary frame has the same bytes, and AVR Core writes no space.
    assert protocol.parse(orjson.dumps(orjson.loads(example))) == read


def test_examples_of_avr_core_have_each_type() -> None:
    kinds = {type(protocol.parse(example.encode())) for example in examples("Messages from AVR Core")}
    assert kinds == {protocol.Init, protocol.Audio, protocol.Dtmf}


def test_examples_to_avr_core_are_as_they_are_built() -> None:
    audio, interruption, transcript, error = (json.loads(each) for each in examples("Messages to AVR Core"))
    sent: dict[str, Any] = json.loads(protocol.audio(bytes(protocol.FRAME_BYTES)))
    assert (audio.keys(), audio["type"]) == (sent.keys(), sent["type"])
    assert sent["audio"].startswith(audio["audio"].rstrip("."))
    assert interruption == json.loads(protocol.INTERRUPTION)
    assert transcript == json.loads(protocol.transcript(transcript["role"], transcript["text"]))
    assert error == json.loads(protocol.error(error["message"]))
    assert f"exactly {protocol.FRAME_BYTES} bytes" in section("Messages to AVR Core")


def test_call_has_messages_that_both_sides_take() -> None:
    lines = section("A call").splitlines()
    sent = [line.partition("──▶")[0].strip() for line in lines if "──▶" in line]
    assert len(sent) == 5
    for message in sent:
        protocol.parse(message.encode())
    received = [line.partition("◀── ")[2].split("  ")[0].strip() for line in lines if "◀──" in line]
    types = [json.loads(each)["type"] for each in received if each.startswith("{")]
    assert set(types) == {"audio", "transcript", "interruption"}
    assert received[-1] == "close 1000"


@pytest.mark.parametrize(("reason", "row"), rows("Messages that are not understood").items())
def test_example_of_a_wrong_message_has_its_reason(reason: str, row: tuple[str, ...]) -> None:
    example, effect = row
    if not example.startswith("`") or reason == "second_init":
        assert effect
        return
    with pytest.raises(AvrProtocolError) as caught:
        protocol.parse(example.strip("`").encode())
    assert caught.value.reason == reason
    late = reason in protocol.BAD_INIT_REASONS
    assert caught.value.ends_call == late == (effect != "ignored")


def test_each_reason_has_a_row() -> None:
    assert rows("Messages that are not understood").keys() == set(BAD_INPUT_REASONS)


def test_limits_are_those_of_the_code() -> None:
    admission, calls = DEFAULT_ADMISSION_LIMITS, DEFAULT_LIMITS
    assert admission.open_seconds == calls.init_seconds == CALLER_LIMITS.open_timeout_seconds
    assert {name: value for name, (value,) in rows("Limits").items()} == {
        "from TCP's accept to `init`, TLS included": f"{calls.init_seconds:g} s",
        "connections without `init`, of a process": f"{admission.arriving:,}",
        "the same, of one address": f"{admission.arriving_of_address:,}",
        "the request's head": f"{admission.max_head_bytes // 1024} KiB",
        "a message": f"{CALLER_LIMITS.max_message_bytes // 1024} KiB",
        "metadata": f"{protocol.MAX_METADATA_ENTRIES} entries, names of {protocol.MAX_METADATA_NAME_CHARS} "
        f"characters, values of {protocol.MAX_METADATA_VALUE_CHARS}",
        "audio": f"{calls.flood_ratio:g} times real time, and {calls.burst_seconds:g} s at once",
        "messages": f"{calls.messages_per_second:g} a second, and {10 * calls.messages_per_second:,g} at once",
        "time without audio": f"{calls.silence_seconds:g} s",
        "time without reading": f"{calls.stuck_seconds:g} s",
        "our pings": f"every {CALLER_LIMITS.ping_interval_seconds:g} s",
    }
    assert calls.reconnect_seconds == Settings.model_fields["call_reconnect_seconds"].default
    assert f"`CALL_RECONNECT_SECONDS` ({calls.reconnect_seconds:g})" in PAGE


def test_metadata_of_the_example_is_read_as_described() -> None:
    (target,) = re.findall(r"requests `(\S+)`", PAGE)
    assert protocol.metadata(target) == {"from": "+390212345", "to": "5001"}
    assert protocol.metadata("/?from=+39%20x&token=t&traceparent=p") == {"from": "+39 x"}


def test_statuses_and_codes_are_those_of_the_code() -> None:
    assert set(rows("Close codes")) == {"1000", "1008", "1011", "1013"}
    assert f"`{legacy.PATH}`" in PAGE
    assert f"{legacy.LEAD_SECONDS:g} s ahead" in PAGE
