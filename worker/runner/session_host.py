"""The host of one session: it carries out the session's actions, and gives it what happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final
from typing import Protocol as Interface

import structlog

from common.errors import IllegalTransition, UpstreamError
from common.link import wire
from common.observe.redaction import redact
from common.observe.relay_timer import RelayTimer
from worker.config.profile import CallProfile
from worker.config.session_change import ChangeRefused
from worker.realtime.bad_input import BadInput
from worker.runner.connecting import Upstream
from worker.runner.conversation_notes import ConversationNotes, agents_command
from worker.runner.dispatcher_channel import DispatcherChannel
from worker.runner.early_inputs import EarlyInputs
from worker.runner.preparation import Preparation
from worker.runner.resources import Resources
from worker.runner.session_figures import SessionFigures
from worker.runner.session_trace import SessionTrace
from worker.runner.usage_counter import UsageCounter
from worker.runner.watchers import Send, Watchers
from worker.session import actions
from worker.session.memory.checkpoint import Checkpoint
from worker.session.session import Session
from worker.session.states import State
from worker.tools.entries import KeyRequest
from worker.tools.key_requests import KeyRequests
from worker.tools.running_tools import RunningTools

# An `expires_at` outside of these bounds comes from a clock that is wrong.
LEAST_SESSION_SECONDS = 10.0
MOST_SESSION_SECONDS = 86_400.0
# A call survives this many faults of our own (`IllegalTransition`) in another session.
MAX_RECOVERIES: Final = 2


class HostOwner(Interface):
    """The shell of the call that a session serves."""

    @property
    def has_ended(self) -> bool:
        """Whether the call is over."""

    def session_made(self) -> None:
        """Take note that there is a session."""

    def session_released(self, reason: str, message: str) -> None:
        """Take note that the session has released its call."""

    def session_ended(self, outcome: wire.Outcome, reason: str) -> None:
        """Take note that the call is over."""

    def stop(self, reason: str) -> None:
        """End the call."""


class SessionHost:
    """The host of one session.

    Attributes:
        opening: the dispatcher's OPEN, with the epoch of the dispatcher that has the call now.
        session: None while it is prepared.
        preparation: of the session.
        checkpoint: the call's memory for the session, if there is one: the latest.
        early: inputs that wait for the session.
        tools: the tools that run.
        trace: of the session; None: it is not traced.
        notes: on the conversation, for the calls API.
        recoveries: faults of our own that this session, and earlier ones of the call on this worker, had.
    """

    def __init__(
        self, opening: wire.Open, channel: DispatcherChannel, *, owner: HostOwner, resources: Resources
    ) -> None:
        """Build it; `prepare` makes the session.

        Args:
            opening: the dispatcher's OPEN.
            channel: to the dispatcher.
            owner: hears of the end.
            resources: of the worker.
        """
        self.opening = opening
        self.session: Session | None = None
        self.preparation = Preparation(opening, resources)
        self.checkpoint: Checkpoint | None = None
        self.early = EarlyInputs(opening.position_samples)
        keys = KeyRequests(self._collect, self._leave_collection)
        # A dispatcher that takes the call over gives it another epoch, and the session keeps its own.
        self._figures = SessionFigures(opening.epoch)
        self.notes = ConversationNotes()
        self.trace = SessionTrace.of(resources.tracer, opening)
        self.tools = RunningTools(
            opening.uuid,
            opening.metadata,
            resources.metrics,
            done=self._tool_done,
            ended=self._tool_ended,
            traceparent=opening.traceparent,
            trace=self.trace,
            keys=keys,
        )
        self.recoveries = 0
        self._channel = channel
        self._owner = owner
        self._metrics = resources.metrics
        self._log = structlog.get_logger().bind(uuid=opening.uuid)
        self._upstream = Upstream(
            opening.uuid, self, resources, self.preparation, channel.key, waited_seconds=opening.waited_seconds
        )
        self._usage = UsageCounter(resources.metrics, resources.prices, self._figures, channel.key)
        self._watchers = Watchers(opening.uuid)
        self._relay_out = RelayTimer(resources.metrics.relay_out)
        self._tasks: set[asyncio.Task[None]] = set()

    def remember(self, checkpoint: Checkpoint) -> None:
        """Take the call's memory: it says whether the session stands by."""
        self.checkpoint = checkpoint
        if checkpoint.standby:
            self._upstream.stand_by()
        else:
            self._upstream.take_call()

    def prepare(self) -> None:
        """Make the session in a task."""
        self._begin_task(self._prepare(), "prepare")

    def tick(self, now_seconds: float) -> None:
        """Look at the session's clocks."""
        read_seconds = self._upstream.read_seconds(now_seconds)
        self.handle(lambda session, _: session.tick(now_seconds, read_seconds))

    def suspend(self) -> None:
        """Read nothing of the API's until `resume`."""
        self._upstream.suspend()

    def resume(self) -> None:
        """Go on after a suspension."""
        self._upstream.resume()
        if self.session is not None:
            self.act()

    def close(self) -> None:
        """Close the connection, or cut it off if the call is suspended, and tell the watchers."""
        for task in self._tasks:
            task.cancel()
        self._upstream.close(at_once=self._channel.attachment.is_suspended)
        self._watchers.end()

    # The calls API

    def command(self, command: wire.Command, send: Send) -> None:
        """Carry out a command of the calls API; `send` sends the answer on the link that it came by."""
        number = self._watchers.command(command, send, has_session=self.session is not None)
        if number is None:
            return
        try:
            is_change = command.action == "session"
            body = self.preparation.checked(command.body) if is_change else command.body
        except ChangeRefused as error:
            self._watchers.answer(number, 400, {"error": str(error)})
            return
        self.handle(lambda session, now: session.command(number, command.action, body, now))

    def unwatch(self, send: Send) -> None:
        """Forget the watchers of a link that is gone."""
        self._watchers.forget(send)

    async def settled(self) -> None:
        """Wait until nothing of an ended call is left: its tasks given up, its connection closed.

        Cancelled, it cuts off a connection whose closing handshake takes too long.
        """
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._upstream.wait_closed()

    # Owner of the Realtime connection

    def event(self, event: dict[str, Any], received_seconds: float) -> None:
        """Take an event of the API."""
        session = self.session
        assert session is not None
        if event["type"].endswith("audio.delta"):
            self._relay_out.frame(received_seconds)
            session.parts.turn_clock.received_seconds = received_seconds
        elif event["type"] == "session.created":
            event["lasts_seconds"] = _lasts_seconds(event)
        elif self.trace is not None:
            self.trace.happened(event, received_seconds)
        try:
            session.event(event, time.monotonic())
        except IllegalTransition as error:
            self._recover(session, error)
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError) as error:
            # The event has another shape than the API's, or is nested too deeply. It is dropped.
            self._channel.key.error(BadInput.EVENT)
            # Redacted before it is truncated: a part of a secret would not be known.
            reason = redact(repr(error), self.opening.uuid)[:200]
            self._log.warning(
                "upstream event not understood", type=redact(event["type"], self.opening.uuid)[:64], reason=reason
            )
        self.act()

    def unreadable(self) -> None:
        """Count an event of the API that is no JSON object with a type: it is lost."""
        self._channel.key.error(BadInput.EVENT)
        self._log.warning("upstream event not readable")

    def upstream_writable(self) -> None:
        """Send again: the API reads."""
        self._upstream.writable()
        self.handle(lambda session, now: session.upstream_writable(now))

    def connection_lost(self, reason: str) -> None:
        """Go on without the connection, which is gone."""
        self._upstream.lost()
        self.handle(lambda session, now: session.connection_lost(reason, now))

    # The session

    def handle(self, event: Callable[[Session, float], None]) -> None:
        """Tell the session, if there is one, what happens, and carry out its actions."""
        session = self.session
        if session is None:
            return
        try:
            event(session, time.monotonic())
        except IllegalTransition as error:
            self._recover(session, error)
        self.act()

    def act(self) -> None:
        """Carry out the actions of the session, unless the call is suspended."""
        session = self.session
        assert session is not None
        while session.actions and not self._channel.attachment.is_suspended:
            wanted, session.actions = session.actions, []
            for action in wanted:
                # Actions of every frame are told from the rest by their type alone: a pattern costs four times as
                # much.
                if type(action) is actions.AppendAudio:
                    self._upstream.append(action.audio)
                elif type(action) is actions.ToDispatcher:
                    self._channel.send_of_session(action.record)
                else:
                    self._rarer(action)
            if self._upstream.has_paused():
                session.upstream_paused()

    def _rarer(self, action: actions.Action) -> None:
        match action:
            case actions.ToUpstream(event):
                self._upstream.send(event)
                if self.trace is not None:
                    self.trace.sent(event)
            case actions.Measurement():
                self._usage.measured(action)
                assert self.session is not None
                self.notes.measured(action, self.session.parts.conversation)
                if self.trace is not None and action.seen is actions.Metric.TURN_LATENCY_SECONDS:
                    self.trace.answered(action.value, self._upstream.received_seconds(time.monotonic()))
                self._send_changed_figures()
            case actions.Happened(happened):
                self._watchers.show(happened)
            case actions.RunTool(call_id, name, arguments):
                self._run_tool(call_id, name, arguments)
            case actions.Collected(number, entry):
                self.tools.keys.collected(number, entry)
            case actions.Answer(number, status, body):
                self._watchers.answer(number, status, self._annotated(body))
            case actions.Connect(delay_seconds):
                self._upstream.discard()
                self._begin_task(self._connect(delay_seconds), "connect")
            case actions.Used(usage):
                self._usage.tokens(self._profile_now.model, usage)
                self._send_changed_figures()
            case actions.Transcribed(transcription):
                self._usage.transcription(self._profile_now.transcription_model, transcription)
                self._send_changed_figures()
            case actions.Configured(changed):
                self.preparation.changed(changed)
                self.send_profile()
            case actions.Released(reason, message):
                self._owner.session_released(reason, message)
            case actions.Ended(outcome, reason):
                told = reason or self._why_hung_up()
                self._watchers.show({"type": "session_ended", "outcome": outcome.value, "reason": told})
                self._owner.session_ended(outcome, reason)

    def _why_hung_up(self) -> str:
        """Return why a call ended for which the dispatcher gives no reason: this side had it hung up."""
        assert self.session is not None
        wanted = self.session.requested_hang_up
        return wanted.text if wanted is not None else agents_command(self.session.parts.conversation)

    def _annotated(self, body: dict[str, Any]) -> dict[str, Any]:
        """Add to an answer with the conversation what this shell knows of the conversation and of the session."""
        if "conversation" not in body:
            return body
        assert self.session is not None
        profile = self._profile_now
        return {
            "conversation": self.notes.annotated(body["conversation"], self.session.parts.conversation),
            "session": {"model": profile.model, "voice": profile.voice, "prompt": profile.prompt_as_json()},
        }

    @property
    def _profile_now(self) -> CallProfile:
        assert self.preparation.profile is not None
        return self.preparation.profile

    async def _prepare(self) -> None:
        """Make the session from tools, instructions, and what AVR Core wants of this call."""
        try:
            profile = await self.preparation.load()
            self.send_profile()
            self._figures.speaks(profile.model, profile.voice)
            self._usage.tenant = profile.tenant
            config = self.preparation.config()
            self._upstream.prepare(profile)
            self._channel.key.prepare(profile)
            if self.trace is not None:
                self.trace.prepared(profile)
            limits = self._upstream.limits
            session = Session(self.opening, config, time.monotonic(), self.checkpoint, limits=limits)
        except Exception:
            self._log.exception("the call could not be prepared")
            self._owner.stop("internal error")
            return
        if self._owner.has_ended:
            return
        self.session = session
        self._owner.session_made()
        self.handle(lambda made, _: self.early.replay(made, time.monotonic))
        self.tools.keys.begin_waiting()

    def send_profile(self) -> None:
        """Have the dispatcher remember the call's settings."""
        try:
            self._channel.send(self.preparation.record())
        except ValueError as error:
            # The worker that takes the call over puts the settings together again.
            self._log.warning("settings too long to be remembered", reason=str(error))

    def send_figures(self) -> None:
        """Have the dispatcher know what the session has measured and used, for the call's record."""
        self._channel.send(self._figures.take())

    def _send_changed_figures(self) -> None:
        if self._figures.is_changed:
            self.send_figures()

    async def _connect(self, delay_seconds: float) -> None:
        began_seconds = time.monotonic()
        try:
            repeat = await self._upstream.open(delay_seconds)
        except UpstreamError as error:
            failed = error
            if self.trace is not None:
                self.trace.connected(began_seconds, "connect_failed")
            self.handle(lambda session, now: session.connect_failed(failed, now))
        except Exception:
            # Nothing waits for this task, so a failure must end the call here.
            self._log.exception("connecting failed")
            self.handle(lambda session, _: session.stopped("internal error"))
        else:
            if self.trace is not None:
                self.trace.connected(began_seconds)
            self.handle(lambda session, now: session.connected(now, repeat=repeat))

    # Tools

    def _run_tool(self, call_id: str, name: str, arguments: str) -> None:
        assert self.preparation.tool_set is not None
        refusal = self.tools.start(self.preparation.tool_set, call_id, name, arguments)
        if refusal is not None:
            assert self.session is not None
            self.session.tool_done(call_id, refusal, time.monotonic())

    def _tool_ended(self, call_id: str, name: str, seconds: float, outcome: str) -> None:
        self._figures.tool_ended(name, seconds, outcome)
        self.notes.tool_ended(call_id, seconds, outcome)

    def _tool_done(self, call_id: str, output: str, lost: bool) -> None:
        if not self._owner.has_ended:
            self._send_changed_figures()
        if self.session is not None:
            self.handle(lambda session, now: session.tool_done(call_id, output, now, lost=lost))
        elif not self._owner.has_ended:
            self.early.tool_done(call_id, output, lost)

    def _collect(self, number: int, wanted: KeyRequest) -> bool:
        """Ask the caller for keys for a tool, if there is a session."""
        if self.session is None or self.session.state is State.ENDED:
            return False
        self.handle(lambda session, now: session.collect(number, wanted, now))
        return True

    def _leave_collection(self, number: int) -> None:
        self.handle(lambda session, now: session.leave_collection(number, now))

    def _recover(self, session: Session, error: IllegalTransition) -> None:
        """Continue the call in another session after a fault of this service; end it after the third one."""
        self.recoveries += 1
        self._metrics.illegal_transitions.inc()
        again = self.recoveries <= MAX_RECOVERIES
        effect = "the call continues in another session" if again else "the call ends"
        self._log.error(
            "illegal transition", machine=error.machine, state=error.state, event_name=error.event, effect=effect
        )
        if again:
            session.release(wire.Reason.DROPPED, f"internal error: {error}")
        else:
            session.stopped("internal error")

    def _begin_task(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=f"{name} {self.opening.uuid}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _lasts_seconds(event: dict[str, Any]) -> float | None:
    """Return how long the session lasts from now on, by its `expires_at` (seconds since 1970)."""
    session = event.get("session")
    expires_at = session.get("expires_at") if isinstance(session, dict) else None
    if not isinstance(expires_at, (int, float)):
        return None
    seconds = expires_at - time.time()
    return seconds if LEAST_SESSION_SECONDS <= seconds <= MOST_SESSION_SECONDS else None
