from __future__ import annotations

from simulator.realtime.input_audio import BYTES_PER_MS, MAX_RECORDING_BYTES, MAX_TURN_BYTES, InputAudio, Recording
from simulator.realtime.vad import SpeechStarted, SpeechStopped
from tests.simulator.realtime_driver import silence, tone


def _listening(*, prefix_ms: int = 300) -> InputAudio:
    audio = InputAudio()
    audio.configure(threshold=0.5, silence_ms=500, prefix_ms=prefix_ms, trims_silence=True)
    return audio


def _append(audio: InputAudio, pcm: bytes) -> list[SpeechStarted | SpeechStopped]:
    events = []
    for start in range(0, len(pcm), 960):
        events += audio.append(pcm[start : start + 960])
    return events


def test_a_turn_is_the_speech_with_its_padding_and_its_silence() -> None:
    audio = _listening()
    started, stopped = _append(audio, silence(1000) + tone(600) + silence(500))
    assert isinstance(started, SpeechStarted)
    assert isinstance(stopped, SpeechStopped)
    assert audio.audio_start_ms(started.speech_start_ms) == 700
    turn = audio.take_speech(stopped)
    assert turn.pcm == silence(300) + tone(600) + silence(500)
    assert turn.audio_ms == 1400
    assert turn.speech == tone(600)
    assert turn.speech_ms == 600


def test_padding_ends_at_the_first_sample_and_the_last_turn() -> None:
    audio = _listening(prefix_ms=1000)
    _, stopped = _append(audio, silence(200) + tone(400) + silence(500))
    assert isinstance(stopped, SpeechStopped)
    assert audio.take_speech(stopped).audio_ms == 1100
    started, _ = _append(audio, silence(100) + tone(400) + silence(500))
    assert isinstance(started, SpeechStarted)
    assert audio.audio_start_ms(started.speech_start_ms) == 1100


def test_two_turns_in_one_piece_of_audio_are_cut_apart() -> None:
    audio = _listening(prefix_ms=100)
    events = audio.append(silence(200) + tone(300, 500) + silence(700) + tone(400, 900) + silence(700))
    stops = [event for event in events if isinstance(event, SpeechStopped)]
    first, second = (audio.take_speech(stop) for stop in stops)
    assert first.speech == tone(300, 500)
    assert second.speech == tone(400, 900)
    assert audio.buffered_ms == 200


def test_a_commit_by_hand_takes_everything() -> None:
    audio = InputAudio()
    _append(audio, silence(200) + tone(300) + silence(900) + tone(200) + silence(100))
    assert audio.buffered_ms == 1700
    turn = audio.take()
    assert turn.audio_ms == 1700
    assert len(turn.pcm) == 1700 * BYTES_PER_MS
    assert turn.speech_ms == 1400
    assert audio.buffered_ms == 0
    _append(audio, silence(300))
    assert audio.take().speech_ms == 0


def test_clear_forgets_audio_and_speech_but_not_the_position() -> None:
    audio = _listening()
    _append(audio, tone(500))
    audio.clear()
    assert audio.buffered_ms == 0
    assert audio.appended_ms == 500
    assert _append(audio, silence(1000)) == []


def test_silence_before_speech_is_not_kept_for_ever() -> None:
    audio = _listening()
    _append(audio, silence(60_000))
    assert audio.buffered_ms < 3000
    _, stopped = _append(audio, tone(300) + silence(500))
    assert isinstance(stopped, SpeechStopped)
    assert audio.take_speech(stopped).pcm == silence(300) + tone(300) + silence(500)


def test_endless_turn_keeps_its_end_and_its_length() -> None:
    audio = InputAudio()
    audio.append(silence(90_000))
    audio.append(tone(1000))
    turn = audio.take()
    assert len(turn.pcm) == MAX_TURN_BYTES
    assert turn.pcm.endswith(tone(1000))
    assert turn.audio_ms == 91_000


def test_a_recording_is_bounded_and_keeps_the_end() -> None:
    recording = Recording()
    for _ in range(20):
        recording.add(silence(MAX_RECORDING_BYTES // BYTES_PER_MS // 10))
    recording.add(tone(1000))
    assert 0 <= len(recording.data) - MAX_RECORDING_BYTES <= 2000 * BYTES_PER_MS
    assert recording.data.endswith(tone(1000))
    recording.clear()
    assert recording.data == b""
