from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from common.settings import session_fields
from common.settings.models import Service
from common.settings.session_fields import Wrong, accepted, changed, checked, merged, touched

VAD = {"type": "server_vad", "create_response": True, "threshold": 0.5}
BASE: dict[str, Any] = {
    "instructions": "Be kind.",
    "tools": [{"type": "function", "name": "a"}],
    "audio": {
        "input": {"format": {"type": "audio/pcm", "rate": 24000}, "turn_detection": VAD},
        "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "alloy"},
    },
}


def over(given: dict[str, Any], base: dict[str, Any] | None = None) -> dict[str, Any]:
    session, wrong = checked(given, Service.OPENAI)
    assert not wrong
    return merged(BASE if base is None else base, session, Service.OPENAI)


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ({"voice": "ash"}, {"audio": {"output": {"voice": "ash"}}}),
        ({"speed": 1.2}, {"audio": {"output": {"speed": 1.2}}}),
        ({"turn_detection": None}, {"audio": {"input": {"turn_detection": None}}}),
        ({"turn_detection": False}, {"audio": {"input": {"turn_detection": None}}}),
        ({"input_audio_noise_reduction": None}, {"audio": {"input": {"noise_reduction": None}}}),
        (
            {"input_audio_transcription": {"model": "whisper-1"}},
            {"audio": {"input": {"transcription": {"model": "whisper-1"}}}},
        ),
        ({"max_response_output_tokens": 7}, {"max_output_tokens": 7}),
        ({"modalities": ["audio", "text"]}, {"output_modalities": ["audio"]}),
        ({"system": "Be kind."}, {"instructions": "Be kind."}),
    ],
)
def test_short_names_and_names_of_other_dialects_are_placed(short: dict[str, Any], full: dict[str, Any]) -> None:
    assert checked(short, Service.OPENAI) == (full, [])


def test_a_field_in_its_place_wins_over_its_short_name() -> None:
    given = {"voice": "ash", "speed": 1.1, "audio": {"output": {"voice": "marin"}, "input": {}}}
    assert checked(given, Service.OPENAI)[0] == {
        "audio": {"output": {"voice": "marin", "speed": 1.1}, "input": {}}
    }


def test_a_wrong_field_is_left_out_alone_and_told_by_its_path() -> None:
    given = {
        "instructions": 5,
        "max_output_tokens": "400",
        "audio": {
            "output": {"voice": "nova", "speed": "1.25"},
            "input": {"turn_detection": {"threshold": "loud"}},
        },
        "tools": [{"name": "good"}, {"name": "not good"}, 5],
        "reasoning": "low",
    }
    session, wrong = checked(given, Service.OPENAI)
    assert session == {
        "max_output_tokens": 400,
        "audio": {"output": {"speed": 1.25}, "input": {"turn_detection": {}}},
        "tools": [{"type": "function", "name": "good"}],
    }
    assert [each.path for each in wrong] == [
        "instructions",
        "audio.output.voice",
        "audio.input.turn_detection.threshold",
        "tools[1]",
        "tools[2]",
        "reasoning",
    ]
    assert wrong[2] == Wrong("audio.input.turn_detection.threshold", "must be a number from 0 to 1")


@pytest.mark.parametrize("value", ["sk-secret", ["sk-secret"], {"sk-secret": 1}])
@pytest.mark.parametrize("name", sorted(session_fields.session_shape(Service.OPENAI)))
def test_a_wrong_value_is_never_shown(name: str, value: object) -> None:
    _, wrong = checked({name: value}, Service.OPENAI)
    assert "secret" not in repr(wrong)


def test_unknown_fields_pass() -> None:
    given = {"of_tomorrow": {"a": [1]}, "audio": {"input": {"of_tomorrow": None}}}
    assert checked(given, Service.OPENAI) == (given, [])
    assert over(given)["audio"]["input"]["of_tomorrow"] is None


