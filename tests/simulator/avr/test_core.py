from __future__ import annotations

import asyncio
import gc
import time
import warnings
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from simulator.avr import core
from simulator.avr.call_record import Audio, ClosedBy
from simulator.avr.core import CallError, place_call
from tests.simulator.avr_service import AvrService, Behaviour, Connection, avr_service, echo

_FRAME_SECONDS = 0.02


def _sound(milliseconds: int, *, seed: int = 1) -> bytes:
    samples = np.random.default_rng(seed).integers(-20000, 20000, milliseconds * 8)
    return samples.astype("<i2").tobytes()


async def _listen(connection: Connection) -> None:
    await connection.listen()


def _after_frames(frames: int, action: Callable[[Connection], Awaitable[object]]) -> Behaviour:
    async def behaviour(connection: Connection) -> None:
        await connection.listen(frames)
        await action(connection)
        await connection.listen()

    return behaviour


async def _connection(service: AvrService) -> Connection:
    """Return the service's side of the only call, when that call has ended."""
    (connection,) = service.connections
    async with asyncio.timeout(5):
        await connection.over.wait()
    return connection


async def test_init_comes_first_and_the_url_carries_metadata() -> None:
    async with avr_service(_listen) as service:
        async with await place_call(
            service.url + "/any/path?uniqueid=17.4",
            uuid="the-uuid",
            metadata={"from": "+39 02 1", "to": "100"},
            headers={"Authorization": "Bearer t"},
        ) as call:
            await call.wait_for(lambda call: call.record.frames_sent >= 2)
        connection = await _connection(service)
    assert connection.inits == [{"type": "init", "uuid": "the-uuid"}]
    assert connection.query == {"uniqueid": "17.4", "from": "+39 02 1", "to": "100"}
    assert connection.headers["Authorization"] == "Bearer t"
    assert connection.others == []
    assert call.uuid == "the-uuid"


async def test_each_call_has_its_own_uuid_and_provider_settings() -> None:
    async with avr_service(_listen) as service:
        for _ in range(2):
            async with await place_call(service.url, provider_config={"voice": "marin"}) as call:
                await call.wait_for(lambda call: call.record.frames_sent >= 1)
        first, second = (connection.inits[0] for connection in service.connections)
    assert first["uuid"] != second["uuid"]
    assert first["provider_config"] == {"voice": "marin"}


async def test_frames_follow_an_absolute_schedule_and_are_never_early() -> None:
    async with avr_service(_listen) as service:
        async with await place_call(service.url) as call:
            start_seconds = call.playout.started_at_seconds
            await call.wait_for(lambda call: call.record.frames_sent >= 75)
        connection = await _connection(service)
    lateness = [
        arrival - start_seconds - number * _FRAME_SECONDS
        for number, arrival in enumerate(connection.frame_times_seconds)
    ]
    assert {len(frame) for frame in connection.frames} == {320}
    assert min(lateness) > -0.002  # the resolution of the event loop's timers
    # A relative schedule drifts by the cost of each wake-up; an absolute one recovers when the machine can.
    assert min(lateness[50:]) < min(lateness[:25]) + 0.01


async def test_frames_missed_in_a_stall_are_sent_afterwards() -> None:
    async with avr_service(_listen) as service:
        async with await place_call(service.url) as call:
            await call.wait_for(lambda call: call.record.frames_sent >= 5)
            time.sleep(0.3)  # noqa: ASYNC251 - stalls the event loop on purpose
            start_seconds = call.playout.started_at_seconds
            await call.wait_for(
                lambda call: time.monotonic() - start_seconds - call.record.frames_sent * _FRAME_SECONDS < 0.05
            )
            assert call.report().latest_frame_seconds > 0.25
        connection = await _connection(service)
    assert max(np.diff(connection.frame_times_seconds)) > 0.25


async def test_speech_is_sent_whole_and_replies_are_heard() -> None:
    speech = _sound(400)
    async with avr_service(echo) as service, await place_call(service.url, speech=speech) as call:
        await call.wait_for(lambda call: call.record.frames_received >= 25)
        await call.hang_up()
        (connection,) = service.connections
        assert b"".join(connection.frames)[:6400] == speech
        assert call.received_pcm[:6400] == speech
        heard = call.heard_pcm
    first, *_ = call.messages
    assert isinstance(first, Audio)
    start = round(first.at_seconds * 8000) * 2
    assert not any(heard[:start])
    assert heard[start : start + 320] == speech[:320]
    assert call.violations == []


