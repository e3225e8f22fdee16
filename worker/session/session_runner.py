"""The shell around one session: its settings, its Realtime connection, its tools, and its channel on a link."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any
from typing import Protocol as Interface

import aiohttp
import structlog

from common.errors import LinkProtocolError, UpstreamError
from common.link import wire
from common.link.channel import Channel, ChannelState, Transmit
from common.observe.metrics import ReconnectReason, RetryReason, WorkerMetrics
from common.observe.redaction import CallSecrets, all_without_known, redact, secrets_in
from common.observe.relay_timer import RelayTimer
from common.settings import models
from common.settings.extensions import TransferRule
from common.settings.function_tools import MAX_TOOLS
from common.settings.openai_fields import TurnDetection
from common.settings.secret_store import Secrets
from common.settings.session_fields import tool_key
from common.settings.settings import Settings
from worker.audio.local_vad import DEFAULT_THRESHOLD
from worker.audio.resample import Upsampler
from worker.config import profile, session_change
from worker.config.prices import Prices
from worker.config.profile import CallProfile
from worker.config.session_change import ChangeRefused
from worker.realtime import client_events
from worker.realtime.connection import RealtimeConnection
from worker.realtime.dialect import GA, Dialect
from worker.realtime.upstream_limits import LimitsTable, UpstreamLimits
from worker.realtime.usage import TranscriptionUsage, Usage
from worker.session import actions, truncation
from worker.session.actions import Metric
from worker.session.checkpoint import Checkpoint, CheckpointReader
from worker.session.plan import Plan
from worker.session.session import BAD_USAGE, HELD_BACK, Session
from worker.session.truncation import RecordEncoder
from worker.tools import built_in
from worker.tools.running_tools import RunningTools
from worker.tools.tool_registry import ToolRegistry
from worker.tools.tool_set import ToolSet

# Of server_vad, as the API has them; where turns are found on this side they mean the same.
DEFAULT_PREFIX_MS = 300
# Who watches one call over the calls API.
MAX_WATCHERS = 16
MAX_COMMANDS = 32
MAX_SHOWN_TOOLS = 10


# A call whose dispatcher is gone is kept for the caller to come back, and a little longer than a dispatcher does.
KEPT_LONGER_SECONDS = 5.0
# After a stall of this process a call is kept so long for its dispatcher to say that it still has it.
CONFIRM_SECONDS = 1.0
# The limits of the process are asked again so soon.
PERMISSION_SECONDS = 0.1
# An `expires_at` outside of these bounds comes from a clock that is wrong.
LEAST_SESSION_SECONDS = 10.0
MOST_SESSION_SECONDS = 86_400.0
# Sessions that were opened together are replaced at different times.
LEAST_ROLLOVER_PART = 0.9
# Transcripts of a call that has no dispatcher.
MAX_UNTOLD = 64
# Records that come before there is a session, besides the memory and what the credit bounds.
MAX_EARLY_RECORDS = 4096


class Calls(Interface):
    """The worker's table of calls."""

    def ended(self, call: SessionRunner) -> None:
        """The call is over."""

    def released(self, call: SessionRunner) -> None:
        """The call has no session here now; this one is kept until another session has it."""

    def going(self, call: SessionRunner) -> None:
        """Have this session take over from older ones of its call, which then let go."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What all calls of a worker share."""

    secrets: Secrets
    metrics: WorkerMetrics
    prices: Prices
    tools: ToolRegistry
    http: aiohttp.ClientSession
    limits: LimitsTable = field(default_factory=LimitsTable)

    @property
    def settings(self) -> Settings:
        """Of the process, with the secrets of now."""
        return self.secrets.settings


