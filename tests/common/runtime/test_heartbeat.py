from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from common.runtime.heartbeat import BEAT, MAX_SILENCE_SECONDS, MAX_START_SECONDS, READY, Heartbeat, Watchdog


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Yield the reading and the writing end."""
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    yield read_fd, write_fd
    os.close(read_fd)


def test_a_heartbeat_reports_ready_once(pipe: tuple[int, int]) -> None:
    read_fd, write_fd = pipe
    heartbeat = Heartbeat(write_fd)
    heartbeat.beat()
    heartbeat.ready()
    heartbeat.beat()
    assert os.read(read_fd, 100) == BEAT + READY + BEAT
    heartbeat.close()


def test_an_unread_heartbeat_does_not_block(pipe: tuple[int, int]) -> None:
    read_fd, write_fd = pipe
    heartbeat = Heartbeat(write_fd)
    for _ in range(1 << 16):  # a pipe has 64 KiB
        heartbeat.beat()
    heartbeat.ready()  # is lost for now
    while True:
        try:
            os.read(read_fd, 1 << 16)
        except BlockingIOError:
            break
    heartbeat.beat()
    assert os.read(read_fd, 100) == READY
    heartbeat.close()


def test_a_heartbeat_without_a_reader_ends() -> None:
    read_fd, write_fd = os.pipe()
    heartbeat = Heartbeat(write_fd)
    os.close(read_fd)
    heartbeat.beat()
    heartbeat.beat()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(write_fd)


def test_a_heartbeat_is_not_inherited(pipe: tuple[int, int]) -> None:
    _, write_fd = pipe
    os.set_inheritable(write_fd, True)
    heartbeat = Heartbeat(write_fd)
    assert not os.get_inheritable(write_fd)
    heartbeat.close()


def test_a_process_without_supervisor_writes_no_heartbeat() -> None:
    heartbeat = Heartbeat(-1)
    heartbeat.ready()
    heartbeat.beat()
    heartbeat.close()


def hung_after(watchdog: Watchdog, since: int) -> int:
    """Ask each second, and return after how many seconds the process counts as hung."""
    return next(second for second in range(1, 1000) if watchdog.is_hung(since + second))


def test_silence_of_a_process_that_has_begun_is_a_hang() -> None:
    watchdog = Watchdog(0)
    watchdog.heard()
    assert hung_after(watchdog, 0) == MAX_SILENCE_SECONDS + 1


def test_a_beat_ends_a_silence() -> None:
    watchdog = Watchdog(0)
    watchdog.heard()
    for second in range(1, 100):
        watchdog.heard()
        assert not watchdog.is_hung(second)
    watchdog.heard()
    assert hung_after(watchdog, 99) == MAX_SILENCE_SECONDS + 1


def test_a_process_that_starts_has_more_time() -> None:
    watchdog = Watchdog(0)
    assert hung_after(watchdog, 0) == MAX_START_SECONDS + 1


def test_time_without_a_look_does_not_count() -> None:
    watchdog = Watchdog(0)
    watchdog.heard()
    assert not watchdog.is_hung(1)
    assert not watchdog.is_hung(3600)
    assert watchdog.silent_seconds == 3
    assert hung_after(watchdog, 3600) == MAX_SILENCE_SECONDS - 2
