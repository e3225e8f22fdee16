"""Recordings of a whole dispatcher: real sockets, a real Redis, scripted workers, and the calls API over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from structlog.testing import capture_logs

from common.observe import admin
from common.store.recording_states import RecordingState, RecordingStates, StoredSegment
from common.store.registry import Registry
from dispatcher.api.admin import application
from dispatcher.recording import names
from dispatcher.recording.recorder import CallRecorder, NoRecorder
from dispatcher.recording.recordings import RecordingSettings
from dispatcher.recording.stretch import Stretch
from dispatcher.records.call_record import Segment, joined
from tests.dispatcher.recording.strict_wav import frames_of, read_strictly
from tests.dispatcher.rig import Core, Rig, counted
from tests.dispatcher.scripted_worker import attach_or_take
from tests.helpers import eventually
from tests.redis_process import RedisProcess

UUID = "call"
HOST = names.safe_host(socket.gethostname())
SOUND = np.full(160, 1000, "<i2").tobytes()


class Speaker:
    """A caller who makes sound all the time, until told to stop."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._task = asyncio.create_task(self._talk())

    async def _talk(self) -> None:
        while True:
            await self._core.audio(SOUND)
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


@contextlib.asynccontextmanager
async def talking(core: Core) -> AsyncIterator[None]:
    speaker = Speaker(core)
    try:
        yield
    finally:
        await speaker.stop()


