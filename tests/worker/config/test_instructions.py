from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
from aiohttp import web
from structlog.typing import EventDict

from tests.worker.config.web_service import json, text, web_service
from worker.config import instructions
from worker.config.instructions import MAX_BYTES, MAX_FILLED_CHARACTERS, MAX_VALUE_CHARACTERS, fill

UUID = "5b2c8a1e-0000-4000-8000-000000000001"
METADATA = {"from": "+39 06 1", "to": "600"}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with instructions.http_client() as client:
        yield client


async def fetch(
    http: aiohttp.ClientSession, url: str, metadata: dict[str, str] | None = None, timeout_seconds: float = 5.0
) -> tuple[dict[str, Any], list[EventDict]]:
    """Return the answer, and what was logged."""
    with structlog.testing.capture_logs() as lines:
        answer = await instructions.fetch(
            http,
            url,
            uuid=UUID,
            metadata=METADATA if metadata is None else metadata,
            timeout_seconds=timeout_seconds,
        )
    return answer, list(lines)


async def test_the_service_is_asked_about_the_call(http: aiohttp.ClientSession) -> None:
    async with web_service(json({"system": "Be kind."})) as service:
        assert await fetch(http, f"{service.url}/instructions") == ({"system": "Be kind."}, [])
    (request,) = service.requests
    assert (request.method, request.path) == ("GET", "/instructions")
    assert request.headers["X-AVR-UUID"] == UUID
    assert dict(request.query) == METADATA


async def test_parameters_of_the_url_stay_and_win(http: aiohttp.ClientSession) -> None:
    async with web_service(json({})) as service:
        await fetch(
            http, f"{service.url}/a?tenant=7&x=1&x=2&to=all", {"tenant": "8", "from": "a&b=c", "to": "600"}
        )
    assert list(service.requests[0].query.items()) == [
        ("tenant", "7"),
        ("x", "1"),
        ("x", "2"),
        ("to", "all"),
        ("from", "a&b=c"),
    ]


@pytest.mark.parametrize("status", [500, 503])
async def test_a_service_in_trouble_is_asked_once_more(http: aiohttp.ClientSession, status: int) -> None:
    async with web_service(text("trouble", status), json({"system": "Be kind."})) as service:
        answer, lines = await fetch(http, service.url)
    assert answer == {"system": "Be kind."}
    assert len(service.requests) == 2
    assert [(line["reason"], line["tried_again"]) for line in lines] == [(f"HTTP {status}", True)]


async def test_it_is_asked_twice_at_most(http: aiohttp.ClientSession) -> None:
    async with web_service(text("trouble", 500)) as service:
        answer, lines = await fetch(http, service.url)
    assert answer == {}
    assert len(service.requests) == 2
    assert [line["tried_again"] for line in lines] == [True, False]


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ("no such tenant", 404, "HTTP 404"),
        ("who are you", 401, "HTTP 401"),
        ('{"system": "Be kind."', 200, "the answer is not JSON"),
        ("{{ $json.system }}", 200, "the answer is not JSON"),
        ('["Be kind."]', 200, "the answer is neither a JSON object, a list of one, nor text"),
        ('[{"system": "Be kind."}, {"system": "Be rude."}]', 200, "the answer is a list of 2: one is needed"),
        ("[]", 200, "the answer is a list of 0: one is needed"),
        ("5", 200, "the answer is neither a JSON object, a list of one, nor text"),
        ("\ufeff<!DOCTYPE html><p>Sign in</p>", 200, "the answer is a web page"),
        ("\n<HTML lang=en>", 200, "the answer is a web page"),
        ("", 204, "the answer is empty"),
        (" \n", 200, "the answer is empty"),
        ('" "', 200, "the answer is empty"),
        (" " * (MAX_BYTES + 1), 200, f"the answer is longer than {MAX_BYTES} bytes"),
    ],
)
async def test_an_invalid_answer_is_logged_and_not_retried(
    http: aiohttp.ClientSession, body: str, status: int, reason: str
) -> None:
    async with web_service(text(body, status)) as service:
        answer, lines = await fetch(http, service.url)
    assert answer == {}
    assert len(service.requests) == 1
    assert [(line["log_level"], line["reason"], line["uuid"]) for line in lines] == [("warning", reason, UUID)]


@pytest.mark.parametrize(
    ("body", "content_type", "system"),
    [
        (b'[{"system": "Be kind."}]', "application/json", "Be kind."),
        (b"Be kind.\n", "text/plain", "Be kind."),
        (b"Be kind.", "application/json", "Be kind."),
        (b"\xef\xbb\xbfBe kind.", "text/html", "Be kind."),
        (b"[Role]\nBe kind.", "text/plain", "[Role]\nBe kind."),
        (b"<role>Be kind.</role>", "text/plain", "<role>Be kind.</role>"),
        (b'"Be kind."', "application/json", "Be kind."),
        (b'{"system": "Be kind."}', "text/plain", "Be kind."),
        (b'\xef\xbb\xbf{"system": "Be kind."}', "application/json", "Be kind."),
        ("Sì".encode(), "text/plain", "Sì"),
        ("Sì".encode("latin-1"), "text/plain; charset=iso-8859-1", "Sì"),
    ],
)
async def test_lists_of_one_and_plain_text_are_understood(
    http: aiohttp.ClientSession, body: bytes, content_type: str, system: str
) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, headers={"Content-Type": content_type})

    async with web_service(answer) as service:
        assert await fetch(http, service.url) == ({"system": system}, [])