async def test_later_speech_is_sent_in_real_time_and_say_waits_for_it() -> None:
    first, second = _sound(100, seed=1), _sound(150, seed=2)
    async with avr_service(_listen) as service:
        async with await place_call(service.url) as call:
            await call.wait_for(lambda call: call.record.frames_sent >= 3)
            await asyncio.gather(call.say(first), call.say(second))
            assert not call.microphone.has_speech
            sent = call.record.frames_sent
        connection = await _connection(service)
    stream = b"".join(connection.frames)
    assert first + second in stream
    assert stream.index(first + second) >= 3 * 320
    assert sent >= 3 + 250 / 20


async def test_keys_are_pressed_after_the_speech_or_when_told() -> None:
    async with avr_service(_listen) as service:
        async with await place_call(service.url, speech=_sound(100), dtmf="1#") as call:
            await call.wait_for(lambda call: not call.microphone.has_digits)
            await call.press("9")
        connection = await _connection(service)
    assert [digit for _, digit in connection.digits] == ["1", "#", "9"]
    frames_before = [frames for frames, _ in connection.digits]
    assert frames_before[0] == 5
    assert np.diff(frames_before).min() == 10  # 200 ms


async def test_frames_of_another_size_come_at_their_own_rate() -> None:
    async with avr_service(_listen) as service:
        async with await place_call(service.url, frame_bytes=640) as call:
            start_seconds = call.playout.started_at_seconds
            await call.wait_for(lambda call: call.record.frames_sent >= 6)
        connection = await _connection(service)
    assert {len(frame) for frame in connection.frames} == {640}
    assert connection.frame_times_seconds[5] - start_seconds > 5 * 0.04 - 0.002


async def test_interruption_empties_the_buffer_and_heard_time_is_exact() -> None:
    reply = _sound(8000)

    async def reply_and_interrupt(connection: Connection) -> None:
        await connection.listen(2)
        await connection.send_audio(reply, message_bytes=32_000)
        await connection.listen(15)
        await connection.send("interruption")
        await connection.listen()

    async with avr_service(reply_and_interrupt) as service, await place_call(service.url) as call:
        await call.wait_for(lambda call: call.interruptions)
        (interruption,) = call.interruptions
        assert call.received_pcm == reply
        first_audio = call.report().first_audio_seconds
        assert first_audio is not None
        heard_samples = round((interruption.at_seconds - first_audio) * 8000)
        assert call.heard_ms * 8 == pytest.approx(heard_samples, abs=1)
        assert call.heard_ms * 8 + interruption.dropped_samples == 8000 * 8
        assert 200 < call.heard_ms < 8000
        await call.wait_for(lambda call: call.record.frames_sent >= 25)
        (segment,) = call.playout.segments(time.monotonic())
        assert segment.played_samples == call.heard_ms * 8
        start, end = segment.start_sample * 2, segment.end_sample * 2
        assert call.heard_pcm[start:end] == reply[: segment.played_samples * 2]
        assert not any(call.heard_pcm[end:])


async def test_transcripts_errors_and_the_close_are_recorded() -> None:
    async def refuse(connection: Connection) -> None:
        await connection.send("transcript", role="user", text="Is anybody there?")
        await connection.send("error", message="no capacity")
        await connection.websocket.close(code=1013, message=b"full")

    async with avr_service(_after_frames(1, refuse)) as service:
        call = await place_call(service.url)
        async with asyncio.timeout(5):
            await call.closed.wait()
    assert [(transcript.role, transcript.text) for transcript in call.transcripts] == [
        ("user", "Is anybody there?")
    ]
    assert [error.message for error in call.errors] == ["no capacity"]
    assert (call.close_code, call.close_reason) == (1013, "full")
    assert call.report().close_code == 1013


async def test_hanging_up_closes_with_1000_and_may_be_done_twice() -> None:
    async with avr_service(_listen) as service:
        call = await place_call(service.url)
        await asyncio.gather(call.hang_up(), call.hang_up())
        await call.hang_up()
        connection = await _connection(service)
    assert connection.websocket.close_code == 1000
    assert call.close_code == 1000
    assert call.closed.is_set()


async def test_hang_up_within_a_flood_of_audio_is_clean() -> None:
    async def flood(connection: Connection) -> None:
        listening = asyncio.create_task(connection.listen())
        try:
            while not listening.done():
                await connection.send_audio(bytes(320))
        finally:
            await listening

    async with avr_service(flood) as service, await place_call(service.url) as call:
        await call.wait_for(lambda call: call.record.frames_received >= 500)
        await call.hang_up()
        heard = call.heard_pcm
        await _connection(service)
        assert call.heard_pcm == heard
    assert call.close_code == 1000
    assert call.violations == []


