"""A simulated caller that holds a conversation and records the facts of its call."""

from __future__ import annotations

import asyncio
import base64
import math
import random
import time
import uuid as uuids
from collections.abc import Callable, Sequence
from dataclasses import replace

from simulator.avr.call_record import ClosedBy
from simulator.avr.core import CallError, SimulatedCall, place_call
from simulator.avr.microphone import MAX_CATCH_UP_SECONDS
from simulator.avr.playout import PlayoutBuffer
from tests.chaos import announcements
from tests.chaos.ears import Stretch, played
from tests.chaos.facts import BESIDE, CallFacts, Close, Fault, FaultKind, Gap, Part, Utterance
from tests.chaos.script import Script, Turn

RECONNECT_SECONDS = 10.0

# Time in which a new call is retried at other dispatchers; one that was just killed refuses it.
_PLACING_SECONDS = 8.0
_PLACING_INTERVAL_SECONDS = 0.1

# Longer than any recovery: after 30 s without an answer, the way out must begin within 35 s.
ANSWER_SECONDS = 45.0
# Silence of the agent after which it has finished.
_SILENCE_SECONDS = 1.0
# Time for messages about the last words: a transcript takes 0.6 s, and waits at most 3 s for an earlier one.
_SETTLING_SECONDS = 2.0
# The same after a fault, whose call must first be restored.
_RECOVERY_SECONDS = 4.0
_LONGEST_SETTLING_SECONDS = 30.0
# Time for the hang-up that the model was told to request, after the last words and a recovery.
_AGENT_HANGS_UP_SECONDS = 15.0

# Audio sent this shortly before a lost connection may be lost with it.
_ON_ITS_WAY_SECONDS = 0.3

# Length of a flood beyond the 10 s of audio that may arrive at once.
_FLOOD_SECONDS = 20.0
_FRAME = bytes(320)
_FRAME_SECONDS = 0.02
_FRAME_SAMPLES = 160
_FILLER = announcements.frames((announcements.FILLER_WORD,))


