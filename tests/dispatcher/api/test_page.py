"""The page's files over real HTTP, and forbidden contents of these files."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr

from common.net.tokens import Token
from common.observe import admin
from dispatcher.api import page
from dispatcher.api.access import Access

MOST_BYTES = 128 * 1024
_REPOSITORY = Path(__file__).resolve().parents[3]


@asynccontextmanager
async def answering(sock: socket.socket, token: Token | None = None) -> AsyncIterator[None]:
    app = web.Application()
    app.add_routes(page.routes(Access(token)))
    runner = await admin.serve(app, sock)
    try:
        yield
    finally:
        await runner.cleanup()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    sock = socket.create_server(("127.0.0.1", 0))
    session = aiohttp.ClientSession(f"http://127.0.0.1:{sock.getsockname()[1]}")
    async with answering(sock), session:
        yield session


def files() -> Iterator[Path]:
    return (file for file in page.FOLDER.iterdir() if file.is_file())


class TestFiles:
    async def test_page_and_all_its_files_are_served(self, http: aiohttp.ClientSession) -> None:
        async with http.get("/") as response:
            assert (response.status, response.content_type) == (200, "text/html")
            index = await response.text()
        waiting = re.findall(r'(?:href|src)="(page/[^"]+)"', index)
        assert {Path(name).suffix for name in waiting} == {".css", ".js", ".svg"}
        seen = set()
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            async with http.get(f"/{name}") as response:
                assert response.status == 200
                assert response.content_type in {"text/css", "text/javascript", "image/svg+xml"}
                waiting += [f"page/{each}" for each in re.findall(r'from "\./([^"]+)"', await response.text())]
        # Each file in the folder is used by another one.
        assert {Path(name).name for name in seen} | {"index.html"} == {file.name for file in files()}

    async def test_each_file_has_the_security_headers(self, http: aiohttp.ClientSession) -> None:
        for file in files():
            async with http.get("/" if file.name == page.INDEX else f"/page/{file.name}") as response:
                assert await response.read() == file.read_bytes()
                for name, value in page.HEADERS.items():
                    assert response.headers[name] == value

    def test_policy_permits_only_this_origin(self) -> None:
        policy = dict(each.split(" ", 1) for each in page.POLICY.split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["connect-src"] == "'self'"
        assert policy["require-trusted-types-for"] == "'script'"
        assert "unsafe" not in page.POLICY

    @pytest.mark.parametrize("path", ["/page/", "/page/index.html", "/page/../page.py", "/page/%2e%2e/page.py"])
    async def test_other_paths_are_not_found(self, http: aiohttp.ClientSession, path: str) -> None:
        async with http.get(path) as response:
            assert response.status == 404

    async def test_other_methods_are_refused(self, http: aiohttp.ClientSession) -> None:
        async with http.post("/") as response:
            assert response.status == 405


class TestWhoMaySeeIt:
    async def test_without_a_token_other_hosts_are_refused(self, tmp_path: Path) -> None:
        # The peer of a Unix socket has no IP address.
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(tmp_path / "admin"))
        connector = aiohttp.UnixConnector(str(tmp_path / "admin"))
        async with answering(sock), aiohttp.ClientSession("http://localhost", connector=connector) as http:
            for file in files():
                async with http.get("/" if file.name == page.INDEX else f"/page/{file.name}") as response:
                    assert response.status == 403
                    assert "ADMIN_TOKEN" in await response.text()

    async def test_with_a_token_the_page_is_served_to_everybody(self, tmp_path: Path) -> None:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(tmp_path / "admin"))
        connector = aiohttp.UnixConnector(str(tmp_path / "admin"))
        token = Token(SecretStr("a-token-for-the-admin"))
        async with (
            answering(sock, token),
            aiohttp.ClientSession("http://localhost", connector=connector) as http,
            http.get("/") as response,
        ):
            assert response.status == 200
            assert token.value.get_secret_value() not in await response.text()


class TestSource:
    """Contents that a browser would refuse by the policy, and contents that the policy does not cover."""

    @pytest.mark.parametrize("file", sorted(files()), ids=lambda file: file.name)
    def test_no_external_address_and_no_inline_script_or_style(self, file: Path) -> None:
        text = file.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//\w", text)
        assert not re.search(r"\sstyle=|\son\w+=|<style|<script>|javascript:|@import|url\(", text)

    @pytest.mark.parametrize(
        "file", sorted(file for file in files() if file.suffix == ".js"), ids=lambda file: file.name
    )
    def test_scripts_use_no_unsafe_functions(self, file: Path) -> None:
        text = file.read_text("utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(|srcdoc", text)
        assert not re.search(r"localStorage|document\.cookie|indexedDB|console\.", text)

    def test_page_is_small_and_part_of_the_package(self) -> None:
        assert sum(file.stat().st_size for file in files()) < MOST_BYTES
        assert '"dispatcher.api" = ["static/*"]' in (_REPOSITORY / "pyproject.toml").read_text("utf-8")
