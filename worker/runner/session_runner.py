"""A call on this worker: its channel, the session that serves it, and how it leaves."""

from __future__ import annotations

import dataclasses
import time
from typing import Protocol as Interface

import structlog

from common.link import wire
from common.link.channel import Transmit
from common.observe.metrics import ReconnectReason
from common.observe.relay_timer import RelayTimer
from worker.audio.resample import Upsampler
from worker.runner.dispatcher_channel import DispatcherChannel
from worker.runner.own_key import SessionKey
from worker.runner.resources import Resources
from worker.runner.runner_states import AttachmentEvent, RunnerEvent, RunnerState, next_runner_state
from worker.runner.session_host import SessionHost
from worker.runner.watchers import Send
from worker.session.hang_up import HangUp
from worker.tools.running_tools import RunningTools

# Extra time for which a call without a dispatcher is kept, beyond the dispatcher's own wait for the caller.
KEPT_LONGER_SECONDS = 5.0
# Maximum wait after a stall of this process for a dispatcher to confirm its call.
CONFIRM_SECONDS = 1.0


class Calls(Interface):
    """The worker's table of calls."""

    def ended(self, call: SessionRunner) -> None:
        """Forget a call that is over."""

    def released(self, call: SessionRunner) -> None:
        """Keep a call that has no session here now, until another session has it."""

    def taking_over(self, call: SessionRunner) -> None:
        """Let this session take over from older ones of its call, which then end."""


