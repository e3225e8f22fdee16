"""The settings of the processes: ports, peers, tokens, TLS, numbers of processes, and logs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field

from common.net.proxy import Proxies
from common.net.redis_url import with_password, with_sentinel_password
from common.net.tls import TlsFiles
from common.observe.log_options import LogFormat, LogLevel
from common.settings.cores import usable_cores
from common.settings.field_types import (
    Address,
    Boolean,
    OptionalBoolean,
    Origins,
    Password,
    Port,
    ProxyUrl,
    RedisUrl,
    Token,
)
from common.settings.roles import DEFAULT_DRAIN_SECONDS, Role
from common.settings.values import MIN_TOKEN_CHARACTERS, number, one_of, or_word, whole_number


class PortFields(BaseModel):
    """The settings of the ports."""

    port: Port = Field(default=6030, description="AVR Core's port: WebSocket on any path (dispatcher)")
    admin_port: Port = Field(
        default=9090,
        description="HTTP port: probes and metrics; also the calls API, for loopback, or with ADMIN_TOKEN",
    )
    worker_port: Port = Field(
        default=7000, description="port of the links that dispatchers open (worker in a cluster)"
    )
    worker_address: Address = Field(
        default=None, description="the address that a worker publishes in Redis; unset: this host's address"
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
        description="hosts that are reached without a proxy, as loopback always is: names, domains, addresses, "
        "networks (10.0.0.0/8), or *",
    )
    redis_url: RedisUrl = Field(
        default=None,
        repr=False,
        description="URL of Redis: redis://, rediss://, unix://, or redis+sentinel:// with its sentinels; unset "
        "in serve: an embedded Redis",
    )
    redis_url_password: Password = Field(
        default=None,
        description="the password of REDIS_URL as it is, without the quoting of URLs; in place of one in the URL",
    )
    redis_sentinel_password: Password = Field(
        default=None,
        description="the password of the sentinels in REDIS_URL as it is, in place of sentinel_password there",
    )
    sts_token: Token = Field(
        default=None,
        description="if set, AVR Core must send this token: ?token= in STS_URL, or Authorization: Bearer; at "
        f"least {MIN_TOKEN_CHARACTERS} characters",
    )
    allowed_origins: Origins = Field(
        default=None,
        description="origins of web pages that may open calls on PORT, such as https://phone.example; other pages "
        "get 403, as does every page on WORKER_PORT; unset: no web page may",
    )
    tls_cert: Path | None = Field(
        default=None,
        description="TLS on PORT: file of the certificate and its chain (PEM); reloaded when it changes",
    )
    tls_key: Path | None = Field(
        default=None, repr=False, description="file of the key of TLS_CERT (PEM, without a passphrase)"
    )
    cluster_token: Token = Field(
        default=None,
        description="if set, dispatchers and workers prove to each other that they know it; the same for all",
    )
    cluster_tls_cert: Path | None = Field(
        default=None,
        description="TLS on the link, where both ends show a certificate: this process's file (PEM)",
    )
    cluster_tls_key: Path | None = Field(
        default=None, repr=False, description="file of the key of CLUSTER_TLS_CERT (PEM, without a passphrase)"
    )
    cluster_tls_ca: Path | None = Field(
        default=None,
        description="file of the CA that signs the certificates of dispatchers and workers alone (PEM)",
    )
    admin_token: Token = Field(
        default=None,
        description="if set, every request to the calls API needs this token (Authorization: Bearer)",
    )
    page_calls: OptionalBoolean = Field(
        default=None,
        description="true: people may call the agent from the live page, one at a time at each dispatcher; unset: "
        "only without ADMIN_TOKEN, because the page then answers this host alone",
    )
    workers: Annotated[int, BeforeValidator(whole_number(1, 256))] = Field(
        default_factory=usable_cores,
        description="worker processes of serve; unset: one per core, within the container's CPU limit",
    )
    dispatchers: Annotated[int, BeforeValidator(whole_number(1, 256))] = Field(
        default=1, description="dispatcher processes of serve, which share PORT"
    )
    worker_max_calls: Annotated[int, BeforeValidator(whole_number(1, 100_000))] = Field(
        default=200, description="maximum number of calls of one worker"
    )
    sessions_per_second: Annotated[float, BeforeValidator(number(0.1, 10_000))] = Field(
        default=50,
        description="maximum rate at which a worker opens Realtime sessions with one API key, as after the death "
        "of another worker; callers come before sessions that stand by, and wait for 10 s at most",
    )
    call_reconnect_seconds: Annotated[float, BeforeValidator(number(0, 3600))] = Field(
        default=10,
        description="time that a call is kept for its uuid after its caller's connection is lost",
    )
    session_rollover_seconds: Annotated[float, BeforeValidator(number(1, 3500))] = Field(
        default=3300,
        description="age at which a Realtime session is replaced, before the API's limit of 60 minutes",
    )
    grouping_ms: Annotated[int | Literal["auto"], BeforeValidator(or_word("auto", whole_number(0, 20)))] = Field(
        default="auto",
        description="average time that audio waits to be grouped, which saves CPU; auto: it waits only in a "
        "process that uses more than half of its core; a number: at a dispatcher with 10 or more calls; 0: never",
    )
    drain_seconds: Annotated[float, BeforeValidator(number(0, 86_400))] = Field(
        default=DEFAULT_DRAIN_SECONDS[Role.WORKER],
        description="maximum time between SIGTERM and the end, for running calls; unset: 30 for a worker, 3600 "
        "for a dispatcher, 8 for serve",
    )
    log_level: Annotated[LogLevel, BeforeValidator(one_of(LogLevel))] = Field(
        default=LogLevel.INFO, description="least severe lines in the log: debug, info, warning or error"
    )
    log_format: Annotated[LogFormat, BeforeValidator(one_of(LogFormat))] | None = Field(
        default=None,
        description="form of log lines: json or console; unset: console on a terminal, otherwise json",
    )
    strict_settings: Boolean = Field(
        default=False,
        description="true: wrong values that would be replaced, such as a misspelt voice, stop the start like all "
        "other wrong values",
    )

    @property
    def redis_address(self) -> str | None:
        """REDIS_URL with REDIS_URL_PASSWORD and REDIS_SENTINEL_PASSWORD, quoted as a URL needs it."""
        url = self.redis_url
        if url is not None and self.redis_url_password is not None:
            url = with_password(url, self.redis_url_password.get_secret_value())
        if url is not None and self.redis_sentinel_password is not None:
            url = with_sentinel_password(url, self.redis_sentinel_password.get_secret_value())
        return url

    @property
    def proxies(self) -> Proxies:
        """The proxies from HTTPS_PROXY, HTTP_PROXY and NO_PROXY."""
        return Proxies(self.https_proxy, self.http_proxy, self.no_proxy or "")

    @property
    def tls(self) -> TlsFiles | None:
        """The files of PORT's certificate."""
        return None if self.tls_cert is None or self.tls_key is None else TlsFiles(self.tls_cert, self.tls_key)

    @property
    def cluster_tls(self) -> TlsFiles | None:
        """The files of the link's certificate."""
        if self.cluster_tls_cert is None or self.cluster_tls_key is None or self.cluster_tls_ca is None:
            return None
        return TlsFiles(self.cluster_tls_cert, self.cluster_tls_key, self.cluster_tls_ca)
