from __future__ import annotations

import io
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

import simulator
from common.audio import g711
from common.audio.wav import WavError, read_wav, resample, to_pcm16, write_wav

CALLER = Path(simulator.__file__).with_name("speech") / "caller.wav"

_PCM, _ADPCM, _FLOAT, _ALAW, _MULAW, _GSM = 1, 2, 3, 6, 7, 0x31


def _riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def _fmt(tag: int, channels: int, rate_hz: int, bits: int, extra: bytes = b"") -> tuple[bytes, bytes]:
    block = channels * bits // 8
    return b"fmt ", struct.pack("<HHIIHH", tag, channels, rate_hz, rate_hz * block, block, bits) + extra


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _tone(frequency_hz: float, rate_hz: int, seconds: float = 1.0, peak: float = 0.5) -> npt.NDArray[np.float64]:
    return peak * np.sin(2 * np.pi * frequency_hz * np.arange(round(rate_hz * seconds)) / rate_hz)


def _samples(pcm: bytes) -> npt.NDArray[np.float64]:
    return np.frombuffer(pcm, "<i2") / 32768.0


def _peak_hz(samples: npt.NDArray[np.float64]) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.fft.rfftfreq(len(samples), 1 / 8000)[spectrum.argmax()])


def _snr_db(samples: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64]) -> float:
    return float(10 * np.log10(np.mean(wanted**2) / np.mean((samples - wanted) ** 2)))


@pytest.mark.parametrize("rate_hz", [8000, 11025, 16000, 22050, 24000, 44100, 48000])
def test_a_stereo_tone_of_any_rate_is_the_same_tone_at_8_khz(tmp_path: Path, rate_hz: int) -> None:
    tone = to_pcm16(_tone(1000, rate_hz))
    stereo = np.repeat(np.frombuffer(tone, "<i2"), 2).tobytes()
    path = _write(tmp_path / "tone.wav", _riff(_fmt(_PCM, 2, rate_hz, 16), (b"data", stereo)))
    samples = _samples(read_wav(path))
    assert len(samples) == 8000
    assert _peak_hz(samples) == 1000
    inner = slice(200, -200)  # the filter has no past and no future at the ends
    assert _snr_db(samples[inner], _tone(1000, 8000)[inner]) > 80


@pytest.mark.parametrize("frequency_hz", [4100, 5000, 7000, 11000])
def test_frequencies_above_4_khz_leave_no_alias(frequency_hz: float) -> None:
    leftover = resample(_tone(frequency_hz, 48000), 48000)[200:-200]
    assert 20 * np.log10(np.abs(leftover).max() / 0.5) < -90


def test_the_telephone_band_keeps_its_level() -> None:
    for frequency_hz in (300, 1000, 2000, 3400):
        kept = resample(_tone(frequency_hz, 44100), 44100)[200:-200]
        assert abs(20 * np.log10(kept.std() * np.sqrt(2) / 0.5)) < 0.01


