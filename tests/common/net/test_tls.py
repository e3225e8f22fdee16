from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from prometheus_client import Counter
from structlog.testing import capture_logs

from common.net.tls import Tls, TlsFiles, problems_of_link, problems_of_port
from common.runtime.lasting_task import repeat
from tests.certificates import Authority, self_signed
from tests.helpers import eventually

PATIENCE_SECONDS = 10.0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@contextlib.asynccontextmanager
async def answering(tls: Tls) -> AsyncIterator[int]:
    """Run a server that sends a greeting, with the current context."""

    async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(b"hello")
            await reader.read()
        writer.close()

    # Looked at again for each connection, as a listener does.
    server = await asyncio.start_server(hello, "127.0.0.1", 0, ssl=tls.context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def says_hello(port: int, context: ssl.SSLContext) -> bool:
    """Whether a client with this context is spoken to."""
    try:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname="somebody" if not context.check_hostname else None
        )
    except OSError:
        return False
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await reader.read(5) == b"hello"
    except OSError:
        return False
    finally:
        writer.close()


class TestPort:
    async def test_only_a_client_that_trusts_the_ca_connects(self, authority: Authority, tmp_path: Path) -> None:
        async with answering(Tls(authority.issue(), TlsFiles.of_port)) as port:
            assert await says_hello(port, authority.trust())
            assert not await says_hello(port, Authority(tmp_path / "other").trust())

    def test_tls_before_1_2_is_not_spoken(self, authority: Authority) -> None:
        assert authority.issue().of_port().minimum_version >= ssl.TLSVersion.TLSv1_2


class TestLink:
    async def test_both_ends_show_a_certificate_of_the_clusters_ca(
        self, authority: Authority, tmp_path: Path
    ) -> None:
        worker = authority.issue("worker.example", as_file="worker")
        dispatcher = authority.issue("dispatcher.example", as_file="dispatcher")
        stranger = Authority(tmp_path / "other").issue("dispatcher.example")
        async with answering(Tls(worker, TlsFiles.of_worker)) as port:
            # No name is looked at: workers are known by addresses that no certificate can name.
            assert await says_hello(port, dispatcher.of_dispatcher())
            # A stranger's own CA, and a stranger that trusts ours.
            assert not await says_hello(port, stranger.of_dispatcher())
            assert not await says_hello(
                port, TlsFiles(stranger.cert, stranger.key, authority.path).of_dispatcher()
            )
            # And one without a certificate.
            assert not await says_hello(port, authority.trust())

    async def test_a_dispatcher_does_not_speak_to_a_strange_worker(
        self, authority: Authority, tmp_path: Path
    ) -> None:
        strange = TlsFiles(*self_signed_pair(tmp_path), authority.path)
        async with answering(Tls(strange, TlsFiles.of_worker)) as port:
            assert not await says_hello(port, authority.issue().of_dispatcher())

    def test_only_tls_1_3_is_spoken(self, authority: Authority) -> None:
        files = authority.issue()
        for context in (files.of_worker(), files.of_dispatcher()):
            assert context.minimum_version == ssl.TLSVersion.TLSv1_3
            assert context.verify_mode == ssl.CERT_REQUIRED


def self_signed_pair(folder: Path) -> tuple[Path, Path]:
    files = self_signed(folder / "nobody")
    return files.cert, files.key