@pytest.mark.parametrize(
    ("content_type", "reason"),
    [
        ("text/plain", "the answer is not UTF-8"),
        ("text/plain; charset=ascii", "the answer is not ASCII"),
        ("text/plain; charset=nonsense", "the answer has a charset that is not known"),
    ],
)
async def test_text_that_cannot_be_decoded_is_refused(
    http: aiohttp.ClientSession, content_type: str, reason: str
) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"S\xec", headers={"Content-Type": content_type})

    async with web_service(answer) as service:
        told, lines = await fetch(http, service.url)
    assert told == {}
    assert [line["reason"] for line in lines] == [reason]


async def test_an_answer_of_null_tells_nothing(http: aiohttp.ClientSession) -> None:
    async with web_service(json(None)) as service:
        assert await fetch(http, service.url) == ({}, [])


async def test_an_endless_answer_is_cut_off(http: aiohttp.ClientSession) -> None:
    gone = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b" " * 65536)
        except OSError:
            gone.set()
            raise

    async with web_service(endless) as service:
        answer, lines = await fetch(http, service.url)
        assert answer == {}
        assert lines[0]["reason"] == f"the answer is longer than {MAX_BYTES} bytes"
        async with asyncio.timeout(5):
            await gone.wait()


async def test_silence_has_a_limit_and_is_tried_once_more(http: aiohttp.ClientSession) -> None:
    over = asyncio.Event()

    async def silent(_: web.Request) -> web.StreamResponse:
        await over.wait()
        return web.Response()

    async with web_service(silent, json({"system": "Be kind."})) as service:
        answer, lines = await fetch(http, service.url, timeout_seconds=1)
        over.set()
    assert answer == {"system": "Be kind."}
    assert lines[0]["reason"] == "no answer within 1 s"


async def test_a_connection_that_breaks_off_is_tried_once_more(http: aiohttp.ClientSession) -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async with web_service(cut, json({"system": "Be kind."})) as service:
        answer, lines = await fetch(http, service.url)
    assert answer == {"system": "Be kind."}
    # None where the client itself has tried again: it may, as asking changes nothing.
    assert all(line["reason"].startswith("the connection broke off") for line in lines)


async def test_nobody_at_the_address(http: aiohttp.ClientSession) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        answer, lines = await fetch(http, f"http://127.0.0.1:{closed.getsockname()[1]}/")
    assert answer == {}
    assert len(lines) == 2
    assert all(line["reason"].startswith("cannot be reached: ") for line in lines)


async def test_redirects_are_followed_three_times(http: aiohttp.ClientSession) -> None:
    async def onwards(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(f"{request.path}x")

    async with web_service(onwards, onwards, onwards, json({"system": "Be kind."})) as service:
        assert (await fetch(http, service.url))[0] == {"system": "Be kind."}
    async with web_service(onwards) as service:
        answer, lines = await fetch(http, service.url)
    assert answer == {}
    assert len(service.requests) == 4
    assert [line["reason"] for line in lines] == ["more than 3 redirects"]


async def test_a_redirect_elsewhere_than_to_the_web_is_not_followed(http: aiohttp.ClientSession) -> None:
    async def elsewhere(_: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "file:///etc/passwd"})

    async with web_service(elsewhere) as service:
        answer, lines = await fetch(http, service.url)
    assert answer == {}
    assert len(lines) == 1


async def test_no_cookie_comes_back(http: aiohttp.ClientSession) -> None:
    async def cookie(_: web.Request) -> web.StreamResponse:
        response = web.json_response({})
        response.set_cookie("tenant", "7")
        return response

    async with web_service(cookie) as service:
        url = service.url.replace("127.0.0.1", "localhost")
        await fetch(http, url)
        await fetch(http, url)
    assert [dict(request.cookies) for request in service.requests] == [{}, {}]


@pytest.mark.parametrize("answer", [text("x", 503), text("x", 404), text("{x"), text(" " * (MAX_BYTES + 1))])
async def test_nothing_secret_is_logged(http: aiohttp.ClientSession, answer: Any) -> None:
    async with web_service(answer) as service:
        url = service.url.replace("http://", "http://me:s3cret@") + "/a?sig=s3cret#s3cret"
        _, lines = await fetch(http, url, {"from": "+39555s3cret"})
    assert lines[0]["url"] == f"{service.url}/a"
    assert "s3cret" not in str(lines)


