"""Which tests are Sans-I/O, and the guard that keeps this true.

Tests of the four packages open no socket, start no process and wait for no real time, unless `WITH_IO` names them
or they use Redis. They have the marker `sans_io`, and `make test-fast` runs them alone. In every run such a test
fails if it opens a socket or starts a process. `tests/conftest.py` registers this module as a plugin.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

MARKER: Final = "sans_io"

PACKAGES: Final = ("common/", "dispatcher/", "simulator/", "worker/")
"""Folders of tests of the product's code. Other folders test whole processes, documents or test programs."""

WITH_IO: Final = (
    "common/check/",
    "common/link/test_link_end.py",
    "common/net/test_listener.py",
    "common/net/test_ports.py",
    "common/net/test_proxy.py",
    "common/net/test_tls.py",
    "common/net/test_websocket.py",
    "common/net/test_websocket_handshake.py",
    "common/observe/test_admin.py",
    "common/observe/test_log_writer.py",
    "common/observe/test_logs.py::test_a_reader_that_went_away_does_not_hurt",
    "common/observe/test_metric_labels.py",
    "common/observe/test_metrics.py",
    "common/observe/test_span_export.py",
    "common/observe/test_tracing.py::test_without_variables_no_exporter_is_imported",
    "common/observe/test_tenant_series.py",
    "common/observe/test_value_file.py",
    "common/runtime/test_child.py",
    "common/runtime/test_cli.py",
    "common/runtime/test_completion.py",
    "common/runtime/test_healthcheck.py",
    "common/runtime/test_process.py",
    "common/runtime/test_runtime_folder.py",
    "common/runtime/test_supervisor.py",
    "common/settings/test_fallbacks.py::test_strict_settings_end_serve_with_78",
    "common/settings/test_secret_files.py::test_the_env_file_may_name_files_of_secrets",
    "common/store/test_embedded_redis.py",
    "common/store/test_redis_account.py",
    "common/store/test_registry_tls.py",
    "common/store/test_sentinels.py",
    "dispatcher/api/test_access.py",
    "dispatcher/api/test_admin.py",
    "dispatcher/api/test_event_stream.py",
    "dispatcher/api/test_page.py",
    "dispatcher/api/test_page_connection.py",
    "dispatcher/api/test_records_api.py",
    "dispatcher/asterisk/test_ami.py",
    "dispatcher/check/",
    "dispatcher/asterisk/test_transfers.py",
    "dispatcher/avr/test_legacy.py",
    "dispatcher/recording/test_recordings.py",
    "dispatcher/recording/test_writer.py",
    "dispatcher/records/test_configured.py",
    "dispatcher/records/test_directory_sink.py",
    "dispatcher/records/test_record_file.py",
    "dispatcher/records/test_records.py",
    "dispatcher/records/test_records_at_random.py",
    "dispatcher/records/test_records_faults.py",
    "dispatcher/records/test_redaction_hook.py",
    "dispatcher/records/test_webhook_sink.py",
    "dispatcher/runner/test_call_runner.py",
    "dispatcher/runner/test_call_runner_parting.py",
    "dispatcher/test_door.py",
    "dispatcher/test_service.py",
    "dispatcher/test_waiting_calls.py",
    "dispatcher/workers/test_await_workers.py",
    "dispatcher/workers/test_links.py",
    "dispatcher/workers/test_placement.py",
    "simulator/avr/test_ami.py",
    "simulator/avr/test_connect_errors.py",
    "simulator/avr/test_core.py",
    "simulator/avr/test_greeting.py",
    "simulator/avr/test_microphone.py",
    "simulator/dialogue/test_player.py",
    "simulator/dialogue/test_reader.py::test_line_without_recording_is_spoken",
    "simulator/realtime/test_server.py",
    "simulator/realtime/test_server_control.py",
    "simulator/test_call.py",
    "simulator/test_espeak.py",
    "simulator/test_load.py",
    "simulator/test_simulate.py",
    "simulator/test_terminal.py",
    "worker/check/",
    "worker/config/test_instructions.py",
    "worker/config/test_lost_secrets.py",
    "worker/config/test_profile.py",
    "worker/config/test_session_change.py",
    "worker/realtime/test_connection.py",
    "worker/runner/test_own_key.py",
    "worker/runner/test_session_runner.py",
    "worker/runner/test_session_runner_recovery.py",
    "worker/runner/test_session_queue.py",
    "worker/runner/test_tenants.py",
    "worker/test_commands.py",
    "worker/test_service.py",
    "worker/test_service_tools.py",
    "worker/tools/",
)
"""Folders, files and tests below `tests/` that need a socket, a process or real time."""

REDIS: Final = frozenset(
    {"redis_server", "real_redis_url", "redis_url", "redis_process", "locked_redis", "watched"}
)
"""Fixtures of real servers."""

IO_EVENTS: Final = frozenset(
    {
        *("socket.connect", "socket.bind", "socket.getaddrinfo"),
        *("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"),
    }
)
"""Audit events of Python. A loop's own pair of sockets raises none of them."""

TESTS: Final = Path(__file__).parent

_seen: set[str] | None = None
"""Audit events of the test that runs; None outside of a Sans-I/O test."""


def _audit(event: str, _arguments: tuple[Any, ...]) -> None:
    if _seen is not None and event in IO_EVENTS:
        _seen.add(event)


def _is_sans_io(path: str) -> bool:
    return path.startswith(PACKAGES) and not path.startswith(WITH_IO)


def pytest_configure() -> None:
    """Listen to Python's audit events, which cannot be undone."""
    sys.addaudithook(_audit)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files without Sans-I/O tests if only those are to run, because importing them takes long."""
    if config.option.markexpr != MARKER or not collection_path.name.startswith("test_"):
        return None
    return True if not _is_sans_io(collection_path.relative_to(TESTS).as_posix()) else None


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a Sans-I/O test."""
    path = item.path.relative_to(TESTS).as_posix()
    fixtures = getattr(item, "fixturenames", ())
    if _is_sans_io(f"{path}::{getattr(item, 'originalname', item.name)}") and not REDIS.intersection(fixtures):
        item.add_marker(MARKER)


def _guard(item: pytest.Item) -> Iterator[None]:
    global _seen  # noqa: PLW0603 - an audit hook has no other place
    if item.get_closest_marker(MARKER) is None:
        return (yield)
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt
    _seen = events = set()
    try:
        result = yield
    finally:
        _seen = None
    # uvloop starts processes without an audit event; the kernel counts for them when they have ended.
    if resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt != children:
        events.add("a child process")
    if events:
        found = ", ".join(sorted(events))
        pytest.fail(f"{item.nodeid} is no Sans-I/O test ({found}): name it in WITH_IO of tests/sans_io.py")
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Fail a Sans-I/O test whose fixtures open a socket or start a process."""
    return (yield from _guard(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a Sans-I/O test that does."""
    return (yield from _guard(item))