class SessionRunner:
    """One call on this worker: one session of it.

    Attributes:
        state: see `worker/runner/runner_states.py`.
    """

    def __init__(
        self,
        opening: wire.Open,
        channel: int,
        transmit: Transmit,
        *,
        calls: Calls,
        resources: Resources,
    ) -> None:
        """Take a call; `begin` sets it going.

        Args:
            opening: the dispatcher's OPEN.
            channel: its number on the link.
            transmit: sends on that link.
            calls: hears of the end.
            resources: of the worker.
        """
        self.state = RunnerState.PREPARING
        self._log = structlog.get_logger().bind(uuid=opening.uuid)
        self._calls = calls
        self._resources = resources
        self._started_seconds = time.monotonic()
        key = SessionKey(resources.own_key, resources.metrics)
        self._channel = DispatcherChannel(opening.uuid, channel, transmit, key)
        self._host = SessionHost(opening, self._channel, owner=self, resources=resources)
        # Since when, and why, a session that released its call rests.
        self._rest: tuple[float, str] = (0.0, "")
        # Of earlier sessions of the call on this worker.
        self._requested_hang_up: HangUp | None = None
        self._relay_in = RelayTimer(resources.metrics.relay_in)

    def begin(self) -> None:
        """Answer OPEN, and prepare the session: with a memory, when that is complete."""
        self._channel.send(wire.Opened(wire.CALLER_CREDIT_BYTES))
        if not self._host.opening.restore:
            self._host.prepare()

    @property
    def tools(self) -> RunningTools:
        """The tools that run."""
        return self._host.tools

    @property
    def uuid(self) -> str:
        """The uuid of the call."""
        return self._host.opening.uuid

    @property
    def epoch(self) -> int:
        """The epoch of the dispatcher that has the call."""
        return self._host.opening.epoch

    @property
    def metadata(self) -> dict[str, str]:
        """Return the metadata of AVR Core's URL."""
        return self._host.opening.metadata

    @property
    def has_ended(self) -> bool:
        """Whether the call has ended here."""
        return self.state is RunnerState.ENDED

    @property
    def is_resting(self) -> bool:
        """Whether it released its call, and keeps its memory for a dispatcher that lost the successor."""
        return self.state is RunnerState.RESTING

    @property
    def is_standby(self) -> bool:
        """Whether this session stands by, because another one has the call."""
        return self._host.opening.restore and (self._host.checkpoint is None or self._host.checkpoint.standby)

    @property
    def is_attachable(self) -> bool:
        """Whether another dispatcher can attach to this session."""
        return not self.has_ended and not self.is_standby and not self.is_resting

    @property
    def is_suspended(self) -> bool:
        """Whether the event loop has stalled, and the holder of the call is not known since."""
        return self._channel.attachment.is_suspended

    @property
    def waits_for_dispatcher(self) -> bool:
        """Whether only this worker knows of the call now."""
        return self._channel.attachment.is_detached and (self.is_attachable or self.is_resting)

    @property
    def upsampler(self) -> Upsampler | None:
        """The resampler of the caller's audio that comes next, if that goes upstream at once."""
        return None if self._host.session is None else self._host.session.upsampler

    def tick(self, now_seconds: float) -> None:
        """Look at the clocks."""
        kept_seconds = self._resources.settings.call_reconnect_seconds + KEPT_LONGER_SECONDS
        if self.is_resting:
            if now_seconds - self._rest[0] >= kept_seconds:
                self.session_ended(wire.Outcome.COMPLETED, "nobody came back for this session")
            return
        if self._channel.is_full and not self.has_ended and not self.is_suspended:
            self._log.warning("channel given up", reason="the dispatcher acknowledges nothing")
            self.stop("the dispatcher acknowledges nothing")
            return
        if self._channel.attachment.is_overdue(
            now_seconds, kept_seconds=kept_seconds, confirmed_within_seconds=CONFIRM_SECONDS
        ):
            self._give_up("the dispatcher of this call was lost")
            return
        if self._host.session is not None and not self.is_suspended:
            self._host.tick(now_seconds)

    # Records of the dispatcher

    def caller_audio(self, position_samples: int, pcm: bytes, received_seconds: float) -> None:
        """Take the audio of a CALLER_AUDIO record, which was read at this time."""
        self._channel.receive(wire.Kind.CALLER_AUDIO, wire.CALLER_AUDIO_HEAD_BYTES + len(pcm))
        if self._host.session is None:
            self._host.early.caller_audio(position_samples, pcm)
            return
        self._relay_in.frame(received_seconds)
        self._host.session.caller_audio(position_samples, pcm, time.monotonic())
        self._host.act()

    def record(self, kind: int, payload: memoryview) -> None:
        """Take another record of the dispatcher."""
        if kind == wire.Kind.ACK:
            self._channel.acknowledged(wire.decode_ack(payload))
            return
        self._channel.receive(kind, len(payload))
        if kind == wire.Kind.CLOSE and (self.is_resting or self._host.session is None):
            self.session_ended(wire.Outcome.COMPLETED, wire.decode_control(wire.Close, payload).reason)
        elif self.is_resting:
            return
        elif kind in _MEMORY:
            resume = self._host.preparation.memory.record(kind, payload)
            if resume is not None:
                self._resume(resume)
        elif self._host.session is None:
            self._host.early.record(kind, payload)
        else:
            self._host.handle(lambda session, now: session.record(kind, payload, now))

    def _resume(self, resume: wire.Resume) -> None:
        """Take the call, or stand by: the memory is complete."""
        if not resume.standby:
            self._calls.taking_over(self)
        # All tools that run have been taken over: this session has begun none yet.
        checkpoint = self._host.preparation.memory.take(
            resume, frozenset(self._host.tools.tasks), self._requested_hang_up
        )
        first = self._host.checkpoint is None
        self._host.remember(checkpoint)
        if resume.reason and not resume.standby:
            self._resources.metrics.reconnects[_RECONNECTS.get(resume.reason, ReconnectReason.REPIN)].inc()
        if self._host.session is not None:
            changed = self._host.preparation.changed_session()
            self._host.handle(lambda session, now: session.take_call(checkpoint, now, changed))
        elif first:
            self._host.prepare()

    @property
    def requested_hang_up(self) -> HangUp | None:
        """Why a session of the call on this worker has ordered a hang-up; empty: none has."""
        ordered = None if self._host.session is None else self._host.session.requested_hang_up
        return ordered or self._requested_hang_up

    def take_over(self, older: SessionRunner) -> None:
        """Take over what an older session of the call, which may have ended, still has to do."""
        older.tools.hand_over(self.tools)
        self._requested_hang_up = self._requested_hang_up or older.requested_hang_up
        self._host.recoveries = max(self._host.recoveries, older._host.recoveries)
        self._host.notes.take_over(older._host.notes)

    # The link, and its loss

    def detached(self) -> None:
        """Go on without a link: another link, or another dispatcher, may come for the session."""
        self._channel.broke()
        self._channel.attachment.take(AttachmentEvent.LINK_LOST, time.monotonic())
        if self._host.session is not None:
            self._host.session.detached()

    def resume(self, attach: wire.Attach, transmit: Transmit) -> None:
        """Go on with the same dispatcher on another link, where the one before broke.

        Raises:
            LinkProtocolError: the dispatcher has other records than were sent.
        """
        resumed = self._channel.attachment.take(AttachmentEvent.ATTACHED, time.monotonic())
        if self._host.session is not None:
            self._host.session.resumed()
        self._channel.accept(transmit, attach.received)
        if resumed:
            self._host.resume()

    def attach(self, opening: wire.Open, channel: int, transmit: Transmit) -> None:
        """Attach another dispatcher that has the caller now, and send it the call's state."""
        self._channel.change(channel, transmit)
        self._host.opening = dataclasses.replace(self._host.opening, epoch=opening.epoch)
        early_position = self._host.early.position_samples
        position = early_position if self._host.session is None else self._host.session.next_position_samples
        collecting = self._host.session is not None and self._host.session.is_collecting
        opened = wire.Opened(
            wire.CALLER_CREDIT_BYTES, attached=True, position_samples=position, collecting=collecting
        )
        self._channel.send(opened)
        if self._host.preparation.profile is not None:
            self._host.send_profile()
        self._host.send_figures()
        self._host.handle(lambda session, now: session.attached(opening, now))
        self._channel.send_pending_transcripts()
        if self.is_resting:
            # The dispatcher knows the call now, and continues it in another session.
            _, reason = self._rest
            self._rest = (time.monotonic(), reason)
            told = wire.Reason.DRAIN if reason == wire.Reason.DRAIN else wire.Reason.DROPPED
            self._channel.send(wire.Released(told.value, "the session had been released"))
        if self._channel.attachment.take(AttachmentEvent.ATTACHED, time.monotonic()):
            self._host.resume()

    def suspend(self) -> None:
        """Do nothing until the dispatcher confirms that it still has the call: the event loop stalled.

        A call without a dispatcher is kept for its caller as before, and is confirmed by Redis (`confirm`).
        """
        self._channel.attachment.take(AttachmentEvent.STALLED, time.monotonic())
        self._host.suspend()

    def confirm(self) -> None:
        """Go on after a stall: Redis names no other holder of this call, which has no dispatcher."""
        if self._channel.attachment.take(AttachmentEvent.CONFIRMED, time.monotonic()):
            self._host.resume()

    # Typed conversations

    @property
    def is_quiet(self) -> bool:
        """Whether the session is live, and nothing is owed, under way or heard."""
        return self._host.session is not None and self._host.session.is_quiet(time.monotonic())

    def typed(self, text: str) -> None:
        """Take a turn that a person typed in place of speaking."""
        self._host.handle(lambda session, now: session.typed(text, now))

    # Moves and ends

    def move(self, reason: wire.Reason, seconds: float) -> None:
        """Have the call leave this worker within a time."""
        self._host.handle(lambda session, now: session.move(reason, seconds, now))

    def release(self, reason: wire.Reason) -> None:
        """Have the call leave this worker now."""
        message = "the worker is stopping"
        if self._host.session is not None:
            self._host.handle(lambda session, _: session.release(reason, message))
        elif not self.has_ended:
            self._channel.send(wire.Released(reason.value, message))
            self.session_ended(wire.Outcome.COMPLETED, message)

    def end_rest(self) -> None:
        """End a session that released its call: the process stops."""
        if self.is_resting:
            self.session_ended(wire.Outcome.COMPLETED, self._rest[1])

    def _give_up(self, reason: str) -> None:
        if self.is_suspended or self._host.session is None:
            # Suspended: another worker has the call, and the waiting actions are not to be carried out.
            self.session_ended(wire.Outcome.FAILED, reason)
        else:
            self._host.handle(lambda session, _: session.dispatcher_lost())

    def end_superseded(self, reason: str) -> None:
        """End this session, because another one has the call."""
        self._channel.leave(reason)
        self.session_ended(wire.Outcome.COMPLETED, reason)

    def stop(self, reason: str) -> None:
        """End the call from this side."""
        if self._host.session is not None:
            self._host.handle(lambda session, _: session.stopped(reason))
        elif not self.has_ended:
            self._channel.send(wire.Ended(wire.Outcome.FAILED.value, reason, wire.EndReason.INTERNAL.value))
            self.session_ended(wire.Outcome.FAILED, reason)

    # The calls API

    def command(self, command: wire.Command, send: Send) -> None:
        """Carry out a command of the calls API; `send` sends the answer on the link that it came by."""
        self._host.command(command, send)

    def unwatch(self, send: Send) -> None:
        """Forget the watchers of a link that is gone."""
        self._host.unwatch(send)

    async def settled(self) -> None:
        """Wait until nothing of an ended call is left: see `SessionHost.settled`."""
        await self._host.settled()

    # Owner of the session's host

    def session_made(self) -> None:
        """Take note that there is a session."""
        self.state = next_runner_state(self.state, RunnerEvent.SESSION_MADE)

    def session_released(self, reason: str, message: str) -> None:
        """Keep the session's memory, and the tools that run, until another session has the call."""
        if self.is_standby:
            # It never had the call.
            self.session_ended(wire.Outcome.COMPLETED, message)
        if self.has_ended or self.is_resting:
            return
        self._close_session(wire.Outcome.COMPLETED, message)
        self.state = next_runner_state(self.state, RunnerEvent.RELEASED)
        self._rest = (time.monotonic(), reason)
        self._calls.released(self)

    def session_ended(self, outcome: wire.Outcome, reason: str) -> None:
        """End the call on this worker."""
        if self.has_ended:
            return
        if not self.is_resting:
            self._close_session(outcome, reason)
        self.state = next_runner_state(self.state, RunnerEvent.ENDED)
        self._host.tools.cancel()
        self._host.preparation.close()
        self._calls.ended(self)

    def _close_session(self, outcome: wire.Outcome, reason: str) -> None:
        self._host.close()
        if self._host.trace is not None:
            self._host.trace.ended(outcome)
        metrics = self._resources.metrics
        seconds = time.monotonic() - self._started_seconds
        if outcome is wire.Outcome.COMPLETED:
            metrics.session_completed.observe(seconds)
            self._log.info("session ended", reason=reason, seconds=round(seconds, 3))
        else:
            metrics.session_failed.observe(seconds)
            self._log.error("session failed", reason=reason, seconds=round(seconds, 3))


_MEMORY = frozenset(
    {wire.Kind.PROFILE, wire.Kind.ITEM_UPDATE, wire.Kind.PENDING_REPLIES, wire.Kind.KEPT_AUDIO, wire.Kind.RESUME}
)
_RECONNECTS = {
    wire.Reason.DROPPED.value: ReconnectReason.DROPPED,
    wire.Reason.ROLLOVER.value: ReconnectReason.ROLLOVER,
}
