from __future__ import annotations

import os
from pathlib import Path

import pytest

from common.settings.cores import cpu_quota, usable_cores

V2 = "0::/\n"
V1 = "12:memory:/docker/f00\n4:cpu,cpuacct:/docker/f00\n1:name=systemd:/docker/f00\n"


def system(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    """Write the control groups of a process into a folder; return the folder."""
    for name, text in {
        "proc/self/cgroup": cgroup,
        **{f"sys/fs/cgroup/{name}": files[name] for name in files},
    }.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    return root


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("cgroup", "files", "quota"),
    [
        pytest.param(V2, {"cpu.max": "200000 100000\n"}, 2.0, id="v2"),
        pytest.param(V2, {"cpu.max": "max 100000\n"}, None, id="v2 without a limit"),
        pytest.param(V2, {"cpu.max": "25000 50000\n"}, 0.5, id="v2 with another period"),
        pytest.param(V2, {}, None, id="v2 at the top, which has no such file"),
        pytest.param(
            "0::/kubepods/pod1/c1\n",
            {
                "kubepods/cpu.max": "max 100000",
                "kubepods/pod1/cpu.max": "150000 100000",
                "kubepods/pod1/c1/cpu.max": "max 100000",
            },
            1.5,
            id="v2 from outside of the container: the limit of a group above",
        ),
        pytest.param(
            "0::/a/b\n",
            {"a/cpu.max": "100000 100000", "a/b/cpu.max": "300000 100000"},
            1.0,
            id="v2, the smallest counts",
        ),
        pytest.param("0::/../../other\n", {"cpu.max": "100000 100000"}, 1.0, id="v2 outside of the namespace"),
        pytest.param(
            V1,
            {"cpu,cpuacct/cpu.cfs_quota_us": "300000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
            3.0,
            id="v1",
        ),
        pytest.param(
            V1,
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            None,
            id="v1 without a limit",
        ),
        pytest.param(
            V1,
            {"cpu/docker/f00/cpu.cfs_quota_us": "50000\n", "cpu/docker/f00/cpu.cfs_period_us": "100000\n"},
            0.5,
            id="v1 from outside of the container",
        ),
        pytest.param("not what it used to be\n", {"cpu.max": "100000 100000"}, None, id="not understood"),
        pytest.param(V2, {"cpu.max": "fast 0\n"}, None, id="no numbers"),
        pytest.param(V2, {"cpu.max": "100000 0\n"}, None, id="no period"),
    ],
)
def test_the_quota_of_control_groups(
    tmp_path: Path, cgroup: str, files: dict[str, str], quota: float | None
) -> None:
    assert cpu_quota(system(tmp_path, cgroup, files)) == quota


def test_a_system_without_control_groups_has_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None


@pytest.mark.usefixtures("eight_cores")
@pytest.mark.parametrize(
    ("quota_us", "cores"), [(1_000, 1), (100_000, 1), (150_000, 2), (200_000, 2), (1_600_000, 8)]
)
def test_cores_are_whole_within_the_affinity_and_never_none(tmp_path: Path, quota_us: int, cores: int) -> None:
    assert usable_cores(system(tmp_path, V2, {"cpu.max": f"{quota_us} 100000"})) == cores


@pytest.mark.usefixtures("eight_cores")
def test_without_a_quota_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cores(system(tmp_path, V2, {"cpu.max": "max 100000"})) == 8


def test_without_affinity_the_cores_of_the_machine_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert usable_cores(tmp_path) == 3


def test_this_machine_has_at_least_one_core() -> None:
    assert usable_cores() >= 1
