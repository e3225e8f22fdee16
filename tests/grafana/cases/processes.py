"""Cases of the alerts on processes."""

from __future__ import annotations

from typing import Final

from tests.grafana.cases.case import AlertCase, of, slow, ticks

TICKS: Final = {of("event_loop_lag_seconds_count", process="worker", pod="w0"): "0+30x200"}

ALERT_CASES: Final = (
    AlertCase("AvrStsWorkerLost", {of("repins_total", reason="worker_lost"): "0+1x30"}, "10m", value="20"),
    AlertCase("AvrStsWorkerLost", {of("repins_total", reason="drain"): "0+1x30"}, "10m", firing=False),
    # Restarts counted by serve, and by a cluster.
    AlertCase("AvrStsWorkersRestart", {of("worker_restarts_total"): "0 1 2 3 4x60", **TICKS}, "30m", value="4"),
    AlertCase(
        "AvrStsWorkersRestart",
        {
            of("event_loop_lag_seconds_count", process="worker", pod="w0"): "0+30x5 0+30x5 0+30x5 0+30x60",
            of("event_loop_lag_seconds_count", process="dispatcher", pod="d0"): "0+30x200",
        },
        "20m",
        value="3",
    ),
    AlertCase("AvrStsWorkersRestart", {of("worker_restarts_total"): "0 1x60", **TICKS}, "30m", firing=False),
    AlertCase(
        "AvrStsDispatchersRestart",
        {of("dispatcher_restarts_total"): "0 1 2x60", ticks("dispatcher"): "0+30x200"},
        "30m",
        value="2",
    ),
    AlertCase("AvrStsDispatchersRestart", {ticks("dispatcher"): "0+30x5 0+30x5 0+30x60"}, "20m", value="2"),
    AlertCase("AvrStsDispatchersRestart", {ticks("worker"): "0+30x5 0+30x5 0+30x60"}, "20m", firing=False),
    AlertCase("AvrStsRedisRestarts", {of("redis_restarts_total"): "0 1 2x60"}, "20m", value="2"),
    AlertCase("AvrStsRedisRestarts", {of("redis_restarts_total"): "0 1x60"}, "20m", firing=False),
    AlertCase(
        "AvrStsWorkerRedisDown",
        {of("worker_redis_up", pod="w0"): "1x20", of("worker_redis_up", pod="w1"): "1x5 0x15"},
        "5m",
        value="1",
    ),
    AlertCase("AvrStsWorkerRedisDown", {of("worker_redis_up"): "1x5 0 1x15"}, "5m", firing=False),
    AlertCase(
        "AvrStsFilesNearLimit",
        {
            'process_open_fds{namespace="voice", process="worker"}': "900x40",
            'process_max_fds{namespace="voice", process="worker"}': "1000x40",
        },
        "15m",
        value="90%",
        labels={"namespace": "voice", "process": "worker"},
    ),
    # Processes of others have no such label.
    AlertCase(
        "AvrStsFilesNearLimit",
        {'process_open_fds{job="node"}': "900x40", 'process_max_fds{job="node"}': "1000x40"},
        "15m",
        firing=False,
    ),
    AlertCase(
        "AvrStsReleasesDiffer",
        {of("build_info", version=version, pod=version): "1x500" for version in ("0.2.0", "0.3.0")},
        "3h30m",
        value="2",
        every="2m",
    ),
    # Old dispatchers wait for their calls, for an hour.
    AlertCase(
        "AvrStsReleasesDiffer",
        {
            of("build_info", version="0.2.0", pod="d0"): "1x30 stale",
            of("build_info", version="0.3.0", pod="d1"): "1x500",
            of("build_info", version="0.3.0", pod="d2"): "1x500",
        },
        "3h30m",
        firing=False,
        every="2m",
    ),
    AlertCase(
        "AvrStsTaskFails",
        {of("task_failures_total", process="worker", task="publish"): "0+0.25x200"},
        "60m",
        labels={"namespace": "voice", "process": "worker", "task": "publish"},
    ),
    AlertCase(
        "AvrStsTaskFails",
        {of("task_failures_total", process="worker", task="publish"): "0x20 2x180"},
        "60m",
        firing=False,
    ),
    AlertCase(
        "AvrStsIllegalTransitions", {of("illegal_transitions_total", process="worker"): "0x20 4x180"}, "60m"
    ),
    AlertCase(
        "AvrStsIllegalTransitions",
        {of("illegal_transitions_total", process="worker"): "0x20 1x180"},
        "60m",
        firing=False,
    ),
    AlertCase("AvrStsRedisDown", {of("redis_up", pod="d0"): "1x20", of("redis_up", pod="d1"): "1x5 0x15"}, "5m"),
    AlertCase("AvrStsRedisDown", {of("redis_up", pod="d0"): "1x5 0 1x15"}, "5m", firing=False),
    AlertCase(
        "AvrStsEventLoopLate",
        slow("event_loop_lag_seconds", "0.25", "0.5", process="worker"),
        "15m",
        value="497.5ms",
        labels={"namespace": "voice", "process": "worker"},
    ),
    AlertCase(
        "AvrStsEventLoopLate",
        slow("event_loop_lag_seconds", "0.001", "0.0025", process="worker"),
        "15m",
        firing=False,
    ),
)
