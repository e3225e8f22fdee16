"""TLS of the public ports, and of the link between dispatchers and workers.

Contexts are made from files, and made anew when the files change: a certificate is renewed without a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

LOOK_SECONDS: Final = 10.0
"""Time between two looks at the files."""

_PORT_VARIABLES: Final = ("TLS_CERT", "TLS_KEY")
_LINK_VARIABLES: Final = ("CLUSTER_TLS_CERT", "CLUSTER_TLS_KEY", "CLUSTER_TLS_CA")

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files (PEM) of a certificate with its chain, of its key, and of the CA of the link's certificates."""

    cert: Path
    key: Path
    ca: Path | None = None

    def of_port(self) -> ssl.SSLContext:
        """Make the context of a public port."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._load(context)
        return context

    def of_worker(self) -> ssl.SSLContext:
        """Make the context of a worker's end of the link: a dispatcher must show a certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        self._load(context)
        return context

    def of_dispatcher(self) -> ssl.SSLContext:
        """Make the context of a dispatcher's end of the link: a worker must show a certificate.

        The name in the certificate is not checked: workers come and go, and their addresses cannot be named in
        certificates. The CA signs for this cluster alone, so every holder of a certificate belongs to the cluster.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        self._load(context)
        return context

    def _load(self, context: ssl.SSLContext) -> None:
        # Without a password callback OpenSSL would ask for a passphrase on the terminal.
        context.load_cert_chain(self.cert, self.key, password=lambda: b"")
        if self.ca is not None:
            # Both ends belong to this service, so both can speak TLS 1.3.
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.load_verify_locations(self.ca)


class Tls:
    """A context of `files` that is made anew when the files change.

    Args:
        files: the files.
        make: makes the context, such as `TlsFiles.of_port`; the exception of its first call is raised here.
        look_seconds: interval of the looks at the files.
    """

    def __init__(
        self,
        files: TlsFiles,
        make: Callable[[TlsFiles], ssl.SSLContext],
        *,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._look_seconds = look_seconds
        self._files = files
        self._make = make
        # Taken before the files are read, so that a change in between is seen at the next look.
        self._seen = _stamps(files)
        self.context = make(files)
        self._look_now = asyncio.Event()

    def look_soon(self) -> None:
        """Look at the files now, in the task that waits in `look_later`."""
        self._look_now.set()

    async def look_later(self) -> None:
        """Look at the files after `look_seconds`, or as soon as `look_soon` is called."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._look_now.wait(), self._look_seconds)
        self._look_now.clear()
        await self.look()

    async def look(self) -> None:
        """Make the context anew if a file has changed; keep the old context if the files do not work.

        The disk is read in a thread, so that a folder that hangs delays no call.
        """
        stamps = await asyncio.to_thread(_stamps, self._files)
        if stamps == self._seen:
            return
        self._seen = stamps
        try:
            self.context = await asyncio.to_thread(self._make, self._files)
        except (OSError, ValueError) as error:
            # For example, only one file of a pair has been written: the other one triggers another attempt.
            _log.warning("certificate not changed", certificate=str(self._files.cert), reason=_reason(error))
        else:
            _log.info("certificate changed", certificate=str(self._files.cert))


def problems_of_port(cert: Path | None, key: Path | None) -> list[str]:
    """Return a line for each problem of TLS_CERT and TLS_KEY."""
    return list(_problems(_PORT_VARIABLES, (cert, key)))


def problems_of_link(cert: Path | None, key: Path | None, ca: Path | None) -> list[str]:
    """Return a line for each problem of CLUSTER_TLS_CERT, CLUSTER_TLS_KEY and CLUSTER_TLS_CA."""
    return list(_problems(_LINK_VARIABLES, (cert, key, ca)))


def _problems(names: tuple[str, ...], paths: tuple[Path | None, ...]) -> Iterator[str]:
    given = [name for name, path in zip(names, paths, strict=True) if path is not None]
    missing = [name for name in names if name not in given]
    if not given:
        return
    if missing:
        all_of_them = "both" if len(names) == 2 else "all three"
        yield f"{', '.join(given)} set, but not {', '.join(missing)}: set {all_of_them}, or none"
    unreadable = False
    for name, path in zip(names, paths, strict=True):
        if path is None:
            continue
        try:
            with path.open("rb"):
                pass
        except (OSError, ValueError) as error:
            unreadable = True
            yield f"{_shown(name, path)} must be a PEM file that can be read: {_reason(error)}"
    if not missing and not unreadable:
        yield from _contents(names, paths)


def _contents(names: tuple[str, ...], paths: tuple[Path | None, ...]) -> Iterator[str]:
    """Yield the problems of files that can all be read."""
    cert, key, *more = (path for path in paths if path is not None)
    wrong = False
    for name, path in zip(names, paths, strict=True):
        if path is not key and path is not None and not _holds_certificate(path):
            wrong = True
            yield f"{_shown(name, path)} holds no certificate: it must be PEM, -----BEGIN CERTIFICATE-----"
    if wrong:
        return
    try:
        TlsFiles(cert, key, *more).of_port()
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            yield f"{names[1]} is not the key of {_shown(names[0], cert)}"
        else:
            yield f"{names[1]} names a file that holds no private key: it must be PEM, without a passphrase"
    except (OSError, ValueError):
        yield f"{names[1]} names a file that holds no private key: it must be PEM, without a passphrase"


def _holds_certificate(path: Path) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except (OSError, ValueError):
        return False
    return True


def _shown(name: str, path: Path) -> str:
    # An operator may have set the key itself by mistake.
    return f"{name}, whose value is not shown here," if name.endswith("_KEY") else f"{name}={str(path)!r}"


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or type(error).__name__
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _stamps(files: TlsFiles) -> tuple[tuple[int, ...] | None, ...]:
    return tuple(_stamp(path) for path in (files.cert, files.key, files.ca) if path is not None)


def _stamp(path: Path) -> tuple[int, ...] | None:
    """Return values that change whenever a file changes; a mounted secret is a link that is replaced."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
