"""Run a worker process: start, report readiness, drain, and end in numbered steps."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time

from common.net.ports import (
    ALL_ADDRESSES,
    host_address,
    host_and_port,
    listen_socket,
    port_of,
)
from common.net.tls import Tls, TlsFiles
from common.net.websocket import WebSocket
from common.observe import admin, logs, metrics, tracing
from common.observe.metrics import LastingTask
from common.observe.upstream_codes import OPERATOR_CODES, PASSING_CODES
from common.runtime.lasting_task import repeat
from common.runtime.process import Process
from common.runtime.release import COMPILED, RELEASE
from common.settings.settings import Settings
from common.store.leases import WorkerRecord, WorkerState
from common.store.registry import Registry
from worker.config import instructions
from worker.config.prices import Prices
from worker.runner.resources import Resources
from worker.service import Worker
from worker.tools import built_in
from worker.tools.tool_registry import ToolRegistry

log = logs.get_logger()


async def run(settings: Settings, process: Process) -> int:
    """Serve calls until the process is asked to stop.

    Raises:
        SettingsError: WORKER_PORT or ADMIN_PORT is not available.
    """
    redis_address = settings.redis_address
    assert redis_address is not None
    address = settings.worker_address or host_address(redis_address)
    # Under `serve`, all links come from this machine, and dispatchers serve the admin port for all processes.
    host = ALL_ADDRESSES if process.child is None else address
    sock = listen_socket(host, settings.worker_port, variable="WORKER_PORT")
    registry = Registry.from_url(redis_address)
    boot_id = secrets.token_hex(8)
    hostname = socket.gethostname()
    record = WorkerRecord(
        id=f"{hostname}-{os.getpid()}-{boot_id[:6]}",
        address=host_and_port(address, port_of(sock)),
        host=hostname,
        pid=os.getpid(),
        release=RELEASE,
        capacity=settings.worker_max_calls,
        state=WorkerState.READY,
        boot_id=boot_id,
    )
    tools = ToolRegistry.of(settings)
    await tools.start()
    http = instructions.http_client()
    measured = metrics.worker()
    # These series start at 0, because Prometheus's rate() misses the first event of a series that starts at 1.
    measured.upstream_errors.expect(*OPERATOR_CODES, *PASSING_CODES)
    measured.expect_tenants(*settings.known_tenants.labels)
    measured.expect_model(settings.openai_model)
    measured.expect_model(settings.openai_transcription_model)
    functions = dict.fromkeys((*sorted(built_in.BUILT_IN), *(await tools.tool_set()).names))
    measured.expect_tools(*list(functions)[: metrics.MAX_LABEL_VALUES])
    tracer = tracing.start(
        os.environ, role="worker", instance=record.id, release=RELEASE, dropped=measured.spans_dropped.inc
    )
    prices = Prices.load(settings.prices_file)
    resources = Resources(process.secrets, measured, prices, tools, http, tracer=tracer)
    resources.own_key.use(settings.openai_api_key)
    process.reloaded.append(lambda: resources.own_key.use(resources.settings.openai_api_key))
    process.reloaded.append(lambda: registry.use_account(resources.settings.redis_address))
    tls = Tls(settings.cluster_tls, TlsFiles.of_worker) if settings.cluster_tls else None
    worker = Worker(record, registry, resources, tls=tls)
    WebSocket.stall_guard = worker.watch
    runner, admin_port = None, None
    if process.child is None:
        admin_sock = listen_socket(ALL_ADDRESSES, settings.admin_port, variable="ADMIN_PORT")
        app = admin.application(
            lambda: worker.is_ready, "draining, or its record in Redis is out of date", lambda: worker.problems
        )
        runner, admin_port = await admin.serve(app, admin_sock), port_of(admin_sock)
    await worker.start(sock)
    if tls is not None:
        process.reloaded.append(tls.look_soon)
    failures = measured.task_failures[LastingTask.CERTIFICATES]
    renewing = asyncio.create_task(repeat(tls.look_later, task="certificates", failures=failures)) if tls else None
    log.info(
        "worker listening",
        worker=record.id,
        address=record.address,
        capacity=record.capacity,
        admin_port=admin_port,
        compiled=COMPILED,
    )
    process.calls = lambda: worker.calls
    process.ready()
    await process.draining.wait()

    # 1. Take no new calls, and move each running call at its next quiet moment.
    log.info("draining", calls=worker.calls)
    assert process.drain_deadline is not None
    await worker.drain(process.stopping, process.drain_deadline - time.monotonic())
    # 2. End the remaining calls.
    await worker.stop()
    await tools.stop()
    await http.close()
    await tracer.stop()
    # 3. End the probes and metrics last, so that monitoring sees the drain until its end.
    if runner is not None:
        await runner.cleanup()
    if renewing is not None:
        renewing.cancel()
    await registry.aclose()
    return 0