class Api:
    """The calls API of a dispatcher."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def post(self, body: object, uuid: str = UUID) -> tuple[int, Any]:
        async with self._session.post(f"{self._url}/calls/{uuid}/recording", json=body) as response:
            return response.status, await response.json()

    async def get(self, uuid: str = UUID, query: str = "") -> tuple[int, Any]:
        async with self._session.get(f"{self._url}/calls/{uuid}/recording{query}") as response:
            if response.content_type == "audio/wav":
                return response.status, await response.read()
            return response.status, await response.json()

    async def delete(self, uuid: str = UUID) -> tuple[int, Any]:
        async with self._session.delete(f"{self._url}/calls/{uuid}/recording") as response:
            return response.status, await response.json()


@contextlib.asynccontextmanager
async def api_of(rig: Rig) -> AsyncIterator[Api]:
    sock = socket.create_server(("127.0.0.1", 0))
    runner = await admin.serve(application(rig.dispatcher), sock)
    try:
        async with aiohttp.ClientSession() as session:
            yield Api(session, f"http://127.0.0.1:{sock.getsockname()[1]}")
    finally:
        await runner.cleanup()


def settings_of(path: Path) -> RecordingSettings:
    return RecordingSettings(path, 86_400, 10**9)


def recorder_of(rig: Rig, uuid: str = UUID) -> CallRecorder:
    assert rig.dispatcher.recordings is not None
    recorder = rig.dispatcher.recordings.recorder_of(uuid)
    assert recorder is not None
    return recorder


def written_seconds(path: Path) -> float:
    """The length of the only recording in a folder."""
    files = list(path.glob("*.wav"))
    return len(read_strictly(files[0])) / 8000 if files else 0.0


def file_in(path: Path) -> Path:
    """The only recording in a folder."""
    (file,) = path.glob("*.wav")
    return file


async def has_written(path: Path, seconds: float) -> None:
    await eventually(lambda: written_seconds(path) >= seconds)


async def test_call_is_recorded_and_read_live_and_ended(real_redis_url: str, tmp_path: Path) -> None:
    async with Rig(real_redis_url, recordings=settings_of(tmp_path)) as rig, api_of(rig) as api:
        await rig.worker()
        before = counted("avr_sts_recording_seconds_total")
        core = await rig.live()
        async with talking(core):
            await has_written(tmp_path, 1.0)
            with capture_logs() as lines:
                status, content = await api.get()
        assert status == 200
        assert frames_of(content)[1000:, 0].any()
        assert [line["event"] for line in lines if "recording" in line["event"]] == ["recording read"]
        recorder = recorder_of(rig)
        status, answer = await api.delete()
        assert (status, answer["error"][:27]) == (409, "the call is being recorded:")
        await core.hang_up()
        await rig.nothing_is_left()
        (segment,) = recorder.segments()
        assert (segment.host, segment.from_seconds) == (HOST, 0.0)
        await has_written(tmp_path, segment.seconds - 0.001)
        status, content = await api.get()
        assert len(frames_of(content)) / 8000 == pytest.approx(segment.seconds, abs=0.001)
        assert segment.file == file_in(tmp_path).name
        await eventually(lambda: counted("avr_sts_recording_seconds_total") >= before + segment.seconds - 0.01)
        assert await api.delete() == (200, {"deleted": [segment.file]})
        assert (await api.get())[0] == 404


async def test_pause_silences_the_call_and_survives_another_dispatcher(
    real_redis_url: str, tmp_path: Path
) -> None:
    """The caller comes back to another dispatcher: the recording stays paused until it is told otherwise."""
    one, other = tmp_path / "one", tmp_path / "other"
    async with (
        Rig(real_redis_url, "d-1", recordings=settings_of(one)) as first,
        Rig(real_redis_url, "d-2", recordings=settings_of(other)) as second,
        api_of(first) as api,
        api_of(second) as second_api,
    ):
        await first.worker(answer=attach_or_take)
        await eventually(lambda: second.dispatcher.links.is_ready)
        core = await first.live()
        async with talking(core):
            await has_written(one, 1.0)
            assert await second_api.post({"paused": True}) == (200, {"paused": True, "stored": True})
            paused_at = recorder_of(first).timeline.taken_samples
            assert recorder_of(first).timeline.is_paused
            await has_written(one, paused_at / 8000 + 2.5)
        recorded = read_strictly(file_in(one))
        assert not recorded[paused_at + 2 * 8000 :].any()
        core.socket.transport.abort()
        core = await second.live()
        await eventually(lambda: recorder_of(second).is_known)
        assert recorder_of(second).timeline.is_paused
        earlier = recorder_of(second).earlier
        assert [(each.host, each.file) for each in earlier] == [(HOST, file_in(one).name)]
        async with talking(core):
            await has_written(other, 1.0)
            assert not read_strictly(file_in(other)).any()
            assert await second_api.post({"paused": False}) == (200, {"paused": False, "stored": True})
            await eventually(lambda: read_strictly(file_in(other)).any())
        assert len(recorder_of(second).segments()) == 2
        assert recorder_of(second).segments()[1].from_seconds > 0
        await core.hang_up()
        assert (await api.get())[0] == 200


async def test_recording_whose_state_nobody_knows_is_paused(real_redis_url: str, tmp_path: Path) -> None:
    async with (
        Rig(real_redis_url, "d-1") as first,  # it records nothing, so Redis has no state
        Rig(real_redis_url, "d-2", recordings=settings_of(tmp_path)) as second,
    ):
        await first.worker(answer=attach_or_take)
        await eventually(lambda: second.dispatcher.links.is_ready)
        core = await first.live()
        core.socket.transport.abort()
        with capture_logs() as lines:
            core = await second.live()
            await eventually(lambda: recorder_of(second).is_known)
        assert recorder_of(second).timeline.is_paused
        assert [line["uuid"] for line in lines if line["event"] == "recording paused"] == [UUID]
        await core.hang_up()


async def test_redis_that_restarts_empty_gets_the_state_again(redis_process: RedisProcess, tmp_path: Path) -> None:
    async with (
        Rig(redis_process.url, timeout_seconds=0.5, recordings=settings_of(tmp_path)) as rig,
        api_of(rig) as api,
    ):
        await rig.worker()
        await rig.live()
        redis_process.kill()
        assert await api.post({"paused": True}) == (200, {"paused": True, "stored": False})
        redis_process.start()
        registry = Registry.from_url(redis_process.url, timeout_seconds=30)
        states = RecordingStates(registry)

        async def is_stored() -> bool:
            state = await states.read(UUID)
            return state is not None and state.paused and len(state.segments) == 1

        await eventually(is_stored)
        await registry.aclose()


async def test_recording_on_another_host_is_named(real_redis_url: str, tmp_path: Path) -> None:
    async with Rig(real_redis_url, recordings=settings_of(tmp_path)) as rig, api_of(rig) as api:
        state = RecordingState(False, (StoredSegment("pod-7", "a.wav", 0.0, 1.0),))
        await RecordingStates(rig.registry).write({UUID: state}, {UUID: 60})
        status, answer = await api.get()
        assert status == 421
        assert answer["hosts"] == ["pod-7"]


async def test_several_files_of_a_call_are_listed(real_redis_url: str, tmp_path: Path) -> None:
    async with Rig(real_redis_url, recordings=settings_of(tmp_path)) as rig, api_of(rig) as api:
        await rig.worker()
        for _ in range(2):
            core = await rig.live()
            async with talking(core):
                await eventually(lambda: recorder_of(rig).segments())
            await core.hang_up()
            await rig.nothing_is_left()
        await eventually(lambda: len(list(tmp_path.glob("*.wav"))) == 2)
        status, answer = await api.get()
        assert status == 300
        assert len(answer["segments"]) == 2
        assert (await api.get(query="?segment=2"))[0] == 200
        assert (await api.get(query="?segment=3"))[0] == 404


@pytest.mark.parametrize("body", [{}, {"paused": 1}, {"paused": True, "seconds": 3}, []])
async def test_wrong_body_is_refused(real_redis_url: str, tmp_path: Path, body: object) -> None:
    async with Rig(real_redis_url, recordings=settings_of(tmp_path)) as rig, api_of(rig) as api:
        assert (await api.post(body))[0] == 400
        assert (await api.post({"paused": True}))[0] == 404


async def test_without_recordings_the_api_says_so(real_redis_url: str, tmp_path: Path) -> None:
    async with Rig(real_redis_url) as rig, api_of(rig) as api:
        for status, answer in (await api.get(), await api.post({"paused": True}), await api.delete()):
            assert (status, answer["error"]) == (409, "calls are not recorded: set RECORDINGS_DIR")


async def test_odd_uuid_is_recorded_and_read(real_redis_url: str, tmp_path: Path) -> None:
    uuid = "a.b:c@d"
    async with Rig(real_redis_url, recordings=settings_of(tmp_path)) as rig, api_of(rig) as api:
        await rig.worker()
        core = await rig.live(uuid)
        async with talking(core):
            await has_written(tmp_path, 1.0)
        await core.hang_up()
        await rig.nothing_is_left()
        status, content = await api.get(uuid)
        assert status == 200
        assert frames_of(content).any()


async def test_disk_that_refuses_costs_a_call_nothing(real_redis_url: str, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    async with Rig(real_redis_url, recordings=settings_of(blocked / "recordings")) as rig:
        worker = await rig.worker()
        with capture_logs() as lines:
            core = await rig.live()
            async with talking(core):
                await eventually(lambda: counted('avr_sts_recording_dropped_seconds_total{reason="error"}') >= 2)
        assert counted("avr_sts_recording_stopped") == 1
        assert worker.received
        assert rig.state() == "live"
        assert [line["event"] for line in lines].count("recording stopped") <= 1
        await core.hang_up()


def test_recorder_ends_at_the_longest_recording(tmp_path: Path) -> None:
    output = _Output()
    recorder = CallRecorder(output, HOST, max_samples=2 * 8000)
    recorder.timeline.begin(1000.0)
    recorder.begin(UUID)
    recorder.placed(1000.0, is_older=False)
    for frame in range(300):
        recorder.timeline.caller(SOUND, 1000.02 + frame * 0.02)
        recorder.tick(1000.02 + frame * 0.02)
    recorder.end(1006.0, moved=False)
    (first,) = output.written  # the next would end behind two seconds
    assert output.too_long_samples == 6 * 8000 - first.samples
    assert recorder.segments()[0].seconds == first.samples / 8000


def test_files_of_a_recording_are_named_once_and_in_order() -> None:
    first, second = Segment("a", "1.wav", 0.0, 5.0), Segment("b", "2.wav", 7.0, 1.0)
    longer = Segment("a", "1.wav", 0.0, 6.5)
    assert joined((first,), ()) == (first,)
    assert joined((first,), (longer, second)) == (longer, second)
    assert joined((second,), (longer,)) == (longer, second)


def test_call_that_is_not_recorded_has_no_files() -> None:
    recorder = NoRecorder()
    recorder.begin(UUID)
    recorder.placed(0.0, is_older=True)
    recorder.tick(1.0)
    recorder.end(2.0, moved=False)
    assert recorder.segments() == ()
    assert recorder.timeline is None


class _Output:
    """Takes what a recorder writes."""

    def __init__(self) -> None:
        self.written: list[Stretch] = []
        self.too_long_samples = 0

    def started(self, recorder: CallRecorder) -> None:
        recorder.file = "a.wav"

    def write(self, recorder: CallRecorder, stretch: Stretch) -> bool:
        self.written.append(stretch)
        return True

    def too_long(self, samples: int) -> None:
        self.too_long_samples += samples

    def late(self, samples: int) -> None:
        raise AssertionError(samples)

    def recall(self, recorder: CallRecorder) -> None:
        raise AssertionError

    def ended(self, recorder: CallRecorder, *, moved: bool) -> None:
        pass
