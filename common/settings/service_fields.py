"""The settings of the processes: ports, peers, tokens, TLS, numbers of processes, and logs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field

from common.net.proxy import Proxies
from common.net.tls import TlsFiles
from common.observe.log_options import LogFormat, LogLevel
from common.settings.cores import usable_cores
from common.settings.field_types import Address, Boolean, Origins, Port, ProxyUrl, RedisUrl, Token
from common.settings.roles import DEFAULT_DRAIN_SECONDS, Role
from common.settings.values import MIN_TOKEN_CHARACTERS, number, one_of, whole_number


class PortFields(BaseModel):
    """The settings of the ports."""

    port: Port = Field(default=6030, description="AVR Core's port: WebSocket on any path (dispatcher)")
    admin_port: Port = Field(
        default=9090, description="HTTP: probes and metrics; the calls API, for loopback, or with ADMIN_TOKEN"
    )
    worker_port: Port = Field(default=7000, description="the link that dispatchers open (worker in a cluster)")
    worker_address: Address = Field(
        default=None, description="the address that a worker publishes in Redis; unset: this host's"
    )


class ServiceFields(BaseModel):
    """The settings of the processes, apart from their ports."""

    https_proxy: ProxyUrl = Field(
        default=None,
        repr=False,
        description="an HTTP proxy for https and wss: the Realtime API and OPENAI_URL_INSTRUCTIONS; "
        "http://host:port or http://user:password@host:port",
    )
    http_proxy: ProxyUrl = Field(default=None, repr=False, description="the same for http and ws")
    no_proxy: str | None = Field(
        default=None,
        description="hosts that are reached without a proxy: names, domains, addresses, networks (10.0.0.0/8), or "
        "*; loopback always is",
    )
    redis_url: RedisUrl = Field(
        default=None, repr=False, description="redis://, rediss:// or unix://; unset in serve: an embedded one"
    )
    sts_token: Token = Field(
        default=None,
        description="if set, AVR Core must bring it: ?token= in STS_URL, or Authorization: Bearer; at least "
        f"{MIN_TOKEN_CHARACTERS} characters",
    )
    allowed_origins: Origins = Field(
        default=None,
        description="origins of web pages that may place calls on PORT, such as https://phone.example; others are "
        "refused with 403, as is every page on WORKER_PORT; unset: none may",
    )
    tls_cert: Path | None = Field(
        default=None,
        description="TLS on PORT: the certificate and its chain (PEM); read again when it changes",
    )
    tls_key: Path | None = Field(default=None, repr=False, description="its key (PEM, without a passphrase)")
    cluster_token: Token = Field(
        default=None,
        description="if set, dispatchers and workers prove to each other that they have it; the same for all",
    )
    cluster_tls_cert: Path | None = Field(
        default=None,
        description="TLS on the link, where both ends show a certificate: this process's (PEM)",
    )
    cluster_tls_key: Path | None = Field(
        default=None, repr=False, description="its key (PEM, without a passphrase)"
    )
    cluster_tls_ca: Path | None = Field(
        default=None,
        description="who signs those of all dispatchers and workers, and of nobody else (PEM)",
    )
    admin_token: Token = Field(
        default=None, description="if set, the calls API asks for it (Authorization: Bearer), from wherever"
    )
    workers: Annotated[int, BeforeValidator(whole_number(1, 256))] = Field(
        default_factory=usable_cores,
        description="worker processes of serve; unset: its cores, within its container's CPU limit",
    )
    dispatchers: Annotated[int, BeforeValidator(whole_number(1, 256))] = Field(
        default=1, description="dispatcher processes of serve, which share PORT"
    )
    worker_max_calls: Annotated[int, BeforeValidator(whole_number(1, 100_000))] = Field(
        default=200, description="calls that one worker takes at most"
    )
    call_reconnect_seconds: Annotated[float, BeforeValidator(number(0, 3600))] = Field(
        default=10, description="how long a call whose caller connection broke is kept for the same uuid"
    )
    session_rollover_seconds: Annotated[float, BeforeValidator(number(1, 3500))] = Field(
        default=3300, description="a Realtime session is replaced before its 60-minute limit"
    )
    grouping_ms: Annotated[int, BeforeValidator(whole_number(0, 20))] = Field(
        default=3,
        description="with 10 calls and more at a dispatcher, audio waits so long on average, to go on "
        "together: the longer, the less CPU a call takes; 0: it never waits",
    )
    drain_seconds: Annotated[float, BeforeValidator(number(0, 86_400))] = Field(
        default=DEFAULT_DRAIN_SECONDS[Role.WORKER],
        description="how long SIGTERM waits; unset: 30 for a worker, 3600 for a dispatcher, 8 for serve",
    )
    log_level: Annotated[LogLevel, BeforeValidator(one_of(LogLevel))] = Field(
        default=LogLevel.INFO, description="debug, info, warning or error"
    )
    log_format: Annotated[LogFormat, BeforeValidator(one_of(LogFormat))] = Field(
        default=LogFormat.JSON, description="json or console"
    )
    strict_settings: Boolean = Field(
        default=False,
        description="true: values that a start would replace, such as a misspelt voice, stop the start like all "
        "other wrong ones",
    )

    @property
    def proxies(self) -> Proxies:
        """Of HTTPS_PROXY, HTTP_PROXY and NO_PROXY."""
        return Proxies(self.https_proxy, self.http_proxy, self.no_proxy or "")

    @property
    def tls(self) -> TlsFiles | None:
        """Of PORT."""
        return None if self.tls_cert is None or self.tls_key is None else TlsFiles(self.tls_cert, self.tls_key)

    @property
    def cluster_tls(self) -> TlsFiles | None:
        """Of the link."""
        if self.cluster_tls_cert is None or self.cluster_tls_key is None or self.cluster_tls_ca is None:
            return None
        return TlsFiles(self.cluster_tls_cert, self.cluster_tls_key, self.cluster_tls_ca)
