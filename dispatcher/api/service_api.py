"""`GET /service`: what the page needs to know of the service itself."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from common.net.ports import outward_address
from common.runtime.release import RELEASE
from dispatcher.api.answers import json_answer
from dispatcher.api.today import Today
from dispatcher.records.record_taker import RecordTaker


@dataclass(frozen=True, slots=True)
class FrontDoor:
    """How AVR Core reaches the service.

    Attributes:
        port: number of PORT; None: it is not known.
        tls: PORT has TLS.
        needs_token: STS_TOKEN is set.
    """

    port: int | None = None
    tls: bool = False
    needs_token: bool = False


UNKNOWN_DOOR: Final = FrontDoor()


class ServiceApi:
    """The handler of `GET /service`."""

    def __init__(self, front_door: FrontDoor, records: RecordTaker, today: Today) -> None:
        self._front_door = front_door
        self._records = records
        self._today = today

    async def read(self, _: web.Request) -> web.Response:
        """Answer `GET /service`."""
        outbox = self._records.outbox
        return json_answer(
            {
                "release": RELEASE,
                "host": socket.gethostname(),
                "calls": self._calls_port(),
                "records_kept_seconds": 0 if outbox is None else outbox.keep_seconds,
                "today": await self._today.as_json(),
            }
        )

    def _calls_port(self) -> dict[str, Any]:
        door = self._front_door
        return {
            "address": outward_address(),
            "port": door.port,
            "tls": door.tls,
            "needs_token": door.needs_token,
        }
