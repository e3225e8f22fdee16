"""Run a dispatcher process: start, report readiness, drain, and end in numbered steps."""

from __future__ import annotations

import asyncio
import functools
import os
import secrets
import socket

from common.net.ports import ALL_ADDRESSES, bound_socket, listen_socket, port_of
from common.net.tls import Tls, TlsFiles
from common.observe import admin, logs, metrics, tracing
from common.observe.metrics import LastingTask
from common.runtime.lasting_task import repeat
from common.runtime.process import Process
from common.runtime.release import COMPILED, RELEASE
from common.settings.settings import Settings
from common.store.registry import Registry
from dispatcher.api.admin import application
from dispatcher.api.service_api import FrontDoor
from dispatcher.asterisk.ami import Ami
from dispatcher.call.limits import BAD_INPUT_REASONS, CallLimits
from dispatcher.recording.recordings import RecordingSettings
from dispatcher.records import configured
from dispatcher.records.record_writer import RecordWriter
from dispatcher.runner.measurements import count_lost
from dispatcher.runner.sounds import load
from dispatcher.security import Security
from dispatcher.service import Dispatcher

log = logs.get_logger()


async def run(settings: Settings, process: Process) -> int:
    """Dispatch calls until the process is asked to stop.

    Raises:
        SettingsError: PORT or ADMIN_PORT is not available, a recording cannot be read any more, or
            CALL_RECORDS_REDACT cannot be loaded.
    """
    redis_address = settings.redis_address
    assert redis_address is not None
    shared = process.child is not None
    sock = bound_socket(ALL_ADDRESSES, settings.port, variable="PORT", reuse_port=shared)
    admin_sock = listen_socket(ALL_ADDRESSES, settings.admin_port, variable="ADMIN_PORT", reuse_port=shared)
    registry = Registry.from_url(redis_address)
    dispatcher_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    measured = metrics.dispatcher()
    measured.bad_input.expect(*BAD_INPUT_REASONS)
    tenants = settings.known_tenants
    measured.expect_tenants(*tenants.labels)
    limits = CallLimits(reconnect_seconds=settings.call_reconnect_seconds)
    tls = Tls(settings.tls, TlsFiles.of_port) if settings.tls else None
    cluster_tls = Tls(settings.cluster_tls, TlsFiles.of_dispatcher) if settings.cluster_tls else None
    known = process.secrets
    process.reloaded.append(lambda: registry.use_account(known.settings.redis_address))
    process.reloaded += [each.look_soon for each in (tls, cluster_tls) if each is not None]
    records_redis = configured.connection(known)
    process.reloaded.append(lambda: configured.reload(known, records_redis))
    records = configured.configured(
        known, records_redis, name=process.name, dispatcher_id=dispatcher_id, metrics=measured
    )
    security = Security(
        known.sts_token,
        tls,
        known.cluster_token,
        cluster_tls,
        allowed_origins=frozenset(settings.allowed_origins or ()),
    )
    tracer = tracing.start(
        os.environ, role="dispatcher", instance=dispatcher_id, release=RELEASE, dropped=measured.spans_dropped.inc
    )
    dispatcher = Dispatcher(
        dispatcher_id,
        RELEASE,
        registry,
        metrics=measured,
        ami=Ami(settings.ami_url),
        limits=limits,
        security=security,
        announcements=load(settings),
        records=RecordWriter(
            registry,
            fields=settings.call_records_metadata,
            with_text=settings.call_records_text,
            keeper=records,
            tracer=tracer,
            lost=functools.partial(count_lost, measured),
            tenants=tenants,
        ),
        tracer=tracer,
        # Under `serve` the workers end too, so the calls cannot be left to workers.
        leaves_calls=not shared,
        record_taker=records,
        recordings=_recordings(settings),
        tenants=tenants,
    )
    await records.start()
    # Without a token, the calls API and its page answer this host alone.
    has_page_calls = known.admin_token is None if settings.page_calls is None else settings.page_calls
    front_door = FrontDoor(port_of(sock), tls=tls is not None, needs_token=settings.sts_token is not None)
    app = application(dispatcher, known.admin_token, front_door=front_door, has_page_calls=has_page_calls)
    runner = await admin.serve(app, admin_sock)

    def is_listening() -> None:
        log.info(
            "dispatcher listening",
            dispatcher=dispatcher.id,
            port=port_of(sock),
            admin_port=port_of(admin_sock),
            compiled=COMPILED,
        )

    await dispatcher.start(sock, is_listening)
    failures = measured.task_failures[LastingTask.CERTIFICATES]
    renewing = [
        asyncio.create_task(repeat(each.look_later, task="certificates", failures=failures))
        for each in (tls, cluster_tls)
        if each is not None
    ]

    ready = asyncio.create_task(dispatcher.links.wait_up())
    ready.add_done_callback(lambda _: process.ready())
    process.calls = lambda: dispatcher.calls
    await process.draining.wait()

    # 1. Take no new calls, and let running calls end by themselves until the deadline.
    log.info("draining", calls=dispatcher.calls)
    await dispatcher.drain(process.stopping)
    # 2. Leave the remaining calls to the workers, or end them with an error that names the cause.
    await dispatcher.stop()
    # 3. Deliver the last calls' records, or leave them to other dispatchers.
    await records.stop(process.stopping)
    await dispatcher.keep_drafts()
    # 4. End the probes and metrics last, so that monitoring sees the drain until its end.
    for task in (ready, *renewing):
        task.cancel()
    await tracer.stop()
    await runner.cleanup()
    await registry.aclose()
    return 0


def _recordings(settings: Settings) -> RecordingSettings | None:
    if settings.recordings_dir is None:
        return None
    return RecordingSettings(
        settings.recordings_dir, settings.recordings_keep_seconds, settings.recordings_max_bytes
    )
