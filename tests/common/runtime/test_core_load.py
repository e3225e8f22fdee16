from __future__ import annotations

import time
from pathlib import Path

import pytest

from common.net.adaptive_interval import AdaptiveInterval
from common.runtime.core_load import CoreLoad
from tests.common.settings.test_cores import V1, V2, system

SCHEDSTAT = "4000000000 2500000000 77\n"


def write(root: Path, name: str, text: str) -> None:
    (root / name).write_text(text, "utf-8")


def test_the_counters_of_this_process_are_read() -> None:
    core = CoreLoad()
    first = core.read()
    until_seconds = time.process_time() + 0.05
    while time.process_time() < until_seconds:
        pass
    second = core.read()
    assert second.cpu_seconds - first.cpu_seconds >= 0.05
    assert second.waited_seconds >= first.waited_seconds
    assert second.group_seconds >= first.group_seconds


@pytest.mark.parametrize(
    ("cgroup", "files", "name", "text"),
    [
        pytest.param(
            V2,
            {"cpu.max": "50000 100000", "cpu.stat": "usage_usec 1500000\nuser_usec 9\n"},
            "sys/fs/cgroup/cpu.stat",
            "usage_usec 1600000\n",
            id="v2",
        ),
        pytest.param(
            V1,
            {
                "cpu,cpuacct/cpu.cfs_quota_us": "50000",
                "cpu,cpuacct/cpu.cfs_period_us": "100000",
                "cpu,cpuacct/cpuacct.usage": "1500000000\n",
            },
            "sys/fs/cgroup/cpu,cpuacct/cpuacct.usage",
            "1600000000\n",
            id="v1",
        ),
    ],
)
def test_the_counters_of_a_container_are_read(
    tmp_path: Path, cgroup: str, files: dict[str, str], name: str, text: str
) -> None:
    root = system(tmp_path, cgroup, files)
    write(root, "proc/self/schedstat", SCHEDSTAT)
    core = CoreLoad(root)
    assert core.limit_cores == 0.5
    reading = core.read()
    assert (reading.waited_seconds, reading.group_seconds) == (2.5, 1.5)
    write(root, name, text)
    assert core.read().group_seconds == pytest.approx(1.6)


def test_a_group_above_with_the_limit_counts_as_the_container(tmp_path: Path) -> None:
    root = system(
        tmp_path,
        "0::/pod/one\n",
        {
            "pod/cpu.max": "100000 100000",
            "pod/cpu.stat": "usage_usec 8000000\n",
            "pod/one/cpu.max": "max 100000",
            "pod/one/cpu.stat": "usage_usec 1\n",
        },
    )
    assert CoreLoad(root).read().group_seconds == 8.0


def test_counters_that_the_system_lacks_do_not_change_the_load(tmp_path: Path) -> None:
    core = CoreLoad(system(tmp_path, V2, {"cpu.max": "50000 100000"}))
    reading = core.read()
    assert (reading.waited_seconds, reading.group_seconds) == (0.0, 0.0)
    interval = AdaptiveInterval(core.limit_cores)
    interval.measure(0.0, reading)
    interval.measure(100.0, reading)
    assert interval.load == 0.0


@pytest.mark.parametrize("text", ["", "7\n", "one two three\n"])
def test_a_counter_that_becomes_unreadable_keeps_its_value(tmp_path: Path, text: str) -> None:
    root = system(tmp_path, V2, {"cpu.max": "50000 100000", "cpu.stat": "usage_usec 1500000\n"})
    write(root, "proc/self/schedstat", SCHEDSTAT)
    core = CoreLoad(root)
    core.read()
    write(root, "proc/self/schedstat", text)
    write(root, "sys/fs/cgroup/cpu.stat", text)
    assert core.read()[1:] == (2.5, 1.5)