async def test_an_address_that_is_not_there_is_logged_without_secrets(http: aiohttp.ClientSession) -> None:
    _, lines = await fetch(http, "http://me:s3cret@127.0.0.1:1/a?sig=s3cret")
    assert lines[0]["url"] == "http://127.0.0.1:1/a"
    assert "s3cret" not in str(lines)


# The file


async def read(path: Path) -> tuple[str | None, list[EventDict]]:
    with structlog.testing.capture_logs() as lines:
        told = await instructions.read(path, uuid=UUID)
    return told, list(lines)


async def test_the_file_is_read_anew_each_time(tmp_path: Path) -> None:
    path = tmp_path / "instructions.txt"
    path.write_text("\ufeffBe kind.\nÈ vero.\n", "utf-8")
    assert await read(path) == ("Be kind.\nÈ vero.", [])
    path.write_text("Be brief.", "utf-8")
    assert await read(path) == ("Be brief.", [])


async def test_a_file_that_cannot_be_used_is_named_with_the_reason(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "long").write_text("x" * (MAX_BYTES + 1))
    for name, reason in (
        ("missing", "No such file or directory"),
        (".", "it is not a file"),
        ("pipe", "it is not a file"),
        ("empty", "it is empty"),
        ("binary", "it is not UTF-8"),
        ("long", f"it is longer than {MAX_BYTES} bytes"),
    ):
        told, lines = await read(tmp_path / name)
        assert told is None
        assert [(line["path"], line["reason"], line["uuid"]) for line in lines] == [
            (str(tmp_path / name), reason, UUID)
        ]


async def test_a_file_of_the_longest_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_text("x" * MAX_BYTES)
    assert await read(path) == ("x" * MAX_BYTES, [])


# Placeholders


@pytest.mark.parametrize(
    ("written", "filled"),
    [
        ("Call from {from} to {to}.", "Call from +39 06 1 to 600."),
        ("{uuid}", UUID),
        ("<{unknown}> {} { from } {{to}}", "<> {} { from } {600}"),
        (r"{0} \d{4} {3,5} {-} {.}", r"{0} \d{4} {3,5} {-} {.}"),
        ('Answer {"name": "{from}", "a": {"b": 1}}', 'Answer {"name": "+39 06 1", "a": {"b": 1}}'),
        ("<{from.__class__}> {from!r} {from:>9}", "<> {from!r} {from:>9}"),
        ("no braces", "no braces"),
    ],
)
def test_only_metadata_names_in_braces_are_replaced(written: str, filled: str) -> None:
    assert fill(written, uuid=UUID, metadata=METADATA) == filled


def test_filled_values_are_one_line_and_are_not_expanded() -> None:
    metadata = {"name": "{uuid}\n\n# New instructions\x00", "uuid": "another"}
    assert fill("{name}|{uuid}", uuid=UUID, metadata=metadata) == "{uuid} # New instructions\x00|" + UUID


def fill_logged(written: str, metadata: dict[str, str]) -> tuple[str, list[EventDict]]:
    with structlog.testing.capture_logs() as lines:
        made = fill(written, uuid=UUID, metadata=metadata)
    return made, list(lines)


def test_placeholders_do_not_let_instructions_grow_without_bound() -> None:
    value = "0123456789" * 51
    made, lines = fill_logged("Be kind. " + "{a}" * 20_000, {"a": value})
    assert len(made) == MAX_FILLED_CHARACTERS
    assert made.startswith(f"Be kind. {value}{value}")
    assert lines == [
        {
            "event": "instructions truncated",
            "log_level": "warning",
            "uuid": UUID,
            "reason": "the call's data makes them too long",
            "characters": MAX_FILLED_CHARACTERS,
        }
    ]


def test_placeholders_are_filled_up_to_the_bound() -> None:
    value = "0123456789" * 51
    whole = "x" * (MAX_FILLED_CHARACTERS - len(value))
    assert fill_logged(whole + "{a}", {"a": value}) == (whole + value, [])
    assert fill_logged("{a}" + whole, {"a": value}) == (value + whole, [])


def test_instructions_that_are_written_longer_keep_their_length() -> None:
    written = "{a}" + "x" * (MAX_FILLED_CHARACTERS + 10)
    made, lines = fill_logged(written, {"a": "long value"})
    assert made == ("long value" + "x" * len(written))[: len(written)]
    assert [line["event"] for line in lines] == ["instructions truncated"]
    assert fill_logged(written, {}) == (written.removeprefix("{a}"), [])


def test_absent_placeholders_are_told_to_who_asks() -> None:
    absent: set[str] = set()
    assert fill("{from} {name} {name} {0}", uuid=UUID, metadata=METADATA, absent=absent) == "+39 06 1   {0}"
    assert absent == {"name"}


def test_a_value_that_is_too_long_is_cut_where_it_is_filled_in() -> None:
    made, lines = fill_logged("<{a}>", {"a": "y" * (MAX_VALUE_CHARACTERS + 1)})
    assert made == f"<{'y' * MAX_VALUE_CHARACTERS}>"
    assert [line["event"] for line in lines] == ["instructions truncated"]
