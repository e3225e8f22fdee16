"""A comparison of Redis' view of calls and workers with the processes."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.chaos import sockets
from tests.chaos.facts import Breach
from tests.chaos.world import World

# Time after a change within which the view must be right.
SETTLED_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Picture:
    """Both views at one time.

    Attributes:
        settled: calls that have been up for `SETTLED_SECONDS`, and still are.
        known: calls that were up at any time within `SETTLED_SECONDS`.
        holders: worker whose session each call has.
        workers: ids of the workers that run normally.
        gone: ids of those that ended more than `SETTLED_SECONDS` ago.
        listed: worker of each call in `GET /calls`.
        counted: calls of each worker in `GET /workers`.
    """

    at_seconds: float
    settled: frozenset[str] = frozenset()
    known: frozenset[str] = frozenset()
    holders: dict[str, str] = field(default_factory=dict)
    workers: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()
    listed: dict[str, str] = field(default_factory=dict)
    counted: dict[str, int] = field(default_factory=dict)


def differences(picture: Picture) -> Iterator[Breach]:
    """Yield the differences between the two views."""
    for uuid, what in itertools.chain(_calls(picture), (("", what) for what in _workers(picture))):
        yield Breach("picture", what, picture.at_seconds, uuid)


def _calls(picture: Picture) -> Iterator[tuple[str, str]]:
    listed = picture.listed.keys()
    for uuid in sorted(picture.settled - listed):
        yield uuid, f"call {uuid} is up, and not in GET /calls"
    for uuid in sorted(listed - picture.known):
        yield uuid, f"call {uuid} is over, and still in GET /calls"
    for uuid in sorted(picture.settled & listed & picture.holders.keys()):
        if picture.listed[uuid] != picture.holders[uuid]:
            yield uuid, f"call {uuid} is at {picture.holders[uuid]}, and in GET /calls at {picture.listed[uuid]}"


def _workers(picture: Picture) -> Iterator[str]:
    listed = picture.listed.keys()
    for worker in sorted(picture.workers - picture.counted.keys()):
        yield f"worker {worker} is well, and not in GET /workers"
    for worker in sorted(picture.counted.keys() & picture.gone):
        yield f"worker {worker} is gone, and still in GET /workers"
    settled = Counter(picture.listed[uuid] for uuid in picture.settled & listed)
    passing = len(picture.known | listed) - settled.total()
    for worker in sorted(picture.workers & picture.counted.keys()):
        least, most = settled[worker], settled[worker] + passing
        if not least <= picture.counted[worker] <= most:
            listed_count = picture.counted[worker]
            yield f"worker {worker} has {least} calls or up to {most}, and {listed_count} in GET /workers"


async def take(world: World) -> Picture | None:
    """Return the picture of now; None while no dispatcher answers."""
    before = world.up()
    settled = {
        uuid
        for uuid, caller in before.items()
        if time.monotonic() - caller.facts.started_seconds > SETTLED_SECONDS
    }
    listed, counted = await world.admin("/calls"), await world.admin("/workers")
    if listed is None or counted is None:
        return None
    peers: dict[str, str] = {}
    for worker in [each for each in world.workers if each.is_well]:
        for peer in await asyncio.to_thread(sockets.peers_of, worker.process.pid, world.realtime.port):
            peers[peer] = worker.id
    sessions = [(uuid, session) for uuid, session in await world.live() if session["may_answer"]]
    after = world.up()
    now_seconds = time.monotonic()
    return Picture(
        now_seconds,
        settled=frozenset(settled & after.keys()),
        known=frozenset(
            before.keys() | after.keys() | world.strangers | world.ended_since(now_seconds - SETTLED_SECONDS)
        ),
        holders={uuid: peers[session["peer"]] for uuid, session in sessions if session["peer"] in peers},
        workers=frozenset(each.id for each in world.workers if each.is_well),
        gone=world.gone_before(now_seconds - SETTLED_SECONDS),
        listed={each["uuid"]: each["worker"] for each in listed},
        counted={each["id"]: each["calls"] for each in counted},
    )
