"""Links to workers over real sockets, against a scripted worker's end."""

from __future__ import annotations

import asyncio
import http
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

import common.net.websocket
import dispatcher.workers.links
from common.errors import LinkUnavailable
from common.link import wire
from common.link.link_end import LINK_LIMITS
from common.link.wire import Hello, Kind
from common.net.tls import Tls, TlsFiles
from common.net.tokens import Token
from common.net.websocket_limits import Limits
from common.runtime.backoff import Backoff
from dispatcher.workers.links import LinkPool, WorkerLink
from tests.certificates import Authority
from tests.dispatcher.scripted_worker import ScriptedWorker, running
from tests.helpers import eventually


class Call:
    """An owner of a channel that keeps its events."""

    def __init__(self, on_record: Callable[[], None] = lambda: None) -> None:
        self.records: list[tuple[int, bytes]] = []
        self.lost = 0
        self.stops: list[str] = []
        self.links: list[WorkerLink | None] = []  # each that it was given, and None when that broke
        self.uuid = "call"
        self._on_record = on_record

    def record(self, kind: int, payload: memoryview, received_seconds: float) -> None:
        self.records.append((kind, bytes(payload)))
        self._on_record()

    def link_broke(self) -> None:
        self.links.append(None)

    def link_back(self, worker_link: WorkerLink) -> None:
        self.links.append(worker_link)

    def worker_lost(self) -> None:
        self.lost += 1

    def stop(self, reason: str) -> None:
        self.stops.append(reason)


async def on_a_link(pool: LinkPool, worker: ScriptedWorker) -> Call:
    """Return a call with a channel on the only link of a worker."""
    call = Call()
    (await pool.get("w-1", worker.address)).open_channel(call)
    await worker.only_link()
    return call


def fail() -> None:
    raise RuntimeError("a bug")


@pytest.fixture
async def pool() -> AsyncIterator[LinkPool]:
    pool = LinkPool("d-1", "1.2.3")
    yield pool
    await pool.close()


@pytest.fixture
async def worker() -> AsyncIterator[ScriptedWorker]:
    async with running(ScriptedWorker("w-1")) as worker:
        yield worker


def quick(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.2) -> None:
    """Give up a silent worker sooner than in production."""
    limits = Limits(max_message_bytes=LINK_LIMITS.max_message_bytes, open_timeout_seconds=seconds)
    monkeypatch.setattr(dispatcher.workers.links, "LINK_LIMITS", limits)


