"""Calls from the live page, over real HTTP and WebSockets, with a real dispatcher and a scripted worker."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator

import aiohttp
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from common.link import wire
from common.link.wire import Kind, TelephonyAction
from common.net.tokens import Token
from common.settings.tenants import Tenants
from dispatcher.api import page_calls
from dispatcher.api.page_calls import PageCallLimits
from dispatcher.call.announcements import Announcements
from dispatcher.runner.page_line import NO_TRANSFER
from tests.dispatcher.api.page_caller import PageClient, page_of
from tests.dispatcher.rig import PATIENCE_SECONDS, Rig, counted
from tests.dispatcher.scripted_worker import DispatcherEnd
from tests.helpers import eventually

TOKEN = Token(SecretStr("a-token-for-the-admin"))
FRAME = bytes(range(160)) * 2


@pytest.fixture
async def rig(real_redis_url: str) -> AsyncIterator[Rig]:
    async with Rig(real_redis_url) as rig:
        yield rig


@pytest.fixture
async def page(rig: Rig) -> AsyncIterator[PageClient]:
    async with page_of(rig) as page:
        yield page


def kinds(end: DispatcherEnd) -> list[int]:
    return [kind for kind, _, _ in end.records]


def opening(end: DispatcherEnd) -> wire.Open:
    ((_, record),) = end.controls(wire.Open)
    assert isinstance(record, wire.Open)
    return record


class TestACall:
    async def test_words_keys_and_replies_pass(self, rig: Rig, page: PageClient) -> None:
        worker = await rig.worker()
        async with page.call() as (line, uuid):
            await eventually(lambda: rig.state(uuid) == "live", PATIENCE_SECONDS)
            end = await worker.only_link()
            for _ in range(3):
                await line.audio(FRAME)
            await line.say(type="dtmf_digit", digit="5")
            await eventually(lambda: kinds(end).count(Kind.DTMF) == 1, PATIENCE_SECONDS)
            heard = b"".join(payload[-320:] for kind, _, payload in end.records if kind == Kind.CALLER_AUDIO)
            assert heard == FRAME * 3

            end.send(wire.ReplyItem(0, "item_1"), 1)
            end.end.send(wire.encode_reply_audio(1, 0, FRAME))
            end.send(wire.ReplyItemDone(0), 1)
            message = await line.hear()
            assert message["type"] == "audio"
            assert base64.b64decode(message["audio"]) == FRAME
            await line.connection.close()
        await rig.nothing_is_left()

    async def test_it_is_of_no_tenant_and_of_no_number(self, real_redis_url: str) -> None:
        ended = 'avr_sts_calls_total{outcome="completed",reason="caller_hung_up",tenant="page"}'
        before = counted(ended)
        async with (
            Rig(real_redis_url, tenants=Tenants("from", ["page-like", "acme"])) as rig,
            page_of(rig) as page,
        ):
            worker = await rig.worker()
            async with page.call() as (line, uuid):
                await eventually(lambda: rig.state(uuid) == "live", PATIENCE_SECONDS)
                opened = opening(await worker.only_link())
                assert (opened.tenant, opened.metadata) == ("page", {"from": "page"})

                async def is_listed() -> bool:
                    async with page.http.get(f"{page.url}/calls?tenant=page") as response:
                        return [each["uuid"] for each in await response.json()] == [uuid]

                await eventually(is_listed, PATIENCE_SECONDS)
                await line.connection.close()
            await rig.nothing_is_left()
        assert counted(ended) == before + 1

    async def test_what_the_worker_tells_changes_no_tenant(self, real_redis_url: str) -> None:
        async with Rig(real_redis_url, tenants=Tenants("to", ["acme"])) as rig, page_of(rig) as page:
            worker = await rig.worker()
            async with page.call() as (line, uuid):
                await eventually(lambda: rig.state(uuid) == "live", PATIENCE_SECONDS)
                (await worker.only_link()).send(wire.Profile({}, {}, "acme"), 1)
                (await worker.only_link()).send(wire.Ended("completed", ""), 1)
                assert (await line.end())[0] == 1000
        assert counted('avr_sts_calls_total{outcome="completed",reason="caller_hung_up",tenant="acme"}') == 0

    async def test_the_page_cannot_configure_it(self, rig: Rig, page: PageClient) -> None:
        worker = await rig.worker()
        async with page.call() as (line, uuid):
            await line.say(type="init", uuid="another", provider_config={"api_key": "sk-other"})
            await eventually(lambda: rig.state(uuid) == "live", PATIENCE_SECONDS)
            assert opening(await worker.only_link()).provider_config == {}
            assert rig.state("another") is None

    async def test_a_transfer_is_refused_in_words(self, real_redis_url: str) -> None:
        async with (
            Rig(real_redis_url, announcements=Announcements(extension="600", context="people")) as rig,
            page_of(rig) as page,
        ):
            worker = await rig.worker()
            async with page.call() as (line, uuid):
                await eventually(lambda: rig.state(uuid) == "live", PATIENCE_SECONDS)
                end = await worker.only_link()
                with capture_logs() as logs:
                    end.send(wire.TelephonyCommand("c-1", TelephonyAction.TRANSFER, "600", "people", "1"), 1)
                    await eventually(lambda: end.controls(wire.TelephonyDone), PATIENCE_SECONDS)
                assert end.controls(wire.TelephonyDone) == [(1, wire.TelephonyDone("c-1", False, NO_TRANSFER))]
                # A refusal by design is no fault for an operator to mend.
                assert [each["log_level"] for each in logs if each["event"] == "telephony command failed"] == [
                    "info"
                ]
                # The way out of a call that cannot go on transfers nobody either.
                end.send(wire.Ended("failed", "no quota"), 1)
                assert await line.hear() == {"type": "error", "message": "no quota"}
                assert await line.end() == (1011, "no quota")

    async def test_the_agent_hangs_up_without_asterisk(self, rig: Rig, page: PageClient) -> None:
        ended = 'avr_sts_calls_total{outcome="completed",reason="agent_hung_up",tenant="page"}'
        before = counted(ended)
        worker = await rig.worker()
        async with page.call() as (line, uuid):
            await eventually(lambda: rig.state(uuid) == "live", PATIENCE_SECONDS)
            end = await worker.only_link()
            end.send(wire.TelephonyCommand("c-1", TelephonyAction.HANG_UP), 1)
            assert await line.end() == (1000, "The call was hung up at the service.")
            await line.connection.close()
        await rig.nothing_is_left()
        assert counted(ended) == before + 1

    async def test_a_lost_page_ends_it_at_once(self, rig: Rig, page: PageClient) -> None:
        await rig.worker()
        async with page.call() as (line, uuid):
            await eventually(lambda: rig.state(uuid) == "live", PATIENCE_SECONDS)
            response = line.connection._response
            assert response.connection is not None
            assert response.connection.transport is not None
            response.connection.transport.abort()
            await rig.nothing_is_left()

    async def test_it_ends_at_its_limit_in_words(self, rig: Rig) -> None:
        await rig.worker()
        async with page_of(rig, limits=PageCallLimits(call_seconds=0.3)) as page, page.call() as (line, _):
            code, words = await line.end()
            assert code == 1000
            assert words.startswith("A call from the page may last")
            await line.connection.close()
            await rig.nothing_is_left()

    async def test_who_called_is_logged_without_the_ticket(self, rig: Rig, page: PageClient) -> None:
        await rig.worker()
        _, answer = await page.ticket()
        with capture_logs() as logs:
            async with page.line(answer["ticket"]) as line:
                uuid = (await line.hear())["uuid"]
        (audited,) = [each for each in logs if each["event"] == "call from the page"]
        assert (audited["peer"], audited["uuid"]) == ("127.0.0.1", uuid)
        assert answer["ticket"] not in str(logs)


class TestAtOnce:
    async def test_a_second_call_is_refused_in_words(self, rig: Rig, page: PageClient) -> None:
        await rig.worker()
        _, spare = await page.ticket()
        async with page.call():
            assert (await page.state())["busy"]
            assert await page.ticket() == (409, {"error": page_calls.BUSY})
            async with page.line(spare["ticket"]) as second:
                assert await second.end() == (4409, page_calls.BUSY)
        await rig.nothing_is_left()

        async def is_free() -> bool:
            return not (await page.state())["busy"]

        await eventually(is_free, PATIENCE_SECONDS)
        async with page.call() as (_, uuid):
            await eventually(lambda: rig.state(uuid) == "live", PATIENCE_SECONDS)

    async def test_a_draining_dispatcher_takes_none(self, rig: Rig, page: PageClient) -> None:
        _, answer = await page.ticket()
        rig.dispatcher.draining = True
        async with page.line(answer["ticket"]) as line:
            code, words = await line.end()
        assert code == 1013
        assert "draining" in words

    async def test_connections_without_a_ticket_are_bounded(self, rig: Rig, page: PageClient) -> None:
        url, headers = f"{page.url}/page-call/line", {"Origin": page.url}
        waiting = [await page.http.ws_connect(url, headers=headers) for _ in range(page_calls.MAX_UNIDENTIFIED)]
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await page.http.ws_connect(url, headers=headers)
        assert refused.value.status == 503
        for each in waiting:
            await each.close()


class TestTickets:
    async def test_a_ticket_is_valid_once(self, rig: Rig, page: PageClient) -> None:
        await rig.worker()
        _, answer = await page.ticket()
        async with page.line(answer["ticket"]) as line:
            assert (await line.hear())["type"] == "began"
            await line.connection.close()
        async with page.line(answer["ticket"]) as line:
            code, words = await line.end()
        assert code == 4401
        assert "used before" in words

    async def test_any_dispatcher_redeems_a_ticket_and_once(self, real_redis_url: str, page: PageClient) -> None:
        async with Rig(real_redis_url, "d-2") as other, page_of(other) as elsewhere:
            _, answer = await page.ticket()
            async with elsewhere.line(answer["ticket"]) as line:
                assert (await line.hear())["type"] == "began"
            async with page.line(answer["ticket"]) as line:
                assert (await line.end())[0] == 4401

    async def test_a_ticket_expires(self, rig: Rig) -> None:
        async with page_of(rig, limits=PageCallLimits(ticket_seconds=1)) as page:
            _, answer = await page.ticket()

            async def is_gone() -> bool:
                return not await rig.registry._redis.keys("*ticket*")

            await eventually(is_gone, PATIENCE_SECONDS)
            async with page.line(answer["ticket"]) as line:
                assert (await line.end())[0] == 4401

    @pytest.mark.parametrize("ticket", ["", "a-guess", "\ud800", 7, None])
    async def test_what_is_no_ticket_is_refused(self, page: PageClient, ticket: object) -> None:
        if ticket == "\ud800":
            async with page.http.ws_connect(
                f"{page.url}/page-call/line", headers={"Origin": page.url}
            ) as connection:
                await connection.send_str('{"type":"ticket","ticket":"\\ud800"}')
                assert (await connection.receive()).data == 4401
            return
        async with page.line(ticket) as line:
            assert (await line.end())[0] == 4401

    async def test_a_page_that_sends_no_ticket_is_cut_off(self, rig: Rig) -> None:
        async with (
            page_of(rig, limits=PageCallLimits(first_message_seconds=0.1)) as page,
            page.http.ws_connect(f"{page.url}/page-call/line", headers={"Origin": page.url}) as connection,
        ):
            message = await connection.receive(timeout=PATIENCE_SECONDS)
            assert message.data == 4408

    async def test_their_number_is_bounded(self, page: PageClient) -> None:
        statuses = [(await page.ticket())[0] for _ in range(12)]
        assert statuses[:10] == [200] * 10
        assert statuses[-1] == 429


class TestAccess:
    async def test_it_is_off_unless_permitted(self, rig: Rig) -> None:
        async with page_of(rig, is_on=False) as page:
            assert not (await page.state())["enabled"]
            assert await page.ticket() == (403, {"error": page_calls.OFF})
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await page.http.ws_connect(f"{page.url}/page-call/line", headers={"Origin": page.url})
            assert refused.value.status == 403

    async def test_a_ticket_needs_the_token(self, rig: Rig) -> None:
        await rig.worker()
        async with page_of(rig, token=TOKEN) as page:
            assert (await page.ticket())[0] == 401
            async with page.http.get(f"{page.url}/page-call") as response:
                assert response.status == 401
            status, answer = await page.ticket(Authorization=f"Bearer {TOKEN.value.get_secret_value()}")
            assert status == 200
            async with page.line(answer["ticket"]) as line:
                assert (await line.hear())["type"] == "began"

    @pytest.mark.parametrize("has_token", [False, True])
    @pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "http://127.0.0.1:1"])
    async def test_another_origin_gets_no_ticket_and_no_line(self, rig: Rig, origin: str, has_token: bool) -> None:
        async with page_of(rig, token=TOKEN if has_token else None) as page:
            bearer = {"Authorization": f"Bearer {TOKEN.value.get_secret_value()}"} if has_token else {}
            assert (await page.ticket(Origin=origin, **bearer))[0] == 403
            _, answer = await page.ticket(**bearer)
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                async with page.line(answer["ticket"], origin):
                    pass
            assert refused.value.status == 403
            # The ticket was not used up by the stranger.
            assert await rig.registry._redis.keys("*ticket*")

    async def test_a_line_without_an_origin_is_refused(self, page: PageClient) -> None:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await page.http.ws_connect(f"{page.url}/page-call/line")
        assert refused.value.status == 403

    async def test_another_host_name_is_refused_without_a_token(self, page: PageClient) -> None:
        headers = {"Origin": "http://rebound.example", "Host": "rebound.example"}
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await page.http.ws_connect(f"{page.url}/page-call/line", headers=headers)
        assert refused.value.status == 403

    async def test_a_request_without_upgrade_is_told_so(self, page: PageClient) -> None:
        async with page.http.get(f"{page.url}/page-call/line", headers={"Origin": page.url}) as response:
            assert response.status == 426
