"""Protection of a dispatcher's ports and links."""

from __future__ import annotations

from dataclasses import dataclass

from common.net.admission_control import DEFAULT_ADMISSION_LIMITS, AdmissionLimits
from common.net.tls import Tls
from common.net.tokens import Token


@dataclass(frozen=True, slots=True)
class Security:
    """Protection of a dispatcher's ports and links, each None where it is not set.

    Attributes:
        sts_token: what AVR Core has to bring.
        tls: of AVR Core's port.
        cluster_token: what workers have to prove, and this dispatcher to them.
        cluster_tls: of the links.
        door: who may come in on AVR Core's port.
        allowed_origins: of web pages whose requests are taken on AVR Core's port, in lower case.
    """

    sts_token: Token | None = None
    tls: Tls | None = None
    cluster_token: Token | None = None
    cluster_tls: Tls | None = None
    door: AdmissionLimits = DEFAULT_ADMISSION_LIMITS
    allowed_origins: frozenset[str] = frozenset()


OPEN = Security()