def test_a_tool_in_avrs_form_is_accepted() -> None:
    tool = {"name": "a", "description": "b", "input_schema": {"type": "object"}}
    session, wrong = checked({"tools": [tool]}, Service.OPENAI)
    assert not wrong
    assert session["tools"] == [
        {"type": "function", "name": "a", "description": "b", "parameters": {"type": "object"}}
    ]


def test_a_tool_of_the_services_own_passes() -> None:
    assert over({"tools": [{"type": "web_search"}]})["tools"] == [{"type": "web_search"}]


def test_objects_are_merged_and_lists_replaced() -> None:
    session = over({"audio": {"output": {"voice": "marin"}}, "tools": [{"name": "b"}]})
    assert session["instructions"] == "Be kind."
    assert session["audio"]["output"] == {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin"}
    assert session["audio"]["input"] == BASE["audio"]["input"]
    assert session["tools"] == [{"type": "function", "name": "b"}]


def test_the_base_is_not_changed() -> None:
    before = repr(BASE)
    over({"turn_detection": {"eagerness": "low"}, "voice": None, "tools": None})
    assert repr(BASE) == before


def test_null_turns_a_nullable_field_off_and_unsets_others() -> None:
    base = over({"tracing": "auto", "truncation": "disabled", "prompt": {"id": "pmpt_1", "version": 2}})
    assert base["prompt"] == {"id": "pmpt_1", "version": "2"}
    session = over(
        {
            "tracing": None,
            "truncation": None,
            "prompt": None,
            "voice": None,
            "turn_detection": None,
            "tools": None,
        },
        base,
    )
    assert session["tracing"] is None
    assert session["prompt"] is None
    assert session["audio"]["input"]["turn_detection"] is None
    assert session["tools"] == []
    assert "truncation" not in session
    assert "voice" not in session["audio"]["output"]


def test_an_object_of_another_type_takes_the_others_place() -> None:
    session = over({"turn_detection": {"type": "semantic_vad", "eagerness": "low"}})
    assert session["audio"]["input"]["turn_detection"] == {"type": "semantic_vad", "eagerness": "low"}
    session = over({"audio": {"input": {"format": {"type": "audio/pcmu"}}}})
    assert session["audio"]["input"]["format"] == {"type": "audio/pcmu"}


def test_details_of_the_other_turn_detection_are_left_out() -> None:
    assert over({"turn_detection": {"eagerness": "low"}})["audio"]["input"]["turn_detection"] == VAD
    off = over({"turn_detection": None})
    detection = over({"turn_detection": {"threshold": 0.7}}, off)["audio"]["input"]["turn_detection"]
    assert detection == {"type": "server_vad", "threshold": 0.7}


@pytest.mark.parametrize(
    ("service", "voice", "sent"),
    [
        (Service.OPENAI, "Marin", "marin"),
        (Service.OPENAI, "voice_1", {"id": "voice_1"}),
        (Service.OPENAI, {"id": "voice_1"}, {"id": "voice_1"}),
        (Service.XAI, "Eve", "eve"),
        (Service.XAI, "nlbqfwie", "nlbqfwie"),
        (Service.OTHER, "Chelsie", "Chelsie"),
    ],
)
def test_a_voice_is_sent_in_the_form_of_the_service(service: Service, voice: object, sent: object) -> None:
    session, wrong = checked({"voice": voice}, service)
    assert not wrong
    assert session["audio"]["output"]["voice"] == sent


def test_which_names_are_those_of_fields() -> None:
    for name in ("voice", "audio", "tool_choice", "temperature", "system", "model", "turn_detection"):
        assert session_fields.is_session_field(name)
    for name in ("id", "welcome_message", "api_key", "session"):
        assert not session_fields.is_session_field(name)


# Fields that the API would refuse a session for.


@pytest.mark.parametrize(
    "place",
    [
        lambda transcription: {"audio": {"input": {"transcription": transcription}}},
        lambda transcription: {"input_audio_transcription": transcription},
    ],
)
def test_a_region_of_a_transcription_language_is_left_out(place: Callable[[Any], dict[str, Any]]) -> None:
    given = place({"model": "m", "language": "pt-BR", "languages": ["pt-BR", "pt-PT", "en"]})
    made, changes = accepted(given)
    assert made == place({"model": "m", "language": "pt", "languages": ["pt", "en"]})
    assert [(change.field, change.done) for change in changes] == [
        ("transcription.language", "region left out"),
        ("transcription.languages", "region left out"),
    ]
    assert accepted(made) == (made, [])


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"tools": None, "audio": None},
        {"tools": 17, "audio": {"input": []}},
        {"audio": {"input": {"transcription": None}}},
        {"audio": {"input": {"transcription": {"language": 17, "languages": "pt-BR"}}}},
        {"audio": {"input": {"transcription": {"language": "english please", "languages": [None, {}]}}}},
        {"input_audio_transcription": "pt-BR"},
    ],
)
def test_fields_of_another_shape_pass_unchanged(odd: dict[str, Any]) -> None:
    assert accepted(odd) == (odd, [])


