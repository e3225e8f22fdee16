from __future__ import annotations

import base64
import contextlib
import random
from collections.abc import Callable
from urllib.parse import urlencode

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.typing import BytesLike

from common.errors import AvrProtocolError
from dispatcher.avr import protocol
from dispatcher.avr.protocol import Audio, Dtmf, Init
from dispatcher.call.limits import BAD_INPUT_REASONS


def message(**fields: object) -> bytes:
    return orjson.dumps(fields)


ALMOST_BASE64 = [
    *(b"", b"AA==", b"AAA=", b"AAAA", b"AAAAA", b"AB==", b"=AAA", b"AA==AAAA", b"AAAA\n", b"\xff", b"\xc3\xa9"),
    *(b"\\u0041AAA", b"A\\/AA", b'AA"A', b'","type":"init","uuid":"u', b'AAAA","audio":"AAA='),
]


def outcome(parse: Callable[[BytesLike], protocol.Message], data: BytesLike) -> protocol.Message | tuple[str, str]:
    try:
        return parse(data)
    except AvrProtocolError as error:
        return error.reason, str(error)


def refusal(data: bytes) -> AvrProtocolError:
    with pytest.raises(AvrProtocolError) as error:
        protocol.parse(data)
    # A reason is a label of a metric, and all labels are known in advance.
    assert error.value.reason in BAD_INPUT_REASONS
    return error.value


