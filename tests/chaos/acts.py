"""The function that carries out each kind of fault."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

from tests.chaos import api_faults, faults, machine_faults, process_faults
from tests.chaos.facts import FaultKind
from tests.chaos.pace import Pace
from tests.chaos.world import World

Act = Callable[[World, Pace, random.Random], Awaitable[bool]]
"""Carries out a fault, to its end; returns False without a victim.

Raises:
        RunEnded: no time is left for the fault.
"""

ACTS: dict[FaultKind, Act] = {
    FaultKind.KILL_WORKER: faults.kill_worker,
    FaultKind.STOP_WORKER: faults.stop_worker,
    FaultKind.DRAIN_WORKER: faults.drain_worker,
    FaultKind.CUT_LINK: faults.cut_link,
    FaultKind.BREAK_LINK: faults.break_link,
    FaultKind.DROP_SESSION: faults.drop_session,
    FaultKind.STALL_SESSION: faults.stall_session,
    FaultKind.EXPIRE_SESSION: faults.expire_session,
    FaultKind.REFUSE_SESSIONS: faults.refuse_sessions,
    FaultKind.KILL_DISPATCHER: faults.kill_dispatcher,
    FaultKind.DRAIN_DISPATCHER: faults.drain_dispatcher,
    FaultKind.CUT_CALLER: faults.cut_caller,
    FaultKind.KILL_REDIS: faults.kill_redis,
    FaultKind.PAUSE_REDIS: faults.pause_redis,
    FaultKind.FLUSH_REDIS: faults.flush_redis,
    FaultKind.KILL_WORKER_WITHOUT_REDIS: faults.kill_worker_without_redis,
    FaultKind.KILL_DISPATCHER_WITHOUT_REDIS: faults.kill_dispatcher_without_redis,
    FaultKind.FAIL_ANSWER: api_faults.fail_answer,
    FaultKind.CUT_ANSWER: api_faults.cut_answer,
    FaultKind.LIMIT_ANSWER: api_faults.limit_answer,
    FaultKind.EMPTY_ANSWER: api_faults.empty_answer,
    FaultKind.ERROR_IN_ANSWER: api_faults.error_in_answer,
    FaultKind.LOSE_DONE: api_faults.lose_done,
    FaultKind.REFUSE_ANSWER: api_faults.refuse_answer,
    FaultKind.LATE_ANSWER: api_faults.late_answer,
    FaultKind.LONE_SURROGATE: api_faults.lone_surrogate,
    FaultKind.ENDLESS_SPEECH: api_faults.endless_speech,
    FaultKind.OUTAGE: api_faults.outage,
    FaultKind.KILL_BOTH: process_faults.kill_both,
    FaultKind.HANG_DISPATCHER: process_faults.hang_dispatcher,
    FaultKind.DRAIN_IN_ROLLOVER: process_faults.drain_in_rollover,
    FaultKind.FULL_DISK: machine_faults.fill_disk,
    FaultKind.STALL_STDERR: machine_faults.stall_stderr,
    FaultKind.HOSTILE_INIT: machine_faults.hostile_inits,
    FaultKind.STALLED_CORE: faults.stalled_core,
    FaultKind.FLOODING_CORE: faults.flooding_core,
}