@pytest.mark.parametrize(
    ("tag", "bits", "encode"),
    [
        (_PCM, 8, lambda x: (np.rint(x * 128) + 128).astype(np.uint8).tobytes()),
        (_PCM, 16, to_pcm16),
        (_PCM, 24, lambda x: np.rint(x * 2**31).astype("<i4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()),
        (_PCM, 32, lambda x: np.rint(x * 2**31).astype("<i4").tobytes()),
        (_FLOAT, 32, lambda x: x.astype("<f4").tobytes()),
        (_FLOAT, 64, lambda x: x.astype("<f8").tobytes()),
    ],
    ids=["8 bits", "16 bits", "24 bits", "32 bits", "float", "double"],
)
def test_every_usual_coding_of_samples_is_read(tmp_path: Path, tag: int, bits: int, encode: object) -> None:
    assert callable(encode)
    tone = _tone(440, 8000, 0.1)
    path = _write(tmp_path / "tone.wav", _riff(_fmt(tag, 1, 8000, bits), (b"data", encode(tone))))
    assert np.abs(_samples(read_wav(path)) - tone).max() <= (1 / 128 if bits == 8 else 1 / 32768)


@pytest.mark.parametrize(
    ("tag", "encode", "decode"),
    [(_MULAW, g711.encode_ulaw, g711.decode_ulaw), (_ALAW, g711.encode_alaw, g711.decode_alaw)],
    ids=["mu-law", "A-law"],
)
def test_g711_is_expanded(
    tmp_path: Path, tag: int, encode: Callable[[bytes], bytes], decode: Callable[[bytes], bytes]
) -> None:
    codes = encode(to_pcm16(_tone(440, 8000, 0.1)))
    path = _write(tmp_path / "tone.wav", _riff(_fmt(tag, 1, 8000, 8, b"\0\0"), (b"data", codes)))
    assert read_wav(path) == decode(codes)


def _gsm(pcm: bytes) -> bytes:
    """Return a WAV file with GSM 06.10, as Asterisk's WAV49."""
    content = io.BytesIO()
    samples = np.frombuffer(pcm, "<i2")
    soundfile.write(content, samples, 8000, format="WAV", subtype="GSM610")
    return content.getvalue()


def test_gsm_is_decoded_by_libsndfile(tmp_path: Path) -> None:
    path = _write(tmp_path / "tone.wav", _gsm(to_pcm16(_tone(1000, 8000))))
    samples = _samples(read_wav(path))
    assert abs(len(samples) - 8000) <= 320  # whole blocks
    assert _peak_hz(samples[:8000]) == pytest.approx(1000, abs=2)
    assert samples.std() == pytest.approx(0.35, abs=0.05)


def test_gsm_without_libsndfile_is_refused_with_two_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _write(tmp_path / "tone.wav", _gsm(to_pcm16(_tone(1000, 8000))))
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(WavError, match=r"pip install 'avr-sts-openai\[gsm\]', or convert the file: ffmpeg -i "):
        read_wav(path)


def test_gsm_that_is_damaged_is_one_line(tmp_path: Path) -> None:
    path = _write(tmp_path / "bad.wav", _riff(_fmt(_GSM, 1, 8000, 0), (b"data", b"\1")))
    with pytest.raises(WavError, match="its GSM cannot be decoded"):
        read_wav(path)


def test_extensible_headers_chunks_and_odd_lengths_are_read(tmp_path: Path) -> None:
    tone = to_pcm16(_tone(440, 8000, 0.1))
    guid = struct.pack("<H", _PCM) + bytes.fromhex("000000001000800000aa00389b71")
    extensible = _fmt(0xFFFE, 1, 8000, 16, struct.pack("<HHI", 22, 16, 4) + guid)
    path = _write(tmp_path / "tone.wav", _riff((b"LIST", b"odd"), extensible, (b"data", tone), (b"id3 ", b"x")))
    assert read_wav(path) == tone


def test_an_unknown_length_means_the_rest_of_the_file(tmp_path: Path) -> None:
    tone = to_pcm16(_tone(440, 8000, 0.1))
    content = _riff(_fmt(_PCM, 1, 8000, 16), (b"data", tone))
    content = content.replace(b"data" + struct.pack("<I", len(tone)), b"data\xff\xff\xff\xff")
    assert read_wav(_write(tmp_path / "tone.wav", content + b"\x01")) == tone  # half a sample at the end is none


def test_channels_are_averaged(tmp_path: Path) -> None:
    frames = np.array([[1000, 3000], [-200, 0]], "<i2").tobytes()
    path = _write(tmp_path / "two.wav", _riff(_fmt(_PCM, 2, 8000, 16), (b"data", frames)))
    assert np.frombuffer(read_wav(path), "<i2").tolist() == [2000, -100]


def test_too_loud_samples_are_clipped_not_wrapped(tmp_path: Path) -> None:
    loud = np.array([1.5, -1.5, 1.0, np.nan], "<f4").tobytes()
    path = _write(tmp_path / "loud.wav", _riff(_fmt(_FLOAT, 1, 8000, 32), (b"data", loud)))
    assert np.frombuffer(read_wav(path), "<i2").tolist() == [32767, -32768, 32767, 0]


def test_a_written_file_is_read_back_unchanged(tmp_path: Path) -> None:
    pcm = np.arange(-2000, 2000, dtype="<i2").tobytes()
    write_wav(tmp_path / "out.wav", pcm)
    assert read_wav(tmp_path / "out.wav") == pcm


def test_silence_of_no_length_is_a_wav_too(tmp_path: Path) -> None:
    write_wav(tmp_path / "empty.wav", b"")
    assert read_wav(tmp_path / "empty.wav") == b""


_DATA = (b"data", bytes(16))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not a WAV file"),
        (b"ID3\x03 this is an MP3", "not a WAV file"),
        (_riff(_fmt(_PCM, 1, 8000, 16)), "it has no data"),
        (_riff(_DATA), "its data comes before its format"),
        (_riff((b"fmt ", b"\x01\x00"), _DATA), "its format is truncated"),
        (_riff(_fmt(0xFFFE, 1, 8000, 16), _DATA), "its format is truncated"),
        (_riff(_fmt(_ADPCM, 1, 8000, 4), _DATA), "ADPCM with 4 bits is not supported: convert"),
        (_riff(_fmt(0x1234, 1, 8000, 16), _DATA), "format 4660 with 16 bits is not supported"),
        (_riff(_fmt(_PCM, 1, 8000, 12), _DATA), "PCM with 12 bits is not supported"),
        (_riff(_fmt(_PCM, 0, 8000, 16), _DATA), "0 channels at 8000 Hz"),
        (_riff(_fmt(_PCM, 1, 0, 16), _DATA), "1 channels at 0 Hz"),
    ],
)
def test_an_unreadable_file_is_refused_with_a_reason(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = _write(tmp_path / "bad.wav", content)
    with pytest.raises(WavError) as refusal:
        read_wav(path)
    assert str(refusal.value).startswith(f"{path}: ")
    assert complaint in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_files_that_are_missing_no_files_or_too_large_are_named(tmp_path: Path) -> None:
    with pytest.raises(WavError, match=r"none\.wav: file not found"):
        read_wav(tmp_path / "none.wav")
    with pytest.raises(WavError, match="cannot be read: Is a directory"):
        read_wav(tmp_path)
    with pytest.raises(WavError, match="larger than 1 MiB"):
        read_wav(_write(tmp_path / "large.wav", bytes(2**20 + 1)), max_bytes=2**20)


def test_the_recorded_caller_pauses_between_two_sentences() -> None:
    samples = _samples(read_wav(CALLER))
    assert 6 * 8000 < len(samples) < 12 * 8000
    assert 20 * np.log10(np.abs(samples).max()) == pytest.approx(-12, abs=0.5)
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    pauses = np.diff(loud) / 8000
    assert 2.5 < pauses.max() < 3.5
    assert np.sort(pauses)[-2] < 0.3  # too short to be taken for the end of a sentence