class TestParse:
    @pytest.mark.parametrize(
        "uuid", ["a", "0", "f47ac10b-58cc-4372-a567-0e02b2c3d479", "1.2_3:4@host-5", "x" * 128]
    )
    def test_init(self, uuid: str) -> None:
        assert protocol.parse(message(type="init", uuid=uuid)) == Init(uuid)

    def test_init_with_a_configuration_for_this_call(self) -> None:
        config: dict[str, object] = {"api_key": "sk-secret", "model": "m"}
        assert protocol.parse(message(type="init", uuid="u", provider_config=config)) == Init("u", config)
        assert protocol.parse(message(type="init", uuid="u", provider_config=None)) == Init("u")

    def test_too_deep_configuration_is_refused(self) -> None:
        # orjson parses deeper nesting than it serializes.
        config = b'{"a":' * 300 + b"1" + b"}" * 300
        with pytest.raises(AvrProtocolError, match="provider_config") as refused:
            protocol.parse(b'{"type":"init","uuid":"u","provider_config":' + config + b"}")
        assert refused.value.reason == "bad_config"

    @pytest.mark.parametrize("size", [0, 2, 320, 640, 32_000])
    def test_audio(self, size: int) -> None:
        pcm = bytes(range(256)) * 200
        assert protocol.parse(message(type="audio", audio=base64.b64encode(pcm[:size]).decode())) == Audio(
            pcm[:size]
        )

    @pytest.mark.parametrize("digit", "0123456789*#ABCD")
    def test_digits(self, digit: str) -> None:
        assert protocol.parse(message(type="dtmf_digit", digit=digit)) == Dtmf(digit)

    def test_unknown_fields_are_ignored(self) -> None:
        assert protocol.parse(message(type="dtmf_digit", digit="1", timestamp=1, extra={"a": []})) == Dtmf("1")

    def test_any_bytes_like_message_is_accepted(self) -> None:
        data = message(type="dtmf_digit", digit="1")
        assert protocol.parse(bytearray(data)) == protocol.parse(memoryview(data)) == Dtmf("1")

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"hello",
            b"{",
            b'{"type":"init","uuid":"u"} x',
            b'{"type": NaN}',
            b"\xff\xfe",
            b'{"type":"\xff"}',
            b"[]",
            b"null",
            b"1",
            b'"init"',
            b"[" * 60_000,
            b'{"a":' * 10_000,
        ],
    )
    def test_anything_but_a_json_object_is_refused(self, data: bytes) -> None:
        assert refusal(data).reason == "not_json"

    @pytest.mark.parametrize("kind", ["video", "INIT", "init ", "", None, 1, True, ["init"], {"a": 1}])
    def test_unknown_type_is_refused(self, kind: object) -> None:
        assert refusal(message(type=kind, uuid="u")).reason == "unknown_type"

    def test_missing_type_is_refused(self) -> None:
        assert refusal(message(uuid="u")).reason == "unknown_type"

    @pytest.mark.parametrize(
        "uuid",
        ["", " ", "two words", "x" * 129, "-x", ".", "a/b", "a\n", "a\u0000", "é", "a\u200b", None, 1, ["a"], {}],
    )
    def test_invalid_uuid_is_refused(self, uuid: object) -> None:
        assert refusal(message(type="init", uuid=uuid)).reason == "bad_uuid"

    def test_missing_uuid_is_refused(self) -> None:
        assert refusal(message(type="init")).reason == "bad_uuid"

    @pytest.mark.parametrize("audio", [None, 1, [], {}, True, [1, 2]])
    def test_audio_other_than_a_string_is_refused(self, audio: object) -> None:
        assert refusal(message(type="audio", audio=audio)).reason == "bad_audio"

    def test_missing_audio_is_refused(self) -> None:
        assert refusal(message(type="audio")).reason == "bad_audio"

    @pytest.mark.parametrize("audio", ["!!!!", "AAA", "AA=A", "=AAA", "AAAA\n", " AAAA", "AA-_", "ÄÄÄÄ", "\u0000"])
    def test_audio_other_than_base64_is_refused(self, audio: str) -> None:
        assert refusal(message(type="audio", audio=audio)).reason == "bad_base64"

    @pytest.mark.parametrize("size", [1, 3, 319])
    def test_half_a_sample_is_refused(self, size: int) -> None:
        error = refusal(message(type="audio", audio=base64.b64encode(bytes(size)).decode()))
        assert error.reason == "odd_bytes"
        assert str(size) in str(error)

    @pytest.mark.parametrize("digit", ["", "55", "E", " ", "½", "٣", None, 55, ["5"], {}])
    def test_invalid_digit_is_refused(self, digit: object) -> None:
        assert refusal(message(type="dtmf_digit", digit=digit)).reason == "bad_digit"

    @pytest.mark.parametrize(
        "data",
        [
            message(type="SECRET"),
            message(type="init", uuid="SECRET !"),
            message(type="audio", audio="SECRET!"),
            message(type="dtmf_digit", digit="SECRET"),
            b"SECRET",
        ],
    )
    def test_error_does_not_repeat_the_message(self, data: bytes) -> None:
        assert "SECRET" not in str(refusal(data))

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    @pytest.mark.parametrize("size", [0, 2, 318, 320, 322, 640])
    def test_plain_audio_is_read_without_a_json_parser(self, kind: type[BytesLike], size: int) -> None:
        pcm = random.Random(size).randbytes(size)
        data = kind(b'{"type":"audio","audio":"' + base64.b64encode(pcm) + b'"}')
        assert protocol.plain_audio(data) == pcm
        assert protocol.parse(data) == protocol.parse_json(data) == Audio(pcm)

    @given(
        st.builds(
            lambda head, middle, tail: head + middle + tail,
            st.sampled_from(
                [
                    protocol.AUDIO_HEAD,
                    protocol.AUDIO_HEAD[:-1],
                    b" " + protocol.AUDIO_HEAD,
                    protocol.AUDIO_HEAD + b" ",
                ]
            ),
            st.sampled_from(ALMOST_BASE64)
            | st.binary(max_size=12)
            | st.binary(max_size=330).map(base64.b64encode)
            | st.text("ABab01+/=", max_size=12).map(str.encode),
            st.sampled_from([protocol.AUDIO_TAIL, b'" }', b'"}\n', b'","x":1}', b'"', b"}", b""]),
        )
    )
    def test_plain_audio_equals_the_json_parsers_result(self, data: bytes) -> None:
        assert outcome(protocol.parse, data) == outcome(protocol.parse_json, data)

    @given(st.binary(max_size=300))
    def test_any_bytes_are_a_message_or_a_protocol_error(self, data: bytes) -> None:
        with contextlib.suppress(AvrProtocolError):
            assert isinstance(protocol.parse(data), Init | Audio | Dtmf)

    @given(
        st.fixed_dictionaries(
            {},
            optional={
                name: st.sampled_from(["init", "audio", "dtmf_digit", "5", "AAAA"])
                | st.recursive(
                    st.none()
                    | st.booleans()
                    | st.integers(-(2**63), 2**63)
                    | st.floats(allow_nan=False)
                    | st.text(),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
                    max_leaves=5,
                )
                for name in ("type", "uuid", "audio", "digit", "provider_config")
            },
        )
    )
    def test_any_object_is_a_message_or_a_protocol_error(self, fields: dict[str, object]) -> None:
        with contextlib.suppress(AvrProtocolError):
            assert isinstance(protocol.parse(orjson.dumps(fields)), Init | Audio | Dtmf)