async def test_a_dropped_call_ends_without_a_close_frame() -> None:
    async with avr_service(_listen) as service:
        call = await place_call(service.url)
        await call.wait_for(lambda call: call.record.frames_sent >= 2)
        await call.drop()
        connection = await _connection(service)
    assert connection.websocket.close_code == 1006
    assert call.close_code == 1006


async def test_a_service_that_drops_the_connection_is_seen_as_1006() -> None:
    async with avr_service(_after_frames(2, Connection.lose)) as service:
        call = await place_call(service.url)
        async with asyncio.timeout(5):
            await call.closed.wait()
    assert call.close_code == 1006


async def test_lost_call_reconnects_with_its_uuid_and_continues() -> None:
    reply, speech = _sound(1000), _sound(2000, seed=2)

    async def lose_the_first(connection: Connection) -> None:
        if len(service.connections) == 1:
            await connection.listen(3)
            await connection.send_audio(reply)
            await connection.listen(5)
            await connection.lose()
        else:
            await connection.listen()

    async with avr_service(lose_the_first) as service:
        async with await place_call(
            service.url, uuid="u1", metadata={"from": "1"}, speech=speech, reconnect_seconds=5
        ) as call:
            await call.wait_for(lambda call: call.outages and call.outages[0].back_at_seconds is not None)
            (outage,) = call.outages
            # The buffer plays its audio, and the microphone does not wait.
            await call.wait_for(lambda call: call.heard_ms == 1000)
            await call.wait_for(lambda call: not call.microphone.has_speech)
            (segment,) = call.playout.segments(time.monotonic())
            assert segment.played_samples == 8000
            assert call.close_code is None
        first, second = service.connections
        await second.over.wait()
    assert [connection.inits for connection in (first, second)] == [[{"type": "init", "uuid": "u1"}]] * 2
    assert second.query == {"from": "1"}
    heard_there = b"".join(first.frames) + b"".join(second.frames)
    assert speech.startswith(b"".join(first.frames))
    assert b"".join(second.frames).rstrip(b"\0") in speech
    assert len(heard_there) < len(speech) + 320 * 50, "what was lost was not repeated"
    assert outage.back_at_seconds is not None
    assert outage.back_at_seconds > outage.lost_at_seconds
    assert [(closing.code, closing.by) for closing in call.record.closings] == [
        (1006, ClosedBy.NOBODY),
        (1000, ClosedBy.CALLER),
    ]
    assert call.report().outages == (outage,)


async def test_call_reconnects_at_any_running_service(unused_tcp_port: int) -> None:
    async with avr_service(_after_frames(2, Connection.lose)) as old, avr_service() as new:
        urls = [f"ws://127.0.0.1:{unused_tcp_port}", new.url]
        async with await place_call(old.url, reconnect_seconds=5, reconnect_urls=urls) as call:
            await call.wait_for(lambda call: call.outages and call.is_connected)
            assert call.url == new.url
            frames = call.record.frames_received
            await call.wait_for(lambda call: call.record.frames_received > frames)
    assert len(old.connections) == len(new.connections) == 1


async def test_call_that_cannot_reconnect_in_time_ends() -> None:
    async with avr_service(_after_frames(2, Connection.lose)) as service:
        call = await place_call(service.url, reconnect_seconds=0.3, reconnect_urls=["ws://127.0.0.1:9"])
        async with asyncio.timeout(5):
            await call.closed.wait()
    assert call.close_code == 1006
    assert call.outages[0].back_at_seconds is None
    assert call.outages[0].lost_frames >= 10


@pytest.mark.parametrize("code", [1000, 1008, 1011, 1013])
async def test_a_service_that_closes_has_ended_the_call(code: int) -> None:
    async def close(connection: Connection) -> None:
        await connection.websocket.close(code=code)

    async with avr_service(_after_frames(1, close)) as service:
        call = await place_call(service.url, reconnect_seconds=5)
        async with asyncio.timeout(5):
            await call.closed.wait()
        assert len(service.connections) == 1
    assert [(closing.code, closing.by) for closing in call.record.closings] == [(code, ClosedBy.SERVICE)]
    assert not call.outages


async def test_a_caller_may_hang_up_while_there_is_no_connection() -> None:
    async with avr_service(_listen) as service:
        call = await place_call(service.url, reconnect_seconds=60, reconnect_urls=["ws://127.0.0.1:9"])
        await call.cut()
        await call.wait_for(lambda call: not call.is_connected)
        await call.hang_up()
    assert call.close_code == 1006
    assert call.record.closings[-1].by is ClosedBy.CALLER