def certificate_of(context: ssl.SSLContext, trust: ssl.SSLContext) -> bytes:
    """Return the certificate that a server of this context shows."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    client = trust.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    done = False
    while not done:
        done = True
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                done = False
    shown = client.getpeercert(binary_form=True)
    assert shown is not None
    return shown


class TestRenewal:
    async def test_a_changed_certificate_is_used_without_a_restart(self, authority: Authority) -> None:
        files = authority.issue()
        tls = Tls(files, TlsFiles.of_port)
        first = certificate_of(tls.context, authority.trust())
        await tls.look()
        assert certificate_of(tls.context, authority.trust()) == first
        authority.issue()
        with capture_logs() as lines:
            await tls.look()
        assert [line["event"] for line in lines] == ["certificate changed"]
        second = certificate_of(tls.context, authority.trust())
        assert second != first
        context = tls.context
        await tls.look()
        assert tls.context is context

    async def test_a_mounted_secret_whose_link_moves_is_a_change(
        self, authority: Authority, tmp_path: Path
    ) -> None:
        # As Kubernetes does it: ..data names the folder of the moment.
        data = tmp_path / "..data"
        for folder in ("one", "two"):
            files = authority.issue(as_file="tls")
            (tmp_path / folder).mkdir()
            files.cert.rename(tmp_path / folder / "tls.crt")
            files.key.rename(tmp_path / folder / "tls.key")
        data.symlink_to("one")
        tls = Tls(TlsFiles(data / "tls.crt", data / "tls.key"), TlsFiles.of_port)
        first = certificate_of(tls.context, authority.trust())
        moved = tmp_path / "..data_tmp"
        moved.symlink_to("two")
        moved.replace(data)
        await tls.look()
        assert certificate_of(tls.context, authority.trust()) != first

    async def test_only_a_complete_pair_changes_the_context(self, authority: Authority) -> None:
        files = authority.issue()
        tls = Tls(files, TlsFiles.of_port)
        first = certificate_of(tls.context, authority.trust())
        old_key = files.key.read_bytes()
        authority.issue()
        new_key = files.key.read_bytes()
        files.key.write_bytes(old_key)
        with capture_logs() as lines:
            await tls.look()
            await tls.look()
        assert [(line["event"], line["reason"]) for line in lines] == [
            ("certificate not changed", "KEY_VALUES_MISMATCH")
        ]
        assert certificate_of(tls.context, authority.trust()) == first
        files.key.write_bytes(new_key)
        await tls.look()
        assert certificate_of(tls.context, authority.trust()) != first

    async def test_a_file_that_is_gone_for_a_moment_changes_nothing(self, authority: Authority) -> None:
        files = authority.issue()
        tls = Tls(files, TlsFiles.of_port)
        context = tls.context
        files.cert.unlink()
        await tls.look()
        assert tls.context is context
        authority.issue()
        await tls.look()
        assert tls.context is not context

    async def test_the_files_are_looked_at_all_the_time(self, authority: Authority) -> None:
        tls = Tls(authority.issue(), TlsFiles.of_port, look_seconds=0.01)
        context = tls.context
        looking = asyncio.create_task(
            repeat(tls.look_later, task="certificates", failures=Counter("failures", "of the test", registry=None))
        )
        authority.issue()
        await eventually(lambda: tls.context is not context, PATIENCE_SECONDS)
        looking.cancel()

    async def test_the_files_are_read_at_once_on_request(self, authority: Authority) -> None:
        tls = Tls(authority.issue(), TlsFiles.of_port, look_seconds=3600)
        context = tls.context
        looking = asyncio.create_task(
            repeat(tls.look_later, task="certificates", failures=Counter("failures", "of the test", registry=None))
        )
        authority.issue()
        tls.look_soon()
        await eventually(lambda: tls.context is not context, PATIENCE_SECONDS)
        looking.cancel()


class TestProblems:
    def test_there_are_none(self, authority: Authority) -> None:
        files = authority.issue()
        assert problems_of_port(None, None) == []
        assert problems_of_port(files.cert, files.key) == []
        assert problems_of_link(None, None, None) == []
        assert problems_of_link(files.cert, files.key, files.ca) == []

    def test_an_incomplete_set_of_files_is_a_problem(self, authority: Authority) -> None:
        files = authority.issue()
        assert problems_of_port(files.cert, None) == ["TLS_CERT set, but not TLS_KEY: set both, or none"]
        assert problems_of_port(None, files.key) == ["TLS_KEY set, but not TLS_CERT: set both, or none"]
        assert problems_of_link(files.cert, None, None) == [
            "CLUSTER_TLS_CERT set, but not CLUSTER_TLS_KEY, CLUSTER_TLS_CA: set all three, or none"
        ]

    def test_a_file_that_cannot_be_read_is_named(self, authority: Authority, tmp_path: Path) -> None:
        files = authority.issue()
        missing = tmp_path / "missing.pem"
        (line,) = problems_of_port(missing, files.key)
        assert line == f"TLS_CERT='{missing}' must be a PEM file that can be read: No such file or directory"
        (line,) = problems_of_link(files.cert, files.key, tmp_path)
        assert line.startswith(f"CLUSTER_TLS_CA='{tmp_path}' must be a PEM file that can be read: Is a directory")

    def test_the_value_of_a_key_variable_is_not_shown(self, authority: Authority) -> None:
        secret = "-----BEGIN PRIVATE KEY-----\nMIIsecret"
        (line,) = problems_of_port(authority.issue().cert, Path(secret))
        assert line.startswith("TLS_KEY, whose value is not shown here, must be a PEM file that can be read")
        assert "MIIsecret" not in line
        (line,) = problems_of_port(authority.issue().cert, Path("a\0b"))
        assert line.startswith("TLS_KEY, whose value is not shown here, must be a PEM file that can be read")

    def test_a_key_of_another_certificate_is_reported(self, authority: Authority) -> None:
        one, other = authority.issue(as_file="one"), authority.issue(as_file="other")
        assert problems_of_port(one.cert, other.key) == [f"TLS_KEY is not the key of TLS_CERT='{one.cert}'"]

    def test_a_file_without_certificate_or_key_is_reported(self, authority: Authority, tmp_path: Path) -> None:
        files = authority.issue()
        text = tmp_path / "text.pem"
        text.write_text("nothing of the kind\n")
        assert problems_of_port(text, files.key) == [
            f"TLS_CERT='{text}' holds no certificate: it must be PEM, -----BEGIN CERTIFICATE-----"
        ]
        no_key = "names a file that holds no private key: it must be PEM, without a passphrase"
        assert problems_of_port(files.cert, text) == [f"TLS_KEY {no_key}"]
        assert problems_of_port(files.cert, files.cert) == [f"TLS_KEY {no_key}"]
        assert problems_of_link(files.cert, text, files.ca) == [f"CLUSTER_TLS_KEY {no_key}"]
        (line,) = problems_of_link(files.cert, files.key, text)
        assert line.startswith(f"CLUSTER_TLS_CA='{text}' holds no certificate")

    def test_an_encrypted_key_is_refused_without_a_prompt(self, authority: Authority, tmp_path: Path) -> None:
        files = authority.issue()
        locked = tmp_path / "locked.key"
        key = load_pem_private_key(files.key.read_bytes(), password=None)
        encryption = serialization.BestAvailableEncryption(b"passphrase")
        form = serialization.PrivateFormat.PKCS8
        locked.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, encryption))
        (line,) = problems_of_port(files.cert, locked)
        assert line.startswith("TLS_KEY names a file that holds no private key")