class TestBuild:
    def test_audio(self) -> None:
        frame = bytes(range(256)) + bytes(64)
        expected = {"type": "audio", "audio": base64.b64encode(frame).decode()}
        assert orjson.loads(protocol.audio(frame)) == expected
        assert orjson.loads(protocol.audio(memoryview(frame))) == expected

    def test_interruption(self) -> None:
        assert orjson.loads(protocol.INTERRUPTION) == {"type": "interruption"}

    @pytest.mark.parametrize("text", ["", 'say "hello"', "città 🙂", "two\nlines", "\u0000"])
    def test_transcript_and_error(self, text: str) -> None:
        assert orjson.loads(protocol.transcript("user", text)) == {
            "type": "transcript",
            "role": "user",
            "text": text,
        }
        assert orjson.loads(protocol.error(text)) == {"type": "error", "message": text}


class TestMetadata:
    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("/", {}),
            ("/?", {}),
            ("", {}),
            ("/any/path?from=100&to=200", {"from": "100", "to": "200"}),
            ("?from=100", {"from": "100"}),
            ("/?from=%2B39%2002%201&name=Citt%C3%A0", {"from": "+39 02 1", "name": "Città"}),
            ("/?from=+39021&to=%2B39022", {"from": "+39021", "to": "+39022"}),
            ("/?a+b=1", {"a+b": "1"}),
            ("/?a=1&a=2", {"a": "2"}),
            ("/?a=b=c", {"a": "b=c"}),
            ("/?a=1?b=2", {"a": "1?b=2"}),
            ("/?a=1#fragment?b=2", {"a": "1"}),
            ("/?a=%ff", {"a": "\ufffd"}),
            ("/?a=%zz&%=1", {"a": "%zz", "%": "1"}),
            ("/?&&&", {}),
            ("//[?a=1", {"a": "1"}),
            ("http://[broken?a=1", {"a": "1"}),
        ],
    )
    def test_query_parameters_are_the_metadata(self, path: str, expected: dict[str, str]) -> None:
        assert protocol.metadata(path) == expected

    @pytest.mark.parametrize("name", ["token", "%74oken", "to%6ben"])
    def test_token_is_never_part_of_the_metadata(self, name: str) -> None:
        many = urlencode({f"n{number}": number for number in range(40)})
        for path in (f"/?{name}=secret&from=1", f"/?{name}=a&{name}=secret", f"/x?{many}&{name}=secret#{name}=b"):
            assert "token" not in protocol.metadata(path)
            assert "secret" not in str(protocol.metadata(path))
            assert protocol.token(path) in ("secret", "a")

    @pytest.mark.parametrize("name", ["traceparent", "%74raceparent"])
    def test_traceparent_is_never_part_of_the_metadata(self, name: str) -> None:
        path = f"/?from=1&{name}=00-a-b-01&{name}=second"
        assert protocol.metadata(path) == {"from": "1"}
        assert protocol.traceparent(path) == "00-a-b-01"
        assert protocol.traceparent("/?from=1") == ""

    @pytest.mark.parametrize("name", ["Token", "tokens", "a_token", "token2"])
    def test_names_similar_to_token_are_metadata(self, name: str) -> None:
        assert protocol.metadata(f"/?{name}=1") == {name: "1"}
        assert protocol.token(f"/?{name}=1") is None

    def test_plus_in_a_token_stays_a_plus(self) -> None:
        assert protocol.token("/?token=a+b/c==&from=1") == "a+b/c=="
        assert protocol.token("/?token=a%2Bb/c==") == "a+b/c=="

    def test_encoded_space_in_a_token_is_decoded(self) -> None:
        assert protocol.token("/?token=a%20b") == "a b"

    def test_empty_token_counts_as_missing(self) -> None:
        assert protocol.token("/?token=") is None
        assert protocol.token("/") is None

    def test_first_32_parameters_are_kept(self) -> None:
        kept = protocol.metadata("/?" + urlencode({f"n{number}": number for number in range(40)}))
        assert kept == {f"n{number}": str(number) for number in range(32)}

    def test_known_name_after_32_parameters_is_updated(self) -> None:
        many = urlencode({f"n{number}": number for number in range(32)})
        assert protocol.metadata(f"/?{many}&n0=last")["n0"] == "last"

    @pytest.mark.parametrize(
        ("name_chars", "value_chars", "kept"), [(64, 512, True), (65, 1, False), (1, 513, False)]
    )
    def test_names_and_values_that_are_too_long_are_left_out(
        self, name_chars: int, value_chars: int, kept: bool
    ) -> None:
        name, value = "n" * name_chars, "v" * value_chars
        expected = {"first": "1"} | ({name: value} if kept else {})
        assert protocol.metadata(f"/?first=1&{name}={value}") == expected

    @given(st.text(max_size=400))
    def test_any_path_gives_bounded_metadata(self, path: str) -> None:
        entries = protocol.metadata(path)
        assert len(entries) <= protocol.MAX_METADATA_ENTRIES
        orjson.dumps(entries)
