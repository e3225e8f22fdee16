from __future__ import annotations

import base64

import numpy as np
import pytest

from common.audio.g711 import decode_alaw, decode_ulaw
from simulator.realtime.audio import PCM, PCMA, PCMU, WireAudio, wire_audio
from simulator.realtime.errors import RequestError
from simulator.realtime.voice import ToneVoice, WordVoice, dominant_hz

_CODES = bytes(range(256))
_G711 = pytest.mark.parametrize("audio", [PCMU, PCMA], ids=["pcmu", "pcma"])


def test_each_format_of_the_api_is_known() -> None:
    assert wire_audio({"type": "audio/pcm", "rate": 24000}) is PCM
    assert wire_audio({"type": "audio/pcmu"}) is PCMU
    assert wire_audio({"type": "audio/pcma"}) is PCMA


def test_g711_is_decoded_sample_by_sample() -> None:
    assert PCMU.decode(_CODES) == np.frombuffer(decode_ulaw(_CODES), "<i2").repeat(3).tobytes()
    assert PCMA.decode(_CODES) == np.frombuffer(decode_alaw(_CODES), "<i2").repeat(3).tobytes()


def test_g711_audio_returns_unchanged() -> None:
    assert PCMA.encode(PCMA.decode(_CODES)) == _CODES
    assert PCMU.encode(PCMU.decode(_CODES)) == _CODES.replace(b"\x7f", b"\xff")


@pytest.mark.parametrize("audio", [PCM, PCMU, PCMA], ids=["pcm", "pcmu", "pcma"])
def test_lengths_are_those_of_the_format(audio: WireAudio) -> None:
    data = audio.encode(ToneVoice(1000).pcm(0, 100))
    assert len(data) == 100 * audio.bytes_per_ms
    assert len(audio.decode(data)) == 100 * 48


@_G711
def test_a_tone_stays_what_it_was_without_a_jump_between_deltas(audio: WireAudio) -> None:
    voice = ToneVoice(1234.0)
    pieces = b"".join(audio.encode(voice.pcm(start, start + 10)) for start in range(0, 1000, 10))
    assert pieces == audio.encode(voice.pcm(0, 1000))
    assert dominant_hz(audio.decode(pieces)) == pytest.approx(1234, abs=0.2)


@_G711
def test_the_voice_of_words_stays_as_loud_as_it_was(audio: WireAudio) -> None:
    pcm = WordVoice(["alpha", "bravo"], 400).pcm(0, 800)
    levels = [
        np.sqrt(np.mean(np.frombuffer(each, "<i2").astype(float) ** 2))
        for each in (pcm, audio.decode(audio.encode(pcm)))
    ]
    assert levels[1] == pytest.approx(levels[0], rel=0.02)


@pytest.mark.parametrize("text", ["A", "A===", "AAAA\n", "é", base64.b64encode(b"odd").decode()])
def test_audio_not_base64_of_whole_samples_is_refused_by_path(text: str) -> None:
    with pytest.raises(RequestError, match="mono PCM16 at 24kHz") as refused:
        PCM.read(text, "item.content[0].audio")
    assert refused.value.param == "item.content[0].audio"


@_G711
def test_g711_may_have_any_number_of_bytes(audio: WireAudio) -> None:
    assert audio.read(base64.b64encode(b"odd").decode(), "audio") == b"odd"
    with pytest.raises(RequestError, match=r"mono G\.711 .* at 8kHz"):
        audio.read("A===", "audio")