class SessionRunner:
    """One call on this worker: one session of it.

    Attributes:
        tools: that run.
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
        self.uuid = opening.uuid
        self.epoch = opening.epoch
        self._opening = opening
        self._log = structlog.get_logger().bind(uuid=opening.uuid)
        self._encoder = RecordEncoder(opening.uuid)
        self._channel = Channel(channel, transmit, self._encoder.encode)
        self._secrets = CallSecrets(opening.uuid)
        self._secrets.keep(secrets_in(opening.provider_config))
        self._calls = calls
        self._resources = resources
        self._metrics = resources.metrics
        self._started_seconds = time.monotonic()
        self._profile: CallProfile | None = None
        self._tool_set: ToolSet | None = None
        self._session: Session | None = None
        self._ended = False
        # The call goes on in another session; what this one knows is kept until that one has it.
        self._resting_since: float | None = None
        self._resting_reason = ""
        self._detached_since: float | None = None
        self._suspended = False
        self._stalled_while_detached = False
        self._memory = CheckpointReader()
        self._checkpoint: Checkpoint | None = None
        self._hang_up_reason = ""
        # Records that came before there is a session: no credit is given until then, so they are bounded by it.
        self._early: list[Callable[[Session, float], None]] = []
        self._early_position = opening.position_samples
        self._early_outputs: dict[str, tuple[str, bool]] = {}
        # Transcripts that no dispatcher was there for: one that takes over is told them, once.
        self._untold: deque[wire.Transcript] = deque(maxlen=MAX_UNTOLD)
        self._realtime: RealtimeConnection | None = None
        self._limits = UpstreamLimits()
        self._dialect: Dialect = GA
        self._tasks: set[asyncio.Task[None]] = set()
        self.tools = RunningTools(self.uuid, opening.metadata, self._metrics, self._tool_done)
        self._watchers: dict[tuple[int, Callable[[bytes], None]], None] = {}
        self._asking: dict[int, tuple[int, Callable[[bytes], None]]] = {}
        self._commands = 0
        self._upstream_paused = False
        self._relay_in = RelayTimer(self._metrics.relay_in)
        self._relay_out = RelayTimer(self._metrics.relay_out)

    def begin(self) -> None:
        """Answer OPEN, and find out what the session is to be: with a memory, when that is whole."""
        self._channel.send(wire.Opened(wire.CALLER_CREDIT_BYTES))
        if not self._opening.restore:
            self._begin_task(self._prepare(), "prepare")

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it goes on."""
        return self._ended

    @property
    def is_attachable(self) -> bool:
        """Whether another dispatcher can go on with this session."""
        return not self._ended and not self.is_standby and not self.is_resting

    @property
    def is_resting(self) -> bool:
        """Whether it released its call, and keeps what it knows for a dispatcher that lost the successor."""
        return self._resting_since is not None and not self._ended

    @property
    def waits_for_dispatcher(self) -> bool:
        """Whether nobody but this worker knows of the call now."""
        if self._detached_since is None or self._awaits_confirmation:
            return False
        return self.is_attachable or self.is_resting

    @property
    def _awaits_confirmation(self) -> bool:
        """Whether a dispatcher had this call when the event loop stalled, and has not confirmed it since."""
        return self._suspended and not self._stalled_while_detached

    @property
    def metadata(self) -> dict[str, str]:
        """As AVR Core's URL brought it."""
        return self._opening.metadata

    @property
    def upsampler(self) -> Upsampler | None:
        """What resamples the caller's audio that comes next, if that goes upstream at once."""
        return None if self._session is None else self._session.upsampler

    @property
    def is_standby(self) -> bool:
        """Whether the call has another session, until this one is told to go on."""
        return self._opening.restore and (self._checkpoint is None or self._checkpoint.standby)

    def tick(self, now_seconds: float) -> None:
        """Look at the clocks."""
        kept_seconds = self._resources.settings.call_reconnect_seconds + KEPT_LONGER_SECONDS
        if self._resting_since is not None:
            if now_seconds - self._resting_since >= kept_seconds:
                self._finish(wire.Outcome.COMPLETED, "nobody came back for this session")
            return
        if self._channel.is_full and not self._ended and not self._suspended:
            self._log.warning("channel given up", reason="the dispatcher acknowledges nothing")
            self.stop("the dispatcher acknowledges nothing")
            return
        kept_seconds = CONFIRM_SECONDS if self._awaits_confirmation else kept_seconds
        if self._detached_since is not None and now_seconds - self._detached_since >= kept_seconds:
            self._give_up("the dispatcher of this call was lost")
            return
        if self._session is not None and not self._suspended:
            heard_seconds = now_seconds if self._realtime is None else self._realtime.answered_seconds
            self._session.tick(now_seconds, heard_seconds)
            self._act()

    def caller_audio(self, position_samples: int, pcm: bytes, received_seconds: float) -> None:
        """What a CALLER_AUDIO record brings, and when it was read."""
        self._channel.receive(wire.Kind.CALLER_AUDIO, wire.CALLER_AUDIO_HEAD_BYTES + len(pcm))
        if self._session is not None:
            self._relay_in.frame(received_seconds)
            self._session.caller_audio(position_samples, pcm, time.monotonic())
            self._act()
        elif len(self._early) < MAX_EARLY_RECORDS:
            self._early.append(lambda session, now: session.caller_audio(position_samples, pcm, now))
            self._early_position = position_samples + len(pcm) // wire.SAMPLE_BYTES

    def record(self, kind: int, payload: memoryview) -> None:
        """Another record of the dispatcher."""
        if kind == wire.Kind.ACK:
            self._channel.acknowledged(wire.decode_ack(payload))
            return
        self._channel.receive(kind, len(payload))
        if self.is_resting:
            if kind == wire.Kind.CLOSE:
                self._finish(wire.Outcome.COMPLETED, wire.decode_control(wire.Close, payload).reason)
            return
        if kind in _MEMORY:
            go = self._memory.record(kind, payload)
            if go is not None:
                self._go(go)
            return
        if self._session is None:
            self._early_record(kind, payload)
            return
        self._session.record(kind, payload, time.monotonic())
        self._act()

    def _early_record(self, kind: int, payload: memoryview) -> None:
        if kind == wire.Kind.CLOSE:
            self._finish(wire.Outcome.COMPLETED, wire.decode_control(wire.Close, payload).reason)
        elif len(self._early) < MAX_EARLY_RECORDS:
            kept = memoryview(bytes(payload))
            self._early.append(lambda session, now: session.record(kind, kept, now))

    def _go(self, go: wire.Resume) -> None:
        """The memory is whole."""
        if not go.standby:
            self._calls.going(self)
        # All that run have been taken over: this session has begun none yet.
        checkpoint = self._memory.take(go, frozenset(self.tools.tasks), self._hang_up_reason)
        first, self._checkpoint = self._checkpoint is None, checkpoint
        if go.reason and not go.standby:
            self._metrics.reconnects[_RECONNECTS.get(go.reason, ReconnectReason.REPIN)].inc()
        if self._session is not None:
            self._session.go(checkpoint, time.monotonic(), self._changed_session())
            self._act()
        elif first:
            self._begin_task(self._prepare(), "prepare")

    @property
    def hang_up_reason(self) -> str:
        """Why a session of the call on this worker has ordered a hang-up; empty: none has."""
        ordered = "" if self._session is None else self._session.hang_up_reason
        return ordered or self._hang_up_reason

    def take_over(self, older: SessionRunner) -> None:
        """Take over what an older session of the call, which may have ended, still has to do."""
        older.tools.hand_over(self.tools)
        self._hang_up_reason = self._hang_up_reason or older.hang_up_reason

    def _changed_session(self) -> dict[str, Any] | None:
        """The session that the call is to have, if the calls API changed it while this one stood by."""
        changed = self._remembered_profile()
        if changed is None or changed == self._profile or self._tool_set is None:
            return None
        self._profile = changed
        tools, _ = _tools(changed, self._tool_set)
        return _plan(changed, self._tool_set, self._resources.settings, tools).session

    # The link, and the loss of it

    def detached(self) -> None:
        """The link is gone. The session goes on: another link, or another dispatcher, may come for it."""
        self._channel.broke()
        self._detached_since = time.monotonic()
        if self._session is not None:
            self._session.detached()

    def resume(self, attach: wire.Attach, transmit: Transmit) -> None:
        """Go on with the same dispatcher on another link, where the one before broke.

        Raises:
            LinkProtocolError: the dispatcher has other records than were sent.
        """
        self._detached_since = None
        if self._session is not None:
            self._session.resumed()
        try:
            self._channel.accept(transmit, attach.received)
        except LinkProtocolError:
            # The end of the call is still told on this link.
            self._channel = Channel(self._channel.number, transmit, self._encoder.encode)
            raise
        self._untold.clear()
        self._confirmed()

    def attach(self, opening: wire.Open, channel: int, transmit: Transmit) -> None:
        """Tell another dispatcher, which has the caller now, everything, and go on."""
        self._channel.send_uncounted(wire.Close("another dispatcher has this call"))
        self._opening = dataclasses.replace(self._opening, epoch=opening.epoch)
        self.epoch, self._detached_since = opening.epoch, None
        self._channel = Channel(channel, transmit, self._encoder.encode)
        position = self._early_position if self._session is None else self._session.next_position_samples
        self._channel.send(wire.Opened(wire.CALLER_CREDIT_BYTES, attached=True, position_samples=position))
        if self._profile is not None:
            self._tell_profile(self._profile)
        if self._session is not None:
            self._session.attached(opening, time.monotonic())
            self._act()
        untold, self._untold = self._untold, deque(maxlen=MAX_UNTOLD)
        for record in untold:
            self._channel.send(record)
        if self._resting_since is not None:
            # That dispatcher knows the call now, and has it go on in another session.
            self._resting_since = time.monotonic()
            drains = self._resting_reason == wire.Reason.DRAIN
            reason = wire.Reason.DRAIN if drains else wire.Reason.DROPPED
            self._channel.send(wire.Released(reason.value, "the session had been released"))
        self._confirmed()

    def suspend(self) -> None:
        """Do nothing until the dispatcher confirms that it still has the call: the event loop stalled.

        A call without a dispatcher is kept for its caller as before, and is confirmed by Redis (`confirm`).
        """
        if not self._suspended:
            self._stalled_while_detached = self._detached_since is not None
        self._suspended = True
        if self._realtime is not None:
            self._realtime.suspend()

    def confirm(self) -> None:
        """Go on after a stall: Redis names no other holder of this call, which has no dispatcher."""
        if self._stalled_while_detached:
            self._confirmed()

    def _confirmed(self) -> None:
        if self._suspended:
            self._suspended = False
            if self._realtime is not None:
                self._realtime.resume()
            if self._session is not None:
                self._act()

    def move(self, reason: wire.Reason, seconds: float) -> None:
        """The call is to leave this worker within a time."""
        if self._session is not None:
            self._session.move(reason, seconds, time.monotonic())
            self._act()

    def release(self, reason: wire.Reason) -> None:
        """The call has to leave this worker now."""
        message = "the worker is stopping"
        if self._session is not None:
            self._session.release(reason, message)
            self._act()
        elif not self._ended:
            self._channel.send(wire.Released(reason.value, message))
            self._finish(wire.Outcome.COMPLETED, message)

    def end_rest(self) -> None:
        """End a session that released its call: the process stops."""
        if self.is_resting:
            self._finish(wire.Outcome.COMPLETED, self._resting_reason)

    def _give_up(self, reason: str) -> None:
        if self._suspended:
            # Somebody else has the call, and what waits to be done is not to be done.
            self._finish(wire.Outcome.FAILED, reason)
        elif self._session is not None:
            self._session.dispatcher_lost()
            self._act()
        else:
            self._finish(wire.Outcome.FAILED, reason)

    def let_go(self, reason: str) -> None:
        """Another session has the call: say so, and nothing more."""
        self._channel.send_uncounted(wire.Close(reason))
        self._channel.broke()
        self._finish(wire.Outcome.COMPLETED, reason)

    def stop(self, reason: str) -> None:
        """End the call from this side."""
        if self._session is not None:
            self._session.stopped(reason)
            self._act()
        elif not self._ended:
            self._channel.send(wire.Ended(wire.Outcome.FAILED.value, reason))
            self._finish(wire.Outcome.FAILED, reason)

    def _send(self, record: wire.Record) -> None:
        """Send a record of the session's."""
        try:
            self._channel.send(record)
        except ValueError as error:
            self._not_encoded("record", error)
            return
        if self._channel.state is ChannelState.BROKEN and isinstance(record, wire.Transcript):
            self._untold.append(record)

    def _send_upstream(self, event: dict[str, Any]) -> None:
        if self._realtime is None:
            return
        try:
            encoded = client_events.encode(event, self._dialect)
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            self._not_encoded("event", error)
            return
        self._realtime.send(encoded)

    def _not_encoded(self, what: str, error: Exception) -> None:
        """Drop a record or event with a value of the API's that is no JSON, as a number above 64 bits."""
        self._metrics.upstream_errors.inc("bad_event")
        self._log.warning(f"{what} not encoded", reason=redact(repr(error), self.uuid)[:200])

    def _tell_profile(self, chosen: CallProfile) -> None:
        self._secrets.keep(secrets_in(chosen.secrets()))
        try:
            self._channel.send(wire.Profile(chosen.to_record(), chosen.secrets()))
        except ValueError as error:
            # The worker that takes the call over puts the settings together again.
            self._log.warning("settings too long to be remembered", reason=str(error))

    def command(self, command: wire.Command, send: Callable[[bytes], None]) -> None:
        """The calls API wants something; `send` sends the answer on the link that it came by."""
        if command.action == "watch" and len(self._watchers) < MAX_WATCHERS:
            self._watchers[command.number, send] = None
            send(wire.encode(wire.Result(command.number, 200), 0))
        elif command.action == "unwatch":
            self._watchers.pop((command.number, send), None)
        elif self._session is None and command.action == "conversation":
            send(wire.encode(wire.Result(command.number, 200, {"conversation": []}), 0))
        elif self._session is None:
            send(wire.encode(wire.Result(command.number, 409, {"error": "the call has no session yet"}), 0))
        elif len(self._asking) >= MAX_COMMANDS:
            send(wire.encode(wire.Result(command.number, 429, {"error": "too many commands wait"}), 0))
        else:
            # Numbers are a link's own: two dispatchers may use the same.
            self._commands += 1
            self._asking[self._commands] = (command.number, send)
            try:
                body = self._checked(command.body) if command.action == "session" else command.body
            except ChangeRefused as error:
                self._answer(self._commands, 400, {"error": str(error)})
                return
            self._session.command(self._commands, command.action, body, time.monotonic())
            self._act()

    def _checked(self, body: dict[str, Any]) -> dict[str, Any]:
        assert self._profile is not None
        assert self._tool_set is not None
        self._secrets.keep(secrets_in(body))
        change, changes = session_change.checked(body, self._profile, self._tool_set.names)
        profile.log_tools_changed(self._log, "the calls API", changes)
        return change

    def _answer(self, number: int, status: int, body: dict[str, Any]) -> None:
        asked, send = self._asking.pop(number)
        shown = all_without_known(body, self.uuid)
        send(truncation.encoded(wire.Result(asked, status, shown), 0)[0])

    def unwatch(self, send: Callable[[bytes], None]) -> None:
        """Whoever watched by this link is gone with it."""
        self._watchers = {watcher: None for watcher in self._watchers if watcher[1] != send}

    async def settled(self) -> None:
        """Wait until nothing of an ended call is left: its tasks given up, its connection closed.

        Cancelled, it cuts off a connection whose closing handshake takes too long.
        """
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._realtime is not None:
            try:
                await self._realtime.wait_closed()
            except asyncio.CancelledError:
                self._realtime.abort()
                raise

    # Owner of the Realtime connection

    def event(self, event: dict[str, Any], received_seconds: float) -> None:
        """An event of the API."""
        assert self._session is not None
        if event["type"].endswith("audio.delta"):
            self._relay_out.frame(received_seconds)
        elif event["type"] == "session.created":
            event["lasts_seconds"] = _lasts_seconds(event)
        try:
            self._session.event(event, time.monotonic())
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError) as error:
            # An event of another shape than the API's, or nested without end: it is lost, the call goes on.
            self._metrics.upstream_errors.inc("bad_event")
            # Redacted before it is cut: a part of a secret would not be known.
            reason = redact(repr(error), self.uuid)[:200]
            self._log.warning(
                "upstream event not understood", type=redact(event["type"], self.uuid)[:64], reason=reason
            )
        self._act()

    def unreadable(self) -> None:
        """An event of the API that is no JSON object with a type: it is lost."""
        self._metrics.upstream_errors.inc("bad_event")
        self._log.warning("upstream event not readable")

    def upstream_writable(self) -> None:
        """The API reads again."""
        self._upstream_paused = False
        if self._session is not None:
            self._session.upstream_writable(time.monotonic())
            self._act()

    def connection_lost(self, reason: str) -> None:
        """The connection is gone."""
        self._realtime = None
        if self._session is not None:
            self._session.connection_lost(reason, time.monotonic())
            self._act()

    # Actions

    def _act(self) -> None:
        session = self._session
        assert session is not None
        while session.actions and not self._suspended:
            wanted, session.actions = session.actions, []
            for action in wanted:
                # What comes with every frame is told from the rest by its type alone: a pattern costs four times
                # as much.
                if type(action) is actions.AppendAudio:
                    if self._realtime is not None:
                        self._realtime.send(client_events.encode_append(action.audio))
                elif type(action) is actions.ToDispatcher:
                    self._send(action.record)
                else:
                    self._rarer(action)
            if self._realtime is not None and self._realtime.write_paused and not self._upstream_paused:
                self._upstream_paused = True
                session.upstream_paused()

    def _rarer(self, action: actions.Action) -> None:
        match action:
            case actions.ToUpstream(event):
                self._send_upstream(event)
            case actions.Measurement(seen, value, label):
                _REPORTS[seen](self._metrics, value, label)
            case actions.Happened(happened):
                shown = all_without_known(happened, self.uuid) if self._watchers else happened
                for number, send in self._watchers:
                    send(wire.encode(wire.Event(number, shown), 0))
            case actions.RunTool(call_id, name, arguments):
                self._run_tool(call_id, name, arguments)
            case actions.Answer(number, status, body):
                self._answer(number, status, body)
            case actions.Connect(delay_seconds):
                if self._realtime is not None:
                    # It is open, but there is no session on it.
                    self._realtime.abort()
                    self._realtime = None
                self._begin_task(self._connect(delay_seconds), "connect")
            case actions.Used(usage):
                self._count_tokens(usage)
            case actions.Transcribed(transcription):
                self._count_transcription(transcription)
            case actions.Configured(session):
                self._configured(session)
            case actions.Released(reason, message):
                self._rest(reason, message)
            case actions.Ended(outcome, reason):
                self._finish(outcome, reason)

    async def _prepare(self) -> None:
        """Find out what the session is to be: tools, instructions, what AVR Core wants of this call."""
        resources = self._resources
        try:
            self._tool_set = await resources.tools.tool_set()
            self._profile, without_secrets = await self._load_profile()
            self._tell_profile(self._profile)
            tools, left_out = _tools(self._profile, self._tool_set)
            if left_out:
                reason = f"a session has at most {MAX_TOOLS}"
                shown = left_out[:MAX_SHOWN_TOOLS]
                self._log.warning("tools left out", reason=reason, number=len(left_out), tools=shown)
            plan = _plan(self._profile, self._tool_set, resources.settings, tools, without_secrets)
            limits = resources.limits.of(self._profile.base_url, self._profile.api_key.get_secret_value())
            self._limits, self._dialect = limits, plan.dialect
            session = Session(self._opening, plan, time.monotonic(), self._checkpoint, limits=limits)
        except Exception:
            self._log.exception("the call could not be prepared")
            self.stop("internal error")
            return
        if self._ended:
            return
        self._session = session
        early, self._early = self._early, []
        for call_id, (output, lost) in self._early_outputs.items():
            session.tool_done(call_id, output, time.monotonic(), lost=lost)
        for tell in early:
            tell(session, time.monotonic())
        self._act()

    async def _load_profile(self) -> tuple[CallProfile, tuple[str, ...]]:
        """Return the settings of the call, and the names of tools whose secrets were lost."""
        opening, resources = self._opening, self._resources
        remembered = self._remembered_profile()
        if remembered is not None:
            return await profile.restored(
                remembered,
                resources.settings,
                uuid=self.uuid,
                metadata=opening.metadata,
                provider_config=opening.provider_config,
                http=resources.http,
            )
        loaded = await profile.load(
            resources.settings,
            uuid=self.uuid,
            metadata=opening.metadata,
            provider_config=opening.provider_config,
            http=resources.http,
        )
        return loaded, ()

    def _remembered_profile(self) -> CallProfile | None:
        """The settings that the call began with, where they are known."""
        remembered = self._memory.profile
        if remembered is None or not remembered.record:
            return None
        try:
            return CallProfile.from_record(remembered.record, remembered.secrets, self._resources.settings)
        except (TypeError, ValueError, LookupError):
            self._log.warning("the settings of a call were not understood, and are put together again")
            return None

    def _configured(self, session: dict[str, Any]) -> None:
        """The calls API has changed the session: the next one is to be like it."""
        assert self._profile is not None
        self._profile = self._profile.changed(session, self._resources.settings)
        self._tell_profile(self._profile)

    async def _connect(self, delay_seconds: float) -> None:
        assert self._session is not None
        assert self._profile is not None
        # Calls that were refused together do not come back together.
        await asyncio.sleep(delay_seconds * random.uniform(0.8, 1.2))
        chosen = self._profile.with_key_of(self._resources.settings)
        connection = RealtimeConnection(self)
        try:
            repeat = await self._permission(repeat=delay_seconds > 0)
            began = time.monotonic()
            key, proxies = chosen.api_key.get_secret_value(), self._resources.settings.proxies
            await connection.open(chosen.url, chosen.headers, key, proxies=proxies)
        except UpstreamError as error:
            self._session.connect_failed(error, time.monotonic())
        except Exception:
            # Nobody waits for this task: a call that it left behind would hang for ever.
            self._log.exception("connecting failed")
            self._session.stopped("internal error")
        else:
            self._metrics.upstream_connect.observe(time.monotonic() - began)
            self._realtime = connection
            self._upstream_paused = False
            self._session.connected(time.monotonic(), repeat=repeat)
        self._act()

    async def _permission(self, *, repeat: bool) -> bool:
        """Wait until the limits of the process allow another session.

        Returns:
            whether it counts as a repeated request: it was one, or had to wait.

        Raises:
            UpstreamError: they do not within UPSTREAM_RETRY_SECONDS.
        """
        until_seconds = time.monotonic() + self._resources.settings.upstream_retry_seconds
        while not self._limits.may_send(time.monotonic(), repeat=repeat):
            # A pause that lasts longer than the call may wait is not waited for.
            if max(time.monotonic(), self._limits.held_until_seconds) >= until_seconds:
                message = "the Realtime API fails for other calls, too, and may not be asked again yet"
                raise UpstreamError(message, code=HELD_BACK, retryable=True)
            repeat = True
            await asyncio.sleep(PERMISSION_SECONDS * random.uniform(0.8, 1.2))
        return repeat

    # Tools

    def _run_tool(self, call_id: str, name: str, arguments: str) -> None:
        assert self._tool_set is not None
        refusal = self.tools.start(self._tool_set, call_id, name, arguments)
        if refusal is not None:
            assert self._session is not None
            self._session.tool_done(call_id, refusal, time.monotonic())

    def _tool_done(self, call_id: str, output: str, lost: bool) -> None:
        if self._session is not None:
            self._session.tool_done(call_id, output, time.monotonic(), lost=lost)
            self._act()
        elif not self._ended:
            self._early_outputs[call_id] = (output, lost)

    def _count_tokens(self, usage: Usage) -> None:
        assert self._profile is not None
        model = self._profile.model
        tokens = self._metrics.tokens(model)
        tokens.input_text.inc(usage.input_text)
        tokens.input_audio.inc(usage.input_audio)
        tokens.input_text_cached.inc(usage.cached_text)
        tokens.input_audio_cached.inc(usage.cached_audio)
        tokens.output_text.inc(usage.output_text)
        tokens.output_audio.inc(usage.output_audio)
        self._count_cost(model, self._resources.prices.cost_usd(model, usage))

    def _count_transcription(self, reported: object) -> None:
        assert self._profile is not None
        try:
            usage = TranscriptionUsage.from_event(reported)
        except ValueError:
            self._metrics.upstream_errors.inc(BAD_USAGE)
            return
        model = self._profile.transcription_model
        tokens = self._metrics.tokens(model)
        tokens.input_text.inc(usage.input_text)
        tokens.input_audio.inc(usage.input_audio)
        tokens.output_text.inc(usage.output_text)
        self._count_cost(model, self._resources.prices.transcription_cost_usd(model, usage))

    def _count_cost(self, model: str, cost_usd: float | None) -> None:
        if cost_usd is not None:
            self._metrics.cost_usd.inc(model, cost_usd)

    def _begin_task(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=f"{name} {self.uuid}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _rest(self, reason: str, message: str) -> None:
        """Keep what the session knows, and the tools that run, until another session has the call."""
        if self.is_standby:
            # It never had the call.
            self._finish(wire.Outcome.COMPLETED, message)
        if self._ended or self.is_resting:
            return
        self._close_session(wire.Outcome.COMPLETED, message)
        self._resting_since, self._resting_reason = time.monotonic(), reason
        self._calls.released(self)

    def _finish(self, outcome: wire.Outcome, reason: str) -> None:
        if self._ended:
            return
        if self._resting_since is None:
            self._close_session(outcome, reason)
        self._ended = True
        self.tools.cancel()
        self._secrets.close()
        self._calls.ended(self)

    def _close_session(self, outcome: wire.Outcome, reason: str) -> None:
        for task in self._tasks:
            task.cancel()
        if self._realtime is not None:
            if self._suspended:
                self._realtime.abort()
            else:
                self._realtime.close()
        for number, send in self._watchers:
            send(wire.encode(wire.Event(number), 0))
        self._watchers.clear()
        seconds = time.monotonic() - self._started_seconds
        if outcome is wire.Outcome.COMPLETED:
            self._metrics.session_completed.observe(seconds)
            self._log.info("session ended", reason=reason, seconds=round(seconds, 3))
        else:
            self._metrics.session_failed.observe(seconds)
            self._log.error("session failed", reason=reason, seconds=round(seconds, 3))


def _lasts_seconds(event: dict[str, Any]) -> float | None:
    """How long the session lasts from now on, by its `expires_at` (seconds since 1970)."""
    session = event.get("session")
    expires_at = session.get("expires_at") if isinstance(session, dict) else None
    if not isinstance(expires_at, (int, float)):
        return None
    seconds = expires_at - time.time()
    return seconds if LEAST_SESSION_SECONDS <= seconds <= MOST_SESSION_SECONDS else None


def _tools(chosen: CallProfile, tool_set: ToolSet) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the session's tools, and the names of tools that exceed the API's limit."""
    # What a call says of a function describes it otherwise; the function does what it did.
    in_place = [tool for tool in built_in.FUNCTIONS if tool_key(tool) not in tool_set.names]
    own = [*in_place, *tool_set.definitions]
    names = {*map(tool_key, own)}
    functions = {tool_key(tool): tool for tool in chosen.tools if tool.get("type") == "function"}
    said = {name: tool for name, tool in functions.items() if name in names}
    own = [{**tool, **said.get(tool_key(tool), {})} for tool in own]
    ours, in_files = own[: len(in_place)], own[len(in_place) :]
    of_the_call = [tool for tool in chosen.tools if tool_key(tool) not in said]
    room = MAX_TOOLS - len(ours)
    first, second = of_the_call[:room], in_files[: max(room - len(of_the_call), 0)]
    left_out = [*of_the_call[len(first) :], *in_files[len(second) :]]
    return [*first, *ours, *second], [tool_key(tool)[:64] for tool in left_out]


def _plan(
    chosen: CallProfile,
    tool_set: ToolSet,
    settings: Settings,
    tools: list[dict[str, Any]],
    without_secrets: tuple[str, ...] = (),
) -> Plan:
    """The session's settings, from the call's and the process's."""
    found_here = chosen.turn_detection is TurnDetection.NONE
    prefix_ms = settings.openai_turn_detection_prefix_padding_ms
    return Plan(
        dialect=chosen.dialect,
        session=chosen.session | {"tools": tools},
        audio_format=chosen.audio_format.value,
        silence_ms=chosen.silence_ms,
        local_silence_ms=chosen.silence_ms if found_here else None,
        local_prefix_ms=DEFAULT_PREFIX_MS if prefix_ms is None else prefix_ms,
        local_threshold=DEFAULT_THRESHOLD if chosen.vad_threshold is None else chosen.vad_threshold,
        welcome=chosen.welcome_message,
        welcome_interruptible=chosen.welcome_interruptible,
        answer_failed_text=settings.answer_failed_text,
        approved_servers=frozenset(
            str(tool.get("server_label")) for tool in tools if tool.get("require_approval") == "never"
        ),
        retry_seconds=settings.upstream_retry_seconds,
        digits_seconds=settings.dtmf_timeout_ms / 1000,
        silence_hangup_seconds=settings.silence_hangup_seconds,
        max_call_seconds=settings.max_call_seconds,
        rollover_seconds=settings.session_rollover_seconds,
        rollover_part=random.uniform(LEAST_ROLLOVER_PART, 1.0),
        idempotent=frozenset(name for name in tool_set.names if tool_set.is_idempotent(name)),
        transfers=_transfer_rule(settings),
        built_in=built_in.BUILT_IN - set(tool_set.names),
        service=models.service_of(chosen.base_url),
        notes=(f"[The tools of {', '.join(without_secrets)} are not available at the moment.]",)
        if without_secrets
        else (),
    )


def _transfer_rule(settings: Settings) -> TransferRule:
    allowed = settings.transfer_allowed
    return TransferRule(settings.transfer_context, None if allowed is None else tuple(allowed))


_MEMORY = frozenset(
    {wire.Kind.PROFILE, wire.Kind.ITEM_UPDATE, wire.Kind.PENDING_REPLIES, wire.Kind.KEPT_AUDIO, wire.Kind.RESUME}
)
_RECONNECTS = {
    wire.Reason.DROPPED.value: ReconnectReason.DROPPED,
    wire.Reason.ROLLOVER.value: ReconnectReason.ROLLOVER,
}


_REPORTS: dict[Metric, Callable[[WorkerMetrics, float, str], None]] = {
    Metric.TURN_LATENCY_SECONDS: lambda metrics, seconds, _: metrics.turn_latency.observe(seconds),
    Metric.ANSWER_WAIT_SECONDS: lambda metrics, seconds, _: metrics.answer_wait.observe(seconds),
    Metric.ANSWER_RETRIED: lambda metrics, _, reason: metrics.answers_retried[RetryReason(reason)].inc(),
    Metric.ANSWER_GIVEN_UP: lambda metrics, _, reason: metrics.answers_given_up[RetryReason(reason)].inc(),
    Metric.RATE_LIMIT_REMAINING: lambda metrics, left, limit: metrics.rate_limit(limit, left),
    Metric.UPSTREAM_ERROR: lambda metrics, _, code: metrics.upstream_errors.inc(code),
    Metric.CALLER_AUDIO_DROPPED_SECONDS: lambda metrics, seconds, _: metrics.audio_dropped_in.inc(seconds),
    Metric.REPLY_AUDIO_DROPPED_SECONDS: lambda metrics, seconds, _: metrics.audio_dropped_out.inc(seconds),
}
