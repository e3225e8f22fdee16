"""Who may place calls at PORT: the rules of ALLOWED_ORIGINS and STS_TOKEN, and of a drain."""

from __future__ import annotations

import http
from collections.abc import Sequence

from common.net.listener import Arrival
from common.net.tokens import bearer
from common.observe.refusals import Refusal
from dispatcher.avr import protocol
from dispatcher.security import Security


def refusal(
    security: Security,
    arrival: Arrival,
    target: str,
    authorization: str | None,
    origins: Sequence[str],
    *,
    draining: bool,
) -> tuple[http.HTTPStatus, str] | None:
    """Return the status and the text with which a request is refused; None: it is admitted.

    Args:
        security: tokens and origins.
        arrival: the connection, which counts the refusal.
        target: of the request, with its query.
        authorization: the header; None: there is none.
        origins: the headers `Origin`.
        draining: whether this dispatcher takes no more calls.
    """
    # Browsers send the origin of the page, and no page can leave it out. AVR Core sends none.
    if not all(origin.lower() in security.allowed_origins for origin in origins):
        arrival.refuse(Refusal.ORIGIN, "of a web page: ALLOWED_ORIGINS lists origins that may place calls")
        return http.HTTPStatus.FORBIDDEN, "a web page may place calls if ALLOWED_ORIGINS lists its origin\n"
    token = security.sts_token
    if token is not None and not (token.accepts(bearer(authorization)) or token.accepts(protocol.token(target))):
        arrival.refuse(Refusal.TOKEN)
        return http.HTTPStatus.UNAUTHORIZED, "bring STS_TOKEN: ?token= in STS_URL, or Authorization: Bearer\n"
    if draining:
        return http.HTTPStatus.SERVICE_UNAVAILABLE, "this dispatcher is draining\n"
    return None
