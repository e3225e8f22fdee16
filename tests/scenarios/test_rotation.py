"""docs/rotation.md on running services: what a test of secrets alone does not show, each during a call."""

from __future__ import annotations

import signal
import ssl
from pathlib import Path
from typing import Any

from common.net.tls import TlsFiles
from simulator.avr.connection import CallError
from simulator.avr.core import SimulatedCall, place_call
from simulator.realtime.server import RealtimeSimulator
from tests.certificates import Authority
from tests.dispatcher.records.receiver import Receiver
from tests.helpers import eventually
from tests.scenarios.processes import PATIENCE_SECONDS, Cluster, ServiceProcess
from tests.scenarios.tones import tone

FIRST = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SECOND = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


async def _converse(call: SimulatedCall) -> None:
    """Speak to the agent, and wait for its answer."""
    said = sum(each.role == "agent" for each in call.transcripts)
    await call.say(tone(500, 1.0))
    await call.wait_for(
        lambda c: sum(each.role == "agent" for each in c.transcripts) > said, timeout_seconds=PATIENCE_SECONDS
    )


async def test_secret_of_call_records_is_replaced_during_a_call(
    real_redis_url: str, simulator: RealtimeSimulator, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text(FIRST, "utf-8")
    async with Receiver() as receiver, Cluster(real_redis_url, simulator.url) as cluster:
        receiver.secret = FIRST
        await cluster.add_worker()
        dispatcher = await cluster.add_dispatcher(
            CALL_RECORDS_WEBHOOK=receiver.url, CALL_RECORDS_SECRET_FILE=str(file)
        )
        url = await cluster.url()
        running, short = await place_call(url), await place_call(url)
        await _converse(short)
        await short.hang_up()
        await eventually(lambda: len(receiver.bodies) == 1, PATIENCE_SECONDS)

        # The receiver first, because it can accept both; this one knows one at a time.
        receiver.secret = SECOND
        file.write_text(SECOND, "utf-8")
        dispatcher.signal(signal.SIGHUP)
        await dispatcher.line("secrets reloaded", changed=["CALL_RECORDS_SECRET"])
        await _converse(running)
        await running.hang_up()
        await eventually(lambda: len(receiver.bodies) == 2, PATIENCE_SECONDS)
        assert {record["uuid"] for record in receiver.records} == {short.uuid, running.uuid}
        assert FIRST not in cluster.logs
        assert SECOND not in cluster.logs


async def test_record_that_waits_is_signed_with_the_new_secret(
    real_redis_url: str, simulator: RealtimeSimulator, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text(FIRST, "utf-8")
    async with Receiver() as receiver, Cluster(real_redis_url, simulator.url) as cluster:
        receiver.secret = SECOND  # somebody was too early: the record is refused, and tried again
        await cluster.add_worker()
        dispatcher = await cluster.add_dispatcher(
            CALL_RECORDS_WEBHOOK=receiver.url, CALL_RECORDS_SECRET_FILE=str(file)
        )
        call = await place_call(await cluster.url())
        await _converse(call)
        await call.hang_up()
        await dispatcher.line("call records not delivered")
        assert receiver.bodies == []
        file.write_text(SECOND, "utf-8")
        dispatcher.signal(signal.SIGHUP)
        await eventually(lambda: receiver.bodies, PATIENCE_SECONDS)
        assert [record["uuid"] for record in receiver.records] == [call.uuid]


async def _connects(url: str, trust: ssl.SSLContext) -> bool:
    try:
        call = await place_call(url, tls=trust)
    except CallError:
        return False
    await call.hang_up()
    return True


async def test_certificate_of_the_port_is_replaced_during_a_call(
    real_redis_url: str, simulator: RealtimeSimulator, tmp_path: Path
) -> None:
    old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
    files = _copied(old.issue(), tmp_path / "port")
    async with Cluster(real_redis_url, simulator.url) as cluster:
        await cluster.add_worker()
        dispatcher = await cluster.add_dispatcher(TLS_CERT=str(files.cert), TLS_KEY=str(files.key))
        url = (await cluster.url()).replace("ws://", "wss://")
        running = await place_call(url, tls=old.trust())
        await _converse(running)

        _copied(new.issue(), tmp_path / "port")
        dispatcher.signal(signal.SIGHUP)
        await dispatcher.line("certificate changed", certificate=str(files.cert))
        assert await _connects(url, new.trust())
        assert not await _connects(url, old.trust())
        await _converse(running)
        await running.hang_up()


async def test_certificates_of_the_link_are_replaced_one_by_one(
    real_redis_url: str, simulator: RealtimeSimulator, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "cluster")
    folders = [tmp_path / name for name in ("dispatcher", "worker", "later")]
    issued = [_copied(authority.issue("avr-sts.example", as_file=each.name), each) for each in folders]

    def settings(files: TlsFiles) -> dict[str, Any]:
        return {"CLUSTER_TLS_CERT": files.cert, "CLUSTER_TLS_KEY": files.key, "CLUSTER_TLS_CA": authority.path}

    async with Cluster(real_redis_url, simulator.url, CLUSTER_TOKEN="the-token-of-the-cluster") as cluster:
        worker = await cluster.add_worker(**settings(issued[1]))
        dispatcher = await cluster.add_dispatcher(**settings(issued[0]))
        running = await place_call(await cluster.url())
        await _converse(running)
        for process, folder in ((dispatcher, folders[0]), (worker, folders[1])):
            _copied(authority.issue("avr-sts.example", as_file=f"{folder.name}-2"), folder)
            process.signal(signal.SIGHUP)
            await process.line("certificate changed")
            await _converse(running)
        # A worker that comes later gets a link to the dispatcher with the new certificate.
        later = await cluster.add_worker(**settings(issued[2]))
        await _linked(dispatcher, later)
        await running.hang_up()


async def _linked(dispatcher: ServiceProcess, worker: ServiceProcess) -> None:
    name = (await worker.line("worker listening"))["worker"]
    await dispatcher.line("link up", worker=name)


def _copied(files: TlsFiles, folder: Path) -> TlsFiles:
    """Write a certificate and its key over those in a folder, as a renewal does."""
    folder.mkdir(exist_ok=True)
    copies = TlsFiles(folder / "tls.crt", folder / "tls.key", files.ca)
    # The key first: a pair that does not fit is not used.
    for source, target in ((files.key, copies.key), (files.cert, copies.cert)):
        target.write_bytes(source.read_bytes())
    return copies


async def test_wrong_certificate_is_not_used_and_ends_no_call(
    real_redis_url: str, simulator: RealtimeSimulator, tmp_path: Path
) -> None:
    authority = Authority(tmp_path / "ca")
    files = _copied(authority.issue(), tmp_path / "port")
    async with Cluster(real_redis_url, simulator.url) as cluster:
        await cluster.add_worker()
        dispatcher = await cluster.add_dispatcher(TLS_CERT=str(files.cert), TLS_KEY=str(files.key))
        url = (await cluster.url()).replace("ws://", "wss://")
        running = await place_call(url, tls=authority.trust())
        files.key.write_text("no key", "utf-8")
        dispatcher.signal(signal.SIGHUP)
        await dispatcher.line("certificate not changed")
        assert await _connects(url, authority.trust())
        await _converse(running)
        await running.hang_up()