class TestOpening:
    @pytest.mark.interpreted
    @pytest.mark.parametrize("lost_times", [1, dispatcher.workers.links.GET_ATTEMPTS])
    async def test_a_waiting_call_does_not_get_a_link_that_is_lost_again(
        self, pool: LinkPool, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch, lost_times: int
    ) -> None:
        opened, opening = [], pool._open

        async def open_and_lose(worker_id: str, address: str) -> WorkerLink:
            new = await opening(worker_id, address)
            opened.append(new)
            if len(opened) <= lost_times:
                assert new.connection is not None
                new.connection.abort()
                await new.connection.wait_closed()
            return new

        monkeypatch.setattr(pool, "_open", open_and_lose)
        if lost_times < dispatcher.workers.links.GET_ATTEMPTS:
            assert (await pool.get("w-1", worker.address)).is_open
        else:
            with pytest.raises(LinkUnavailable, match=r"worker w-1 at 127\.0\.0\.1:.* breaks again and again"):
                await pool.get("w-1", worker.address)
        assert len(opened) == min(lost_times + 1, dispatcher.workers.links.GET_ATTEMPTS)

    async def test_a_link_is_opened_when_it_is_asked_for_and_then_kept(
        self, pool: LinkPool, worker: ScriptedWorker
    ) -> None:
        assert (pool.is_ready, pool.has("w-1")) == (False, False)
        opened = await pool.get("w-1", worker.address)
        assert opened.is_open
        assert (pool.is_ready, pool.has("w-1")) == (True, True)
        assert await pool.get("w-1", worker.address) is opened
        assert (await worker.only_link()).hello == Hello(
            wire.PROTOCOL_VERSION, "1.2.3", "dispatcher", "d-1", "d-1"
        )

    async def test_calls_that_wait_for_one_link_share_it(self, pool: LinkPool, worker: ScriptedWorker) -> None:
        links = await asyncio.gather(*(pool.get("w-1", worker.address) for _ in range(20)))
        assert len(set(links)) == 1
        assert len(worker.links) == 1

    async def test_a_cancelled_wait_leaves_the_link_to_the_other_calls(
        self, pool: LinkPool, worker: ScriptedWorker
    ) -> None:
        waits = [asyncio.create_task(pool.get("w-1", worker.address)) for _ in range(3)]
        await asyncio.sleep(0)
        waits[0].cancel()
        assert (await waits[1]).is_open
        assert await waits[2] is await waits[1]
        with pytest.raises(asyncio.CancelledError):
            await waits[0]

    async def test_links_are_opened_ahead(self, pool: LinkPool, worker: ScriptedWorker) -> None:
        async with running(ScriptedWorker("w-2")) as other:
            for _ in range(3):
                pool.keep([("w-1", worker.address), ("w-2", other.address)])
            await asyncio.wait_for(pool.wait_up(), 5)
            await eventually(lambda: pool.has("w-1") and pool.has("w-2"))
            pool.keep([("w-1", worker.address), ("w-2", other.address)])
            assert len(worker.links) == len(other.links) == 1

    async def test_another_worker_at_the_address_is_not_taken_for_it(
        self, pool: LinkPool, worker: ScriptedWorker
    ) -> None:
        with pytest.raises(LinkUnavailable, match="answers worker w-1, not w-old"):
            await pool.get("w-old", worker.address)
        assert not pool.has("w-old")
        # And it is told.
        await eventually(lambda: worker.links[0].lost_because is not None)
        assert worker.links[0].lost_because == "another worker lives here now"

    async def test_nobody_listens_there(self, pool: LinkPool) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        with pytest.raises(LinkUnavailable, match=f"worker w-1 at 127.0.0.1:{port}: "):
            await pool.get("w-1", f"127.0.0.1:{port}")
        assert not pool.is_ready

    @pytest.mark.parametrize("address", ["", "not an address", "host:port", "[", "127.0.0.1:99999"])
    async def test_an_address_that_is_none(self, pool: LinkPool, address: str) -> None:
        with pytest.raises(LinkUnavailable, match="worker w-1"):
            await pool.get("w-1", address)

    async def test_who_listens_there_refuses(self, pool: LinkPool, worker: ScriptedWorker) -> None:
        worker.refusal = (http.HTTPStatus.NOT_FOUND, "no links here\n")
        with pytest.raises(LinkUnavailable, match="HTTP 404"):
            await pool.get("w-1", worker.address)

    async def test_who_listens_there_does_not_answer(
        self, pool: LinkPool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        quick(monkeypatch)
        with socket.create_server(("127.0.0.1", 0)) as deaf, pytest.raises(LinkUnavailable, match="timed out"):
            await pool.get("w-1", f"127.0.0.1:{deaf.getsockname()[1]}")

    async def test_who_listens_there_does_not_greet(
        self, pool: LinkPool, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        quick(monkeypatch)
        monkeypatch.setattr(common.link.link_end.LinkEnd, "opened", _open_without_a_word)
        with pytest.raises(LinkUnavailable, match="timed out"):
            await pool.get("w-1", worker.address)
        assert not pool.is_ready

    async def test_a_failed_link_fails_all_waiting_calls_and_is_retried(
        self, pool: LinkPool, worker: ScriptedWorker
    ) -> None:
        worker.refusal = (http.HTTPStatus.SERVICE_UNAVAILABLE, "not yet\n")
        outcomes = await asyncio.gather(
            *(pool.get("w-1", worker.address) for _ in range(5)), return_exceptions=True
        )
        assert all(isinstance(outcome, LinkUnavailable) for outcome in outcomes)
        worker.refusal = None
        assert (await pool.get("w-1", worker.address)).is_open

    async def test_a_link_that_cannot_be_opened_ahead_is_tried_again(
        self, pool: LinkPool, worker: ScriptedWorker
    ) -> None:
        worker.refusal = (http.HTTPStatus.SERVICE_UNAVAILABLE, "not yet\n")
        pool.keep([("w-1", worker.address)])
        await eventually(lambda: pool._retries)
        worker.refusal = None

        def kept() -> bool:
            pool.keep([("w-1", worker.address)])
            return pool.has("w-1")

        await eventually(kept)
        assert not pool._retries

    async def test_a_refusing_worker_is_retried_slower_except_by_calls(self, worker: ScriptedWorker) -> None:
        pool = LinkPool("d-1", "1.2.3", backoff=Backoff(1000.0, 3000.0))
        worker.refusal = (http.HTTPStatus.SERVICE_UNAVAILABLE, "not yet\n")
        waits = []
        for _ in range(4):
            # A call does not wait for the next time.
            with pytest.raises(LinkUnavailable):
                await pool.get("w-1", worker.address)
            waits.append(pool._retries["w-1"][1] - asyncio.get_running_loop().time())
        assert waits == pytest.approx([1000, 2000, 3000, 3000], abs=100)
        worker.refusal = None
        for _ in range(3):
            pool.keep([("w-1", worker.address)])
            await asyncio.sleep(0)
        assert not pool._opening
        # Of a worker that is gone nothing is remembered.
        pool.keep([])
        assert not pool._retries
        assert (await pool.get("w-1", worker.address)).is_open
        await pool.close()

    async def test_tokens_have_to_be_the_same(self, worker: ScriptedWorker) -> None:
        worker.token = Token(SecretStr("the token of the cluster"))
        for token in (None, Token(SecretStr("the token of another one"))):
            pool = LinkPool("d-1", "1.2.3", token=token)
            with pytest.raises(LinkUnavailable, match=r"CLUSTER_TOKEN .* set the same on both"):
                await pool.get("w-1", worker.address)
            await pool.close()
        pool = LinkPool("d-1", "1.2.3", token=worker.token)
        assert (await pool.get("w-1", worker.address)).is_open
        await pool.close()

    async def test_with_tls_both_ends_show_a_certificate(self, worker: ScriptedWorker, tmp_path: Path) -> None:
        authority, stranger = Authority(tmp_path), Authority(tmp_path / "other")
        async with running(ScriptedWorker("w-2"), tls=Tls(authority.issue(), TlsFiles.of_worker)) as secured:
            pool = LinkPool("d-1", "1.2.3", tls=Tls(authority.issue(as_file="d"), TlsFiles.of_dispatcher))
            assert (await pool.get("w-2", secured.address)).is_open
            # A worker without TLS is none of this cluster's.
            with pytest.raises(LinkUnavailable, match="worker w-1"):
                await pool.get("w-1", worker.address)
            await pool.close()
            for tls in (None, Tls(stranger.issue(), TlsFiles.of_dispatcher)):
                pool = LinkPool("d-1", "1.2.3", tls=tls)
                with pytest.raises(LinkUnavailable, match="worker w-2"):
                    await pool.get("w-2", secured.address)
                await pool.close()


def _open_without_a_word(end: common.link.link_end.LinkEnd, connection: common.net.websocket.WebSocket) -> None:
    end._connection = connection


class TestChannels:
    async def test_each_call_gets_its_own_records(self, pool: LinkPool, worker: ScriptedWorker) -> None:
        opened = await pool.get("w-1", worker.address)
        calls = [Call() for _ in range(3)]
        channels = [opened.open_channel(call) for call in calls]
        assert channels == [1, 2, 3]
        assert opened.calls == pool.calls("w-1") == 3
        far = await worker.only_link()
        far.send(wire.Flush(30), 3)
        far.send(wire.Flush(10), 1)
        await eventually(lambda: calls[0].records)
        assert [call.records for call in calls] == [
            [(Kind.FLUSH, b'{"number":10}')],
            [],
            [(Kind.FLUSH, b'{"number":30}')],
        ]

    async def test_the_worker_gets_what_calls_send(self, pool: LinkPool, worker: ScriptedWorker) -> None:
        opened = await pool.get("w-1", worker.address)
        channel = opened.open_channel(Call())
        opened.send(wire.encode_caller_audio(channel, 5, b"ab"))
        far = await worker.only_link()
        await eventually(lambda: far.records)
        assert far.records == [(Kind.CALLER_AUDIO, channel, bytes(7) + b"\x05ab")]

    async def test_a_left_channel_gets_no_records_and_keeps_its_number(
        self, pool: LinkPool, worker: ScriptedWorker
    ) -> None:
        opened = await pool.get("w-1", worker.address)
        left, stays = Call(), Call()
        number = opened.open_channel(left)
        opened.leave_channel(number)
        opened.leave_channel(number)
        assert opened.open_channel(stays) == number + 1
        assert opened.calls == 1
        far = await worker.only_link()
        far.send(wire.Flush(1), number)
        far.send(wire.Flush(2), 99)
        far.send(wire.Flush(3), 0)
        far.send(wire.Flush(4), number + 1)
        await eventually(lambda: stays.records)
        assert left.records == []
        assert stays.records == [(Kind.FLUSH, b'{"number":4}')]

    async def test_there_are_no_calls_on_a_link_that_is_not_there(self, pool: LinkPool) -> None:
        assert pool.calls("w-1") == 0


class TestLoss:
    async def test_every_call_hears_of_it_at_once_and_once(self, pool: LinkPool, worker: ScriptedWorker) -> None:
        opened = await pool.get("w-1", worker.address)
        calls = [Call() for _ in range(5)]
        for call in calls:
            opened.open_channel(call)
        await worker.only_link()
        worker.vanish()
        await eventually(lambda: calls[0].lost)
        assert [call.lost for call in calls] == [1] * 5
        # First that another link is looked for, as the worker may live.
        assert [call.links for call in calls] == [[None]] * 5
        assert opened.calls == 0
        assert not pool.is_ready
        assert not pool.has("w-1")

    async def test_a_link_without_calls_is_not_replaced(self, pool: LinkPool, worker: ScriptedWorker) -> None:
        lost = await pool.get("w-1", worker.address)
        await worker.only_link()
        worker.cut()
        await eventually(lambda: not lost.is_open)
        assert not pool._opening
        assert len(worker.links) == 1

    async def test_a_protocol_error_of_a_worker_ends_its_link_at_once(
        self, pool: LinkPool, worker: ScriptedWorker
    ) -> None:
        opened = await pool.get("w-1", worker.address)
        call = Call()
        opened.open_channel(call)
        far = await worker.only_link()
        assert far.end.connection is not None
        worker.refusal = (http.HTTPStatus.SERVICE_UNAVAILABLE, "gone\n")
        far.end.connection.send_binary(b"\x05")
        await eventually(lambda: call.lost)
        assert call.links == [None]
        assert not pool.has("w-1")

    async def test_what_a_worker_says_before_it_closes_is_heard_first(
        self, pool: LinkPool, worker: ScriptedWorker
    ) -> None:
        opened = await pool.get("w-1", worker.address)
        call = Call()
        channel = opened.open_channel(call)
        far = await worker.only_link()
        far.send(wire.Ended("failed", "the worker is stopping"), channel)
        worker.refusal = (http.HTTPStatus.SERVICE_UNAVAILABLE, "gone\n")
        far.end.close("the worker is stopping")
        await eventually(lambda: call.lost)
        assert [kind for kind, _ in call.records] == [Kind.ENDED]

    async def test_the_next_call_gets_a_new_link(self, pool: LinkPool, worker: ScriptedWorker) -> None:
        lost = await pool.get("w-1", worker.address)
        far = await worker.only_link()
        assert far.end.connection is not None
        far.end.connection.abort()
        await eventually(lambda: not lost.is_open)
        again = await pool.get("w-1", worker.address)
        assert again is not lost
        assert again.is_open
        # The end of the old one is not the end of the new one.
        await eventually(lambda: pool.has("w-1"))
        assert again.open_channel(Call()) == 1

    async def test_a_link_that_is_lost_while_it_greets_is_unavailable(
        self, pool: LinkPool, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        worker.hello = Hello(0, "0.0.1", "worker", "w-1", "")
        with pytest.raises(LinkUnavailable, match="older"):
            await pool.get("w-1", worker.address)


class TestResuming:
    """A link with calls on it breaks, and the worker lives."""

    async def test_the_channels_go_on_under_their_numbers(self, pool: LinkPool, worker: ScriptedWorker) -> None:
        broken = await pool.get("w-1", worker.address)
        calls = [Call() for _ in range(3)]
        numbers = [broken.open_channel(call) for call in calls]
        broken.leave_channel(numbers[1])
        await worker.only_link()
        worker.cut()
        await eventually(lambda: len(calls[2].links) == 2)
        again = pool.up("w-1")
        assert again is not None
        assert again is not broken
        assert [call.links for call in calls] == [[None, again], [], [None, again]]
        assert (pool.calls("w-1"), broken.calls) == (2, 0)
        assert [call.lost for call in calls] == [0] * 3
        await eventually(lambda: len(worker.links) == 2 and worker.links[1].hello is not None)
        worker.links[1].send(wire.Flush(1), numbers[0])
        worker.links[1].send(wire.Flush(2), numbers[1])
        worker.links[1].send(wire.Flush(3), numbers[2])
        await eventually(lambda: calls[2].records)
        assert [len(call.records) for call in calls] == [1, 0, 1]
        # And no number is used again.
        assert again.open_channel(Call()) == 4

    async def test_a_connection_without_an_answer_is_tried_again_beside_it(
        self, pool: LinkPool, worker: ScriptedWorker
    ) -> None:
        call = await on_a_link(pool, worker)
        worker.mute_links = 1
        worker.cut()
        await eventually(lambda: len(call.links) == 2)
        assert call.lost == 0
        assert worker.mute_links == 0

    async def test_a_process_that_is_gone_costs_its_calls_at_once(
        self, pool: LinkPool, worker: ScriptedWorker
    ) -> None:
        call = await on_a_link(pool, worker)
        asked: list[str] = []
        worker.on_request = lambda: asked.append("/link")
        worker.vanish()
        await eventually(lambda: call.lost)
        assert asked == ["/link"]

    async def test_a_link_may_break_again_and_again(self, pool: LinkPool, worker: ScriptedWorker) -> None:
        call = await on_a_link(pool, worker)
        for round_ in range(1, 6):
            worker.cut()
            await eventually(lambda: len(call.links) == 2 * round_)  # noqa: B023  # awaited within the round
            await eventually(lambda: worker.links[-1].hello is not None and len(worker.links) == round_ + 1)  # noqa: B023  # so, too
        assert call.lost == 0
        assert pool.calls("w-1") == 1

    async def test_who_wants_a_link_meanwhile_gets_the_same(self, pool: LinkPool, worker: ScriptedWorker) -> None:
        call = await on_a_link(pool, worker)
        worker.cut()
        await eventually(lambda: call.links)
        again = await pool.get("w-1", worker.address)
        assert call.links == [None, again]
        assert len(worker.links) == 2

    async def test_another_process_at_the_address_does_not_have_the_calls(
        self, pool: LinkPool, worker: ScriptedWorker
    ) -> None:
        call = await on_a_link(pool, worker)
        worker.hello = Hello(wire.PROTOCOL_VERSION, "1.0.0", "worker", "w-1", "another boot_id")
        worker.cut()
        await eventually(lambda: call.lost)
        assert call.links == [None]
        assert not pool.has("w-1")

    async def test_a_worker_that_does_not_answer_is_given_up_soon(
        self, pool: LinkPool, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dispatcher.workers.links, "RESUME_SECONDS", 0.05)
        call = await on_a_link(pool, worker)
        monkeypatch.setattr(common.link.link_end.LinkEnd, "opened", _open_without_a_word)
        worker.cut()
        await eventually(lambda: call.lost)
        assert call.links == [None]

    async def test_when_the_pool_closes_nothing_is_resumed(self, pool: LinkPool, worker: ScriptedWorker) -> None:
        call = await on_a_link(pool, worker)
        await pool.close()
        await eventually(lambda: call.lost)
        assert call.links == []
        assert len(worker.links) == 1

    async def test_a_pool_that_closes_meanwhile_gives_the_calls_up(
        self, pool: LinkPool, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        call = await on_a_link(pool, worker)
        monkeypatch.setattr(common.link.link_end.LinkEnd, "opened", _open_without_a_word)
        worker.cut()
        await eventually(lambda: call.links and pool._opening)
        await pool.close()
        assert call.lost == 1

    async def test_a_failing_owner_is_stopped_and_no_other_is_affected(
        self, pool: LinkPool, worker: ScriptedWorker
    ) -> None:
        class Broken(Call):
            def link_back(self, worker_link: WorkerLink) -> None:
                fail()

        opened = await pool.get("w-1", worker.address)
        calls = [Broken(), Call()]
        for call in calls:
            opened.open_channel(call)
        await worker.only_link()
        worker.cut()
        await eventually(lambda: len(calls[1].links) == 2)
        assert [call.stops for call in calls] == [["internal error"], []]
        assert pool.calls("w-1") == 1


class TestOwnersThatRaise:
    async def test_its_call_is_stopped_and_the_others_and_the_link_go_on(
        self, pool: LinkPool, worker: ScriptedWorker
    ) -> None:
        opened = await pool.get("w-1", worker.address)
        broken, neighbour = Call(fail), Call()
        first, second = opened.open_channel(broken), opened.open_channel(neighbour)
        far = await worker.only_link()
        far.send(wire.Flush(1), first)
        far.send(wire.Flush(2), second)
        await eventually(lambda: neighbour.records)
        assert broken.stops == ["internal error"]
        assert opened.is_open
        # It gets nothing more.
        far.send(wire.Flush(3), first)
        far.send(wire.Flush(4), second)
        await eventually(lambda: len(neighbour.records) == 2)
        assert len(broken.records) == 1
        assert opened.calls == 1

    async def test_not_even_one_that_cannot_be_stopped_takes_the_link_down(
        self, pool: LinkPool, worker: ScriptedWorker
    ) -> None:
        class Stubborn(Call):
            def stop(self, reason: str) -> None:
                fail()

        opened = await pool.get("w-1", worker.address)
        neighbour = Call()
        first, second = opened.open_channel(Stubborn(fail)), opened.open_channel(neighbour)
        far = await worker.only_link()
        far.send(wire.Flush(1), first)
        far.send(wire.Flush(2), second)
        await eventually(lambda: neighbour.records)
        assert opened.is_open

    async def test_when_the_link_is_lost_the_others_still_hear_of_it(
        self, pool: LinkPool, worker: ScriptedWorker
    ) -> None:
        class Broken(Call):
            def worker_lost(self) -> None:
                super().worker_lost()
                fail()

        opened = await pool.get("w-1", worker.address)
        calls = [Broken(), Call(), Broken(), Call()]
        for call in calls:
            opened.open_channel(call)
        await worker.only_link()
        worker.vanish()
        await eventually(lambda: calls[0].lost)
        assert [call.lost for call in calls] == [1] * 4
        assert [call.stops for call in calls] == [["internal error"], [], ["internal error"], []]


class TestClosing:
    async def test_workers_are_told_and_get_what_was_sent_before(
        self, pool: LinkPool, worker: ScriptedWorker
    ) -> None:
        opened = await pool.get("w-1", worker.address)
        channel = opened.open_channel(Call())
        opened.send(wire.encode(wire.Close("bye"), channel))
        await pool.close()
        far = await worker.only_link()
        assert far.records == [(Kind.CLOSE, channel, b'{"reason":"bye","keep":false}')]
        assert far.lost_because == "the dispatcher ends"

    async def test_a_link_that_is_being_opened_is_given_up(self, pool: LinkPool) -> None:
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            waiting = asyncio.create_task(pool.get("w-1", f"127.0.0.1:{deaf.getsockname()[1]}"))
            pool.keep([("w-2", f"127.0.0.1:{deaf.getsockname()[1]}")])
            await eventually(lambda: len(pool._opening) == 2)
            await pool.close()
            # Who waits hears that there is no link, and is not cancelled itself.
            with pytest.raises(LinkUnavailable, match="ends"):
                await waiting

    async def test_a_link_that_has_not_greeted_is_closed(
        self, pool: LinkPool, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(common.link.link_end.LinkEnd, "opened", _open_without_a_word)
        opening = asyncio.create_task(pool.get("w-1", worker.address))
        await eventually(lambda: worker.links and worker.links[0].end.is_open)
        await pool.close()
        await eventually(lambda: worker.links[0].lost_because is not None)
        with pytest.raises(LinkUnavailable, match="ends"):
            await opening

    async def test_no_link_is_opened_afterwards(self, pool: LinkPool, worker: ScriptedWorker) -> None:
        await pool.close()
        with pytest.raises(LinkUnavailable, match="ends"):
            await pool.get("w-1", worker.address)
        pool.keep([("w-1", worker.address)])
        await asyncio.sleep(0)
        assert worker.links == []

    async def test_a_silent_worker_delays_the_search_for_its_time_alone(
        self, pool: LinkPool, worker: ScriptedWorker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(dispatcher.workers.links, "CLOSE_SECONDS", 0.1)
        opened = await pool.get("w-1", worker.address)
        call = Call()
        opened.open_channel(call)
        far = await worker.only_link()
        assert far.end.connection is not None
        transport = far.end.connection._transport
        assert transport is not None
        transport.pause_reading()
        # The closing handshake alone would take longer.
        async with asyncio.timeout(LINK_LIMITS.close_timeout_seconds / 2):
            await pool.close()
        await eventually(lambda: call.lost)