class Caller:
    """One call, from its start to its end.

    Args:
        urls: dispatchers that take new calls; the sequence may change.
        script: plan of the call.
        rng: chooses the dispatcher.

    Attributes:
        facts: facts so far, without those of the sessions.
        call: the call, once it is placed.
        finish: set when the call should end soon.
    """

    def __init__(self, urls: Sequence[str], script: Script, rng: random.Random) -> None:
        self.facts = CallFacts(str(uuids.UUID(int=rng.getrandbits(128), version=4)), Part.TALKER, time.monotonic())
        self.call: SimulatedCall | None = None
        self.finish = asyncio.Event()
        self.agent_hung_up = asyncio.Event()
        self._urls = urls
        self._script = script
        self._rng = rng

    @property
    def uuid(self) -> str:
        """Return the call's uuid."""
        return self.facts.uuid

    @property
    def is_up(self) -> bool:
        """Tell whether the call is placed and has not ended, with or without a connection."""
        return self.call is not None and not self.call.closed.is_set()

    def hit(self, fault: Fault) -> None:
        """Note a fault that hits this call, or happens beside it."""
        (self.facts.beside if fault.kind in BESIDE else self.facts.faults).append(fault)

    async def run(self) -> bool:
        """Hold the call; return False if no dispatcher took it."""
        call = await self._place()
        if call is None:
            return False
        self.call = call
        self.facts.started_seconds = call.playout.started_at_seconds
        self._sounds = _Sounds(call.playout)
        try:
            await self._converse(call)
        except CallError:
            await call.closed.wait()
        except TimeoutError:
            self.facts.unanswered.append(time.monotonic())  # the caller's audio is no longer read
        finally:
            await call.hang_up()
            self._write_down(call)
        return True

    # Misbehaviour of a core

    def stall(self) -> None:
        """Stop reading, until `resume`."""
        self.facts.part = Part.STALLED
        if self.call is not None:
            self.call.stop_reading()

    def resume(self) -> None:
        """End `stall`."""
        if self.call is not None:
            self.call.read_again()

    async def flood(self) -> None:
        """Send far more audio than real time allows."""
        self.facts.part = Part.FLOODER
        message = f'{{"type":"audio","audio":"{base64.b64encode(_FRAME).decode()}"}}'
        call = self.call
        if call is None:
            return
        try:
            for _ in range(round(_FLOOD_SECONDS / _FRAME_SECONDS)):
                await call.send_raw(message)
        except CallError:
            return  # the service ended the call, as it should

    # The conversation

    async def _place(self) -> SimulatedCall | None:
        deadline_seconds = time.monotonic() + _PLACING_SECONDS
        while time.monotonic() < deadline_seconds:
            urls = list(self._urls)
            self._rng.shuffle(urls)
            for url in urls:
                try:
                    return await place_call(
                        url,
                        uuid=self.uuid,
                        metadata=self._script.metadata,
                        reconnect_seconds=RECONNECT_SECONDS,
                        reconnect_urls=self._urls,
                        connect_timeout_seconds=5.0,
                    )
                except CallError:
                    continue
            await asyncio.sleep(_PLACING_INTERVAL_SECONDS)
        return None

    async def _converse(self, call: SimulatedCall) -> None:
        await self._until_said(call, after_sounds=0)
        for number, turn in enumerate(self._script.turns):
            if self.finish.is_set():
                break
            last = number == len(self._script.turns) - 1
            sounds = await self._say(call, turn)
            if last and self._script.agent_hangs_up:
                await self._until_hung_up(call)
                return
            if last and self._script.abrupt:
                await self._until_sounds(call, sounds)
                return
            following = None if last else self._script.turns[number + 1]
            if following is not None and following.barges_in and not self.finish.is_set():
                await self._until_sounds(call, sounds)
            else:
                await self._until_said(call, after_sounds=sounds)
        await self._settled(call)
        self.facts.hung_up = "caller"

    async def _say(self, call: SimulatedCall, turn: Turn) -> int:
        """Say something, and return the number of agent sounds heard before its end."""
        await _sleep(call, turn.pause_seconds)
        began_seconds = time.monotonic()
        await call.say(turn.speech.pcm)
        self.facts.speech_seconds += turn.speech.seconds
        until_seconds = time.monotonic()
        # A machine that is too busy for its callers: what comes late is no longer the speech that was to be said.
        is_late = until_seconds - began_seconds > turn.speech.seconds + MAX_CATCH_UP_SECONDS
        self.facts.utterances.append(Utterance(began_seconds, until_seconds, turn.speech.turns, damaged=is_late))
        return self._sounds.count()

    async def _until_sounds(self, call: SimulatedCall, sounds: int) -> None:
        """Wait for the beginning of the agent's answer."""
        await self._wait(call, lambda _: self._sounds.count() > sounds)

    async def _until_said(self, call: SimulatedCall, *, after_sounds: int) -> None:
        """Wait for the end of the agent's answer."""
        silence = _Silence(_SILENCE_SECONDS)
        # The silence is measured from the beginning, with or without an answer.
        await self._wait(call, lambda c: silence(c) and self._sounds.count() > after_sounds)

    async def _wait(self, call: SimulatedCall, predicate: Callable[[SimulatedCall], object]) -> None:
        since_seconds = time.monotonic()
        try:
            await call.wait_for(predicate, timeout_seconds=ANSWER_SECONDS)
        except TimeoutError:
            if not (self.facts.utterances and self.facts.utterances[-1].damaged):
                self.facts.unanswered.append(since_seconds)

    async def _until_hung_up(self, call: SimulatedCall) -> None:
        """Wait for the agent to end the call, as Asterisk and AVR Core then do."""
        waits = {asyncio.create_task(self.agent_hung_up.wait()), asyncio.create_task(call.closed.wait())}
        await asyncio.wait(waits, timeout=_AGENT_HANGS_UP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if self.agent_hung_up.is_set():
            self.facts.hung_up = "agent"
        elif not call.closed.is_set():
            self.facts.waited_for_agent = True
            await self._settled(call)
            self.facts.hung_up = "caller"

    async def _settled(self, call: SimulatedCall) -> None:
        """Wait until all messages about the last words have arrived."""
        silence = _Silence(_SETTLING_SECONDS)

        def settled(call: SimulatedCall) -> bool:
            now_seconds = time.monotonic()
            hit = max((over_seconds(fault, now_seconds) for fault in self.facts.faults), default=0.0)
            return silence(call) and call.is_connected and now_seconds - hit >= _RECOVERY_SECONDS

        try:
            await call.wait_for(settled, timeout_seconds=_LONGEST_SETTLING_SECONDS)
        except TimeoutError:
            self.facts.unanswered.append(time.monotonic())

    def _write_down(self, call: SimulatedCall) -> None:
        facts, record = self.facts, call.record
        started = facts.started_seconds
        facts.ended_seconds = time.monotonic()
        facts.closes = [Close(started + each.at_seconds, each.code, each.by) for each in record.closings]
        facts.gaps = [
            Gap(
                started + each.lost_at_seconds,
                None if each.back_at_seconds is None else started + each.back_at_seconds,
            )
            for each in record.outages
        ]
        facts.utterances = [
            replace(each, damaged=each.damaged or any(_damages(gap, each) for gap in facts.gaps))
            for each in facts.utterances
        ]
        facts.lost_speech_seconds = sum(each.lost_sounding_frames for each in record.outages) * _FRAME_SECONDS
        facts.errors = [error.message for error in record.errors]
        facts.protocol = list(record.violations)
        facts.transcripts = [(each.role, each.text) for each in record.transcripts]
        facts.interruptions = len(record.interruptions)
        facts.messages = [(started + each.at_seconds, f"{each.role}: {each.text}") for each in record.transcripts]
        facts.messages += [(started + each.at_seconds, "interruption") for each in record.interruptions]
        if self.agent_hung_up.is_set() and not facts.hung_up:
            facts.hung_up = "agent"
        if any(each.by is ClosedBy.SERVICE and each.code == 1000 for each in record.closings):
            facts.hung_up = facts.hung_up or "agent"

    def stretches(self) -> list[Stretch]:
        """Return the audio played to the caller, after the end of the call."""
        return [] if self.call is None else played(self.call.playout, time.monotonic())


class _Sounds:
    """A counter of frames with the agent's sound: neither silence nor filler."""

    def __init__(self, playout: PlayoutBuffer) -> None:
        self._playout = playout
        self._samples = 0
        self._count = 0

    def count(self) -> int:
        """Return the number of such frames so far."""
        while self._playout.received_samples - self._samples >= _FRAME_SAMPLES:
            pcm = self._playout.received_since(self._samples)
            whole = len(pcm) // len(_FRAME) * len(_FRAME)
            if not whole:
                break  # beyond the record limit
            frames = (pcm[start : start + len(_FRAME)] for start in range(0, whole, len(_FRAME)))
            self._count += sum(frame != _FRAME and frame not in _FILLER for frame in frames)
            self._samples += whole // 2
        return self._count


class _Silence:
    """The condition that neither side spoke, and no message came, for a given time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since_seconds = time.monotonic()
        self._messages = -1

    def __call__(self, call: SimulatedCall) -> bool:
        now_seconds = time.monotonic()
        messages = len(call.messages)
        if messages != self._messages or call.playout.queued_ms(now_seconds) or call.microphone.has_speech:
            self._messages = messages
            self._since_seconds = now_seconds
        return now_seconds - self._since_seconds >= self._seconds


def over_seconds(fault: Fault, now_seconds: float) -> float:
    """Return the end of a fault. While a dispatcher hangs, its callers hear nothing and wait."""
    if fault.kind is FaultKind.HANG_DISPATCHER and fault.until_seconds is None:
        return now_seconds
    return fault.until_seconds or fault.at_seconds


def _damages(gap: Gap, utterance: Utterance) -> bool:
    """Tell whether a part of the utterance was spoken into a lost connection, or was still on its way."""
    back_seconds = math.inf if gap.back_seconds is None else gap.back_seconds
    begin, end = gap.lost_seconds - _ON_ITS_WAY_SECONDS, back_seconds + _ON_ITS_WAY_SECONDS
    return utterance.from_seconds < end and begin < utterance.until_seconds


async def _sleep(call: SimulatedCall, seconds: float) -> None:
    """Let time pass.

    Raises:
        CallError: the call ended meanwhile.
    """
    until_seconds = time.monotonic() + seconds
    await call.wait_for(lambda _: time.monotonic() >= until_seconds, timeout_seconds=seconds + ANSWER_SECONDS)
