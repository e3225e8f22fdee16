"""A full temporary folder costs figures, and no process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.common.speaker import Speaker
from tests.tiny_folder import fill, tiny_folder

MANY_SERIES = "[metrics.worker().tool(f't{n}').ended('completed', 1) for n in range(30)]"


@pytest.fixture
def start_in() -> Iterator[Callable[[Path, str], Speaker]]:
    """Starts a process whose slot has this name, with its metrics in this folder."""
    speakers: list[Speaker] = []

    def start(folder: Path, name: str) -> Speaker:
        speakers.append(Speaker(str(folder), name))
        return speakers[-1]

    yield start
    for speaker in speakers:
        speaker.kill()


def test_a_process_starts_in_a_full_folder(tmp_path: Path, start_in: Callable[[Path, str], Speaker]) -> None:
    with tiny_folder(tmp_path, 1 << 16) as folder:
        fill(folder)
        worker = start_in(folder, "worker-0")
        worker.tell("metrics.worker().relay_in.observe(0.001)", "metrics.worker().calls_active.inc()")
        assert worker.tell("metrics.worker().calls_active._value.get()") == 1
        assert worker.scrape() == {}
        worker.kill()


def test_a_folder_that_fills_up_costs_new_series_alone(
    tmp_path: Path, start_in: Callable[[Path, str], Speaker]
) -> None:
    with tiny_folder(tmp_path, 1 << 20) as folder:
        worker = start_in(folder, "worker-0")
        worker.tell("metrics.worker().calls_active.set(3)")
        fill(folder)
        worker.tell(
            MANY_SERIES, "metrics.worker().calls_active.set(4)", "metrics.worker().turn_latency.observe(1)"
        )
        samples = worker.scrape()
        assert samples["avr_sts_calls_active"] == 4
        assert samples["avr_sts_turn_latency_seconds_count"] == 1
        assert "avr_sts_tool_duration_seconds_count[completed][t29]" not in samples
        assert worker.tell("metrics.worker().tool('t29').seconds['completed']._sum.get()") == 1
        histograms = {name.partition("[")[0].removesuffix("_sum") for name in samples if "_sum" in name}
        for name in histograms:  # none was cut in the middle: each has its last bucket
            sums, ends = (
                [each for each in samples if each.startswith(f"{name}_{part}")] for part in ("sum", "bucket")
            )
            assert len(sums) == sum("[+Inf]" in each for each in ends)

        # There is room again: the next process of the slot has all its values in /metrics.
        worker.kill()
        (folder / "ballast").unlink()
        after = start_in(folder, "worker-0")
        after.tell(MANY_SERIES)
        samples = after.scrape()
        assert samples["avr_sts_tool_duration_seconds_count[completed][t29]"] == 1
        assert samples["avr_sts_turn_latency_seconds_count"] == 1
        after.kill()


def test_a_full_file_system_is_logged_once(tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from common.observe import logs, metrics
logs.configure("worker-0")
metrics.share(Path(sys.argv[1]), "worker-0")
{MANY_SERIES}
"""
    with tiny_folder(tmp_path, 1 << 16) as folder:
        fill(folder)
        done = subprocess.run(
            [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True
        )
        (line,) = [json.loads(each) for each in done.stderr.splitlines()]
    assert line["event"] == "metrics file cannot grow"
    assert (line["folder"], line["error"]) == (str(folder), "No space left on device")


@pytest.mark.parametrize("limit_bytes", [0, 1000, 1 << 16, 100_000])
def test_a_limit_of_file_sizes_is_no_end(tmp_path: Path, limit_bytes: int) -> None:
    """Fail when a file grows, as a quota does."""
    program = f"""
import resource, sys
from pathlib import Path
from common.observe import metrics
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes}, {limit_bytes}))
metrics.share(Path(sys.argv[1]), "worker-0")
{MANY_SERIES}
print(metrics.worker().tool("t29").calls["completed"]._value.get())
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, check=True)
    assert done.stdout.splitlines()[-1] == b"1.0"


def test_a_folder_that_is_gone_is_no_end(tmp_path: Path, start_in: Callable[[Path, str], Speaker]) -> None:
    worker = start_in(tmp_path / "gone", "worker-0")
    worker.tell("metrics.worker().calls_active.inc()")
    assert worker.tell("metrics.worker().calls_active._value.get()") == 1
    assert worker.scrape() == {}


@pytest.mark.parametrize(
    "content",
    [
        b"\x01",
        b"\xff" * 4096,
        bytes(4096),
        b"\x20\x00\x00\x00" + bytes(12) + b"\xff" * 64,
        b"\x00\x10\x00\x00\x00",
    ],
    ids=["a byte", "ones", "zeros", "no JSON", "shorter than it says"],
)
def test_a_broken_file_costs_its_own_values_alone(
    tmp_path: Path, start_in: Callable[[Path, str], Speaker], content: bytes
) -> None:
    (tmp_path / "counter_worker-0.db").write_bytes(content)
    (tmp_path / "gauge_livesum_worker-0.db").write_bytes(content)
    asked = start_in(tmp_path, "dispatcher-0")
    asked.tell("metrics.dispatcher().interruptions.inc()")
    assert asked.scrape()["avr_sts_interruptions_total"] == 1

    # Whoever takes the slot begins anew.
    worker = start_in(tmp_path, "worker-0")
    worker.tell("metrics.worker().upstream_errors.inc('timeout')", "metrics.worker().calls_active.set(2)")
    samples = asked.scrape()
    assert samples["avr_sts_upstream_errors_total[timeout][ours]"] == 1
    assert samples["avr_sts_calls_active"] == 2
