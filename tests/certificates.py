"""Certificates that tests make, each run anew: a CA, what it signs, and a TLS end in front of a server."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from urllib.parse import urlsplit

import trustme

from common.net.tls import TlsFiles

_READ_BYTES = 64 * 1024


class Authority:
    """A CA; `path` is its certificate."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._ca = trustme.CA(organization_name=name)
        self.path = folder / f"{name}.pem"
        self._ca.cert_pem.write_to_path(str(self.path))

    def issue(self, name: str = "127.0.0.1", *, as_file: str = "leaf") -> TlsFiles:
        """Return a certificate for this address or host name, written to files of this name, with this CA."""
        leaf = self._ca.issue_cert(name)
        files = TlsFiles(self._folder / f"{as_file}.crt", self._folder / f"{as_file}.key", self.path)
        files.cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(str(files.key))
        return files

    def trust(self) -> ssl.SSLContext:
        """For a client that trusts this CA, and no other."""
        return ssl.create_default_context(cafile=str(self.path))


def self_signed(folder: Path) -> TlsFiles:
    """Return a self-signed certificate for 127.0.0.1."""
    return Authority(folder, "nobody").issue()


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def tls_in_front_of(url: str, files: TlsFiles) -> AsyncIterator[int]:
    """Run a TLS end before the server at `url` (host:port, or a Unix socket); yield its port on 127.0.0.1."""
    target = urlsplit(url)

    async def connect() -> Stream:
        if target.scheme == "unix":
            return await asyncio.open_unix_connection(target.path)
        return await asyncio.open_connection(target.hostname, target.port)

    tasks: set[asyncio.Task[None]] = set()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(OSError):
                far_reader, far_writer = await connect()
                try:
                    await _first(_copy(reader, far_writer), _copy(far_reader, writer))
                finally:
                    far_writer.close()
        finally:
            writer.close()
            tasks.discard(task)

    server = await asyncio.start_server(relay, "127.0.0.1", 0, ssl=files.of_port())
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_READ_BYTES):
            writer.write(data)
            await writer.drain()


async def _first(*copies: Awaitable[None]) -> None:
    """Copy until one direction has ended, which ends the other one, too."""
    tasks = [asyncio.ensure_future(copy) for copy in copies]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
