from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.realtime import RealtimeSessionCreateRequest

from common.audio.g711 import decode_alaw, decode_ulaw, encode_alaw, encode_ulaw
from common.settings.session_values import AudioFormat
from worker.audio.audio_format import ApiAudio, for_format
from worker.audio.resample import Downsampler, Upsampler

_Convert = Callable[[bytes], bytes]

_FORMATS = pytest.mark.parametrize("name", list(AudioFormat))


def _tone(milliseconds: int, hz: float = 440.0) -> bytes:
    """A sine at -10 dBFS: PCM16 at 8 kHz."""
    samples = np.arange(8 * milliseconds)
    pcm: bytes = np.rint(10_362 * np.sin(2 * np.pi * hz / 8000 * samples)).astype("<i2").tobytes()
    return pcm


def _cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    position = 0
    for size in itertools.cycle(sizes):
        if position >= len(data):
            return
        yield data[position : position + size]
        position += size


def _level_dbfs(pcm: bytes) -> float:
    samples = np.frombuffer(pcm, "<i2").astype(float)
    return float(20 * np.log10(np.sqrt(2 * np.mean(samples**2)) / 32767))


@_FORMATS
def test_the_formats_object_is_what_the_api_takes(name: AudioFormat) -> None:
    form = for_format(name).session_format
    session = {"type": "realtime", "audio": {"input": {"format": form}, "output": {"format": form}}}
    model = RealtimeSessionCreateRequest.model_validate(session, strict=True)
    assert model.audio
    assert model.audio.input
    assert model.audio.input.format
    assert model.audio.input.format.model_extra == {}
    assert model.audio.input.format.to_dict() == form


def test_pcm_is_24_khz_and_g711_has_no_rate() -> None:
    assert for_format("pcm").session_format == {"type": "audio/pcm", "rate": 24_000}
    assert for_format("pcmu").session_format == {"type": "audio/pcmu"}
    assert for_format("pcma").session_format == {"type": "audio/pcma"}


def test_another_format_is_an_error() -> None:
    with pytest.raises(ValueError, match="opus"):
        for_format("opus")


@_FORMATS
def test_bytes_per_ms_is_what_comes_out(name: AudioFormat) -> None:
    api = for_format(name)
    assert len(api.uplink().encode(_tone(1000))) == 1000 * api.bytes_per_ms


@pytest.mark.parametrize(
    ("name", "encode", "decode"), [("pcmu", encode_ulaw, decode_ulaw), ("pcma", encode_alaw, decode_alaw)]
)
def test_g711_goes_by_its_table_without_resampling(name: str, encode: _Convert, decode: _Convert) -> None:
    api, pcm = for_format(name), _tone(100)
    assert api.uplink().encode(pcm) == encode(pcm)
    assert api.downlink().decode(encode(pcm)) == decode(encode(pcm))
    assert api.downlink().flush() == b""


def test_pcm_is_resampled_both_ways() -> None:
    api, pcm = for_format("pcm"), _tone(100)
    assert api.uplink().encode(pcm) == Upsampler().process(pcm)
    high = Upsampler().process(pcm)
    expected, downlink = Downsampler(), api.downlink()
    assert downlink.decode(high) == expected.process(high)
    assert downlink.flush() == expected.flush() != b""


@_FORMATS
def test_a_tone_comes_back_as_loud_as_it_was(name: AudioFormat) -> None:
    api = for_format(name)
    back = api.downlink().decode(api.uplink().encode(_tone(500)))
    assert len(back) == 500 * 16
    assert _level_dbfs(back[1600:]) == pytest.approx(-10, abs=0.1)


def _both_ways(api: ApiAudio, pcm: bytes, sizes: list[int]) -> bytes:
    uplink, downlink = api.uplink(), api.downlink()
    data = b"".join(uplink.encode(chunk) for chunk in _cut(pcm, sizes))
    return b"".join(downlink.decode(chunk) for chunk in _cut(data, sizes)) + downlink.flush()


@_FORMATS
@given(sizes=st.lists(st.integers(1, 700), min_size=1, max_size=8))
def test_how_the_audio_is_cut_makes_no_difference(name: AudioFormat, sizes: list[int]) -> None:
    api, pcm = for_format(name), _tone(70)
    assert _both_ways(api, pcm, sizes) == _both_ways(api, pcm, [len(pcm) * 3])


@_FORMATS
def test_calls_do_not_share_what_they_hold(name: AudioFormat) -> None:
    api, pcm = for_format(name), _tone(40)
    uplink, downlink = api.uplink(), api.downlink()
    alone = uplink.encode(pcm)
    other = api.uplink()
    other.encode(b"\x7f" * 333)
    api.downlink().decode(b"\x7f" * 333)
    assert api.uplink().encode(pcm) == alone
    assert downlink.decode(alone) == api.downlink().decode(alone)


@_FORMATS
def test_a_reply_after_a_cancelled_one_or_a_finished_one_begins_as_new(name: AudioFormat) -> None:
    api = for_format(name)
    data = api.uplink().encode(_tone(40))
    cancelled, finished = api.downlink(), api.downlink()
    cancelled.decode(b"\x11" * 1001)
    cancelled.reset()
    finished.decode(b"\x11" * 1001)
    finished.flush()
    assert cancelled.decode(data) == finished.decode(data) == api.downlink().decode(data)