async def test_core_that_stops_reading_gets_messages_when_it_resumes() -> None:
    async def send_much(connection: Connection) -> None:
        await connection.listen(2)
        await connection.send_audio(bytes(320 * 1000))
        await connection.listen()

    async with avr_service(send_much) as service, await place_call(service.url) as call:
        call.stop_reading()
        frames = call.record.frames_sent
        await call.wait_for(lambda call: call.record.frames_sent > frames + 20)
        assert call.record.frames_received <= 1
        call.read_again()
        await call.wait_for(lambda call: call.record.frames_received == 1000)


async def test_close_without_an_answer_times_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(core, "CLOSE_TIMEOUT_SECONDS", 0.2)
    left = asyncio.Event()

    async def deaf(_connection: Connection) -> None:
        await left.wait()

    async with avr_service(deaf) as service:
        call = await place_call(service.url)
        await call.hang_up()
        left.set()
    assert call.close_code == 1006


async def test_wait_fails_with_a_summary_at_timeout_or_call_end() -> None:
    async def close_at_two(connection: Connection) -> None:
        while await connection.receive() and not connection.others:
            pass
        await connection.websocket.close(code=1011, message=b"our fault")

    async with avr_service(close_at_two) as service, await place_call(service.url, uuid="u1") as call:
        with pytest.raises(TimeoutError, match=r"not within 0\.1 s: call u1 alive; .* 0 interruptions"):
            await call.wait_for(lambda call: call.interruptions, timeout_seconds=0.1)
        with pytest.raises(ZeroDivisionError):
            await call.wait_for(lambda call: 0 / (call.record.frames_sent < 8))
        waiting = asyncio.create_task(call.wait_for(lambda call: call.interruptions))
        await call.send_raw('{"type":"stop"}')
        with pytest.raises(CallError, match="the call ended: call u1 closed with 1011 our fault"):
            await waiting
        with pytest.raises(CallError, match="already over"):
            await call.say(bytes(320))
        with pytest.raises(CallError, match="the connection is closed"):
            await call.send_raw("more")
        await call.wait_for(lambda call: call.close_code == 1011)


async def test_any_message_can_be_sent_and_its_answer_seen() -> None:
    async with avr_service(_listen) as service:
        async with await place_call(service.url) as call:
            await call.send_raw("{nonsense")
            await call.send_raw(b"\x00\x01")
        connection = await _connection(service)
    assert connection.others == ["{nonsense", b"\x00\x01"]


async def test_a_service_that_breaks_the_protocol_is_seen() -> None:
    async def misbehave(connection: Connection) -> None:
        await connection.send_audio(bytes(100))
        await connection.websocket.send_bytes(b"binary")

    async with avr_service(_after_frames(1, misbehave)) as service, await place_call(service.url) as call:
        await call.wait_for(lambda call: len(call.violations) == 2)
    assert [violation.what for violation in call.violations] == [
        "an audio message of 100 bytes, not 320",
        "a binary message of 6 bytes",
    ]


@pytest.mark.parametrize(
    ("status", "phrase"), [(401, "HTTP 401 Unauthorized"), (503, "HTTP 503 Service Unavailable")]
)
async def test_refused_connection_is_named_without_secrets_of_the_url(status: int, phrase: str) -> None:
    async with avr_service(http_status=status) as service:
        with pytest.raises(CallError) as refusal:
            await place_call(service.url + "/sts?token=secret", metadata={"from": "+3902"})
    assert str(refusal.value) == f"cannot connect to {service.url}/sts: {phrase}"


async def test_absent_or_silent_service_is_named(unused_tcp_port: int) -> None:
    with pytest.raises(
        CallError, match=rf"^cannot connect to ws://127\.0\.0\.1:{unused_tcp_port}: Connection refused$"
    ):
        await place_call(f"ws://user:secret@127.0.0.1:{unused_tcp_port}?token=secret")
    gone = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        gone.set()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        with pytest.raises(CallError, match=r"no answer within 0\.2 s"):
            await place_call(f"ws://127.0.0.1:{port}", connect_timeout_seconds=0.2)
        async with asyncio.timeout(5):
            await gone.wait()


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1", "ws://", "ws://127.0.0.1:99999", "ws://[::1"])
async def test_address_not_of_a_websocket_is_refused(url: str) -> None:
    with pytest.raises(CallError, match="not a ws:// or wss:// address"):
        await place_call(url)


def test_a_call_that_nobody_ends_leaves_nothing_open() -> None:
    async def leave_a_call() -> None:
        async with avr_service(_listen) as service:
            call = await place_call(service.url)
            await call.wait_for(lambda call: call.record.frames_sent >= 1)
            raise KeyboardInterrupt

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(leave_a_call())
        gc.collect()
    assert [str(each.message) for each in caught] == []
