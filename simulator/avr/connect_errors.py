"""The reason why a connection to the service could not be opened, in words for the person who typed the URL."""

from __future__ import annotations

import asyncio
import http.client
import os
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

import aiohttp

from common.net.ports import host_and_port
from common.observe.admin import CALLS_PORT_HEADER

PROBE_SECONDS: Final = 3.0
"""Maximum time to find out whether a port speaks TLS."""

_USE_WSS: Final = "this port speaks TLS: use wss:// in place of ws://"
_USE_WS: Final = "this port does not speak TLS: use ws:// in place of wss://"
_TRUST: Final = "set SSL_CERT_FILE to a PEM file that holds the certificate of its CA"

_CERTIFICATE_FAULTS: Final[Mapping[int, str]] = {
    # X509_V_ERR_* of OpenSSL (x509_vfy.h).
    9: "its certificate is not valid yet: check the clocks of both hosts",
    10: "its certificate has expired: renew it",
    18: f"its certificate is self-signed: {_TRUST}",
    19: f"an unknown CA signed its certificate: {_TRUST}",
    20: f"an unknown CA signed its certificate: {_TRUST}",
    21: f"an unknown CA signed its certificate: {_TRUST}",
}
_WRONG_NAME: Final = frozenset({62, 64})

_ANSWERS_WITHOUT_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"})
"""OpenSSL's reasons for an answer that is no TLS."""


_TLS_HANDSHAKE: Final = b"\x16"
"""The type of the record with which a TLS server begins (RFC 8446, 5.1)."""


async def explain(error: Exception, url: str, timeout_seconds: float) -> str:
    """Return the reason of an error of opening a WebSocket to `url`.

    Args:
        error: an `aiohttp.ClientError` or `OSError`.
        url: of the service.
        timeout_seconds: the time that the attempt had.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "wss" else 80)
    except ValueError:
        return "not a ws:// or wss:// address"
    host = parts.hostname or ""
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return "not a ws:// or wss:// address"
    if isinstance(error, aiohttp.WSServerHandshakeError) and error.headers is not None:
        calls_port = error.headers.get(CALLS_PORT_HEADER)
        if calls_port is not None:
            return _admin_port(parts, calls_port)
    tls_error = error.certificate_error if isinstance(error, aiohttp.ClientConnectorCertificateError) else None
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        tls_error = error.os_error
    if isinstance(tls_error, ssl.SSLCertVerificationError):
        return _certificate_fault(tls_error, host)
    if isinstance(tls_error, ssl.SSLError) and tls_error.reason in _ANSWERS_WITHOUT_TLS:
        return _USE_WS
    if not _is_unreachable(error):
        if parts.scheme == "wss" and await _speaks_http(host, port):
            return _USE_WS
        if parts.scheme == "ws" and _may_be_tls(error) and await _speaks_tls(host, port):
            return _USE_WSS
    if tls_error is not None:
        return f"TLS failed: {_reason(tls_error)}"
    return _plain_reason(error, timeout_seconds)


def without_secrets(url: str) -> str:
    """Return the URL without its user and its query (a token, telephone numbers)."""
    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return "this URL"


def _admin_port(parts: SplitResult, calls_port: str) -> str:
    if not calls_port.isdecimal():
        return "this is the admin port of a worker: calls go to PORT of a dispatcher"
    return (
        "this is the admin port: calls go to PORT, "
        f"{parts.scheme}://{host_and_port(parts.hostname or '', int(calls_port))}"
    )


def _certificate_fault(error: ssl.SSLCertVerificationError, host: str) -> str:
    if error.verify_code in _WRONG_NAME:
        return f"its certificate is not for {host}: use a name of the certificate, or another certificate"
    return _CERTIFICATE_FAULTS.get(error.verify_code, f"its certificate is refused: {error.verify_message}")


def _is_unreachable(error: Exception) -> bool:
    """Return whether there is no TCP connection at all, so that it is of no use to probe the port."""
    if not isinstance(error, aiohttp.ClientConnectorError) or isinstance(error, aiohttp.ClientSSLError):
        return False
    return not isinstance(error.os_error, ConnectionResetError | BrokenPipeError)


def _may_be_tls(error: Exception) -> bool:
    """Return whether a TLS port may have refused plain text; it closes the connection, or answers HTTP 400."""
    if isinstance(error, TimeoutError):
        return False
    return not isinstance(error, aiohttp.WSServerHandshakeError) or error.status == 400


def _plain_reason(error: Exception, timeout_seconds: float) -> str:
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return f"HTTP {error.status} {http.client.responses.get(error.status, '')}".rstrip()
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout_seconds:g} s"
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        # TLS errors and names that do not resolve have numbers of their own.
        is_of_system = number is not None and number > 0 and not isinstance(error.os_error, ssl.SSLError)
        return os.strerror(number) if is_of_system and number else _reason(error.os_error)
    return str(error) or type(error).__name__


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


async def _speaks_tls(host: str, port: int) -> bool:
    """Return whether the port answers the beginning of TLS with a TLS record."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    hello = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), hello).do_handshake()
    return await _answer(host, port, hello.read(), 1) == _TLS_HANDSHAKE


async def _speaks_http(host: str, port: int) -> bool:
    """Return whether the port answers plain HTTP."""
    request = f"GET / HTTP/1.1\r\nHost: {host_and_port(host, port)}\r\n\r\n"
    return await _answer(host, port, request.encode(), 5) == b"HTTP/"


async def _answer(host: str, port: int, sent: bytes, size: int) -> bytes:
    """Return the first bytes of the answer; fewer or none if they do not come in time."""
    with suppress(OSError, TimeoutError, EOFError):
        async with asyncio.timeout(PROBE_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(sent)
                return await reader.readexactly(size)
            finally:
                writer.transport.abort()
                with suppress(OSError):
                    await writer.wait_closed()
    return b""