def test_tools_of_a_session_are_mended_or_left_out() -> None:
    array = {"type": "object", "properties": {"list": {"type": "array"}}}
    tools = [{"name": "a", "parameters": array}, {"name": "b", "parameters": {"type": "string"}}]
    made, changes = accepted({"tools": tools, "instructions": "Be kind."})
    assert made["instructions"] == "Be kind."
    assert [tool["name"] for tool in made["tools"]] == ["a"]
    assert made["tools"][0]["parameters"]["properties"]["list"] == {"type": "array", "items": {}}
    assert [change.tool for change in changes] == ["a", "b"]


def test_checked_fields_have_no_region() -> None:
    session, wrong = checked({"audio": {"input": {"transcription": {"language": "pt-BR"}}}}, Service.OPENAI)
    assert not wrong
    assert session["audio"]["input"]["transcription"] == {"language": "pt"}


@pytest.mark.parametrize(("service", "taken"), [(Service.OPENAI, True), (Service.XAI, False)])
def test_turn_detection_is_one_that_the_service_has(service: Service, taken: bool) -> None:
    made, wrong = checked({"turn_detection": {"type": "semantic_vad"}}, service)
    assert (made["audio"]["input"]["turn_detection"] == {"type": "semantic_vad"}) is taken
    allowed = [] if taken else [Wrong("audio.input.turn_detection.type", "must be one of server_vad")]
    assert wrong == allowed


def test_a_change_merges_tools_by_name_in_a_new_session() -> None:
    server = {"type": "mcp", "server_label": "crm", "server_url": "https://a", "authorization": "secret-of-a"}
    elsewhere = {"type": "mcp", "server_label": "crm", "server_url": "https://b"}
    base = BASE | {"tools": [{"type": "function", "name": "a", "parameters": {"type": "object"}}, server]}
    change = {
        "tools": [{"type": "function", "name": "a", "description": "A"}, elsewhere],
        "instructions": "Be brief.",
    }
    made = changed(base, change, Service.OPENAI)
    assert made["instructions"] == "Be brief."
    # The fields of a function are merged; the credentials of one server stay with that server.
    assert made["tools"] == [
        {"type": "function", "name": "a", "description": "A", "parameters": {"type": "object"}},
        elsewhere,
    ]
    assert base["instructions"] == "Be kind."
    assert base["tools"][1] == server


def test_a_change_is_sent_with_whole_objects() -> None:
    change = {
        "audio": {"input": {"turn_detection": {"threshold": 0.7}, "noise_reduction": None}},
        "instructions": "B",
    }
    made = changed(BASE, change, Service.OPENAI)
    assert touched(made, change) == {
        "instructions": "B",
        "audio": {"input": {"turn_detection": VAD | {"threshold": 0.7}, "noise_reduction": None}},
    }
    assert touched(made, {}) == {}
