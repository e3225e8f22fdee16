"""The check of the certificates: whether they are valid today, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Sequence
from typing import Final

from common.check.check import Check
from common.check.finding import Finding, State
from common.net.tls import TlsFiles
from common.settings.settings import Settings

SOON_DAYS: Final = 14
"""Days before its end at which a certificate should have been renewed."""

ROUND_TRIPS: Final = 4
"""More than a handshake takes; an end that has done it does nothing more."""

_DAY_SECONDS: Final = 86_400
_EXPIRED: Final = 10  # X509_V_ERR_CERT_HAS_EXPIRED


def checks(settings: Settings) -> list[Check]:
    """Return a check for each certificate that is set."""
    named = (("TLS_CERT", settings.tls), ("CLUSTER_TLS_CERT", settings.cluster_tls))
    return [_check(name, files) for name, files in named if files is not None]


def _check(name: str, files: TlsFiles) -> Check:
    async def look() -> Sequence[Finding]:
        return [await asyncio.to_thread(_look, name, files)]

    return Check(name, str(files.cert), look, late="check the folder of the certificate: the disk does not answer")


def _look(name: str, files: TlsFiles) -> Finding:
    value, renew = str(files.cert), "renew the certificate: docs/rotation.md"
    try:
        ends = _end_seconds(files)
    except ssl.SSLCertVerificationError as error:
        todo = renew if error.verify_code == _EXPIRED else "use another certificate, or correct this host's clock"
        return Finding(name, State.FAIL, value, f"clients will refuse it: {error.verify_message}", todo)
    except (OSError, ValueError) as error:
        what = f"the certificate and its key cannot be used: {type(error).__name__}"
        return Finding(name, State.FAIL, value, what, "name a certificate and its key (PEM, without a passphrase)")
    days = (ends - time.time()) / _DAY_SECONDS
    what = f"the key matches, and it is valid for {days:.0f} more days"
    if days < SOON_DAYS:
        return Finding(name, State.WARN, value, what, renew)
    return Finding(name, State.OK, value, what)


def _end_seconds(files: TlsFiles) -> float:
    """Return the end of a certificate, as Unix time.

    A handshake in memory reads it, because the standard library has no other public reader of certificates.

    Raises:
        ssl.SSLCertVerificationError: it is not valid now.
        OSError, ValueError: a file cannot be used, or the key is another certificate's.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.cert, files.key, password=lambda: b"")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    # The certificate vouches for itself: whether clients trust its CA is not known here.
    client.load_verify_locations(files.cert)
    client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    at_client = client.wrap_bio(to_client, to_server)
    at_server = server.wrap_bio(to_server, to_client, server_side=True)
    for end in [at_client, at_server] * ROUND_TRIPS:
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    certificate = at_client.getpeercert() or {}
    return float(ssl.cert_time_to_seconds(str(certificate["notAfter"])))
