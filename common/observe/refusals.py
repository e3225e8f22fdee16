"""The reasons for which a port refuses a connection."""

from __future__ import annotations

from enum import StrEnum


class Refusal(StrEnum):
    """Why a port refuses a connection; the label of `avr_sts_connections_refused_total`."""

    TOO_MANY = "too_many"
    TOO_MANY_OF_ADDRESS = "too_many_of_address"
    TOO_SLOW = "too_slow"
    HEAD_TOO_BIG = "head_too_big"
    NOT_HTTP = "not_http"
    TLS = "tls"
    TOKEN = "token"  # noqa: S105 - the reason's name
    ORIGIN = "origin"
