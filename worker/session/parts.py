"""The parts of one session, which the objects around them share."""

from __future__ import annotations

import structlog

from common.link import wire
from worker.audio.audio_format import for_format
from worker.audio.local_vad import DEFAULT_THRESHOLD, LocalVad
from worker.config.session_config import SessionConfig
from worker.realtime.api_values import number_within
from worker.realtime.bad_input import BadInput
from worker.realtime.upstream_limits import UpstreamLimits
from worker.session.action_queue import ActionQueue
from worker.session.actions import Metric
from worker.session.agent.agent_speech import AgentSpeech
from worker.session.agent.answering import Answering
from worker.session.agent.function_calls import FunctionCalls
from worker.session.agent.response_scheduler import SchedulerState
from worker.session.caller.caller_audio import CallerAudio
from worker.session.caller.digits import DigitEntry
from worker.session.caller.secret_entry import EntryLimits, SecretEntry
from worker.session.caller.silence_clock import SilenceClock
from worker.session.memory.conversation import Conversation
from worker.session.memory.replay import Replay
from worker.session.memory_writer import MemoryWriter
from worker.session.session_updates import SessionUpdates
from worker.session.turn_clock import TurnClock


def local_vad(config: SessionConfig, silence_ms: int) -> LocalVad:
    """Make a local voice detector, for turns that the API does not find."""
    threshold = DEFAULT_THRESHOLD if config.local_threshold is None else config.local_threshold
    return LocalVad(threshold=threshold, silence_ms=silence_ms)


class ItemIds:
    """Maker of ids for items that this service adds to a conversation.

    Attributes:
        epoch: epoch of the session, so that items of two sessions of a call have different ids.
    """

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self._made = 0

    def new(self) -> str:
        """Return a new id."""
        self._made += 1
        return f"avr_{self.epoch}_{self._made}"


class SessionParts:
    """The parts of one session.

    Attributes:
        uuid: id of the call.
        config: configuration of the session.
        limits: limits of requests to the Realtime API, which all calls of the process share.
        ids: maker of item ids.
        out: queue of actions.
        conversation: items of the call.
        audio: audio of the caller on its way to the API.
        memory_writer: reports of the call's memory to the dispatcher.
        replay: replay of the conversation to the API.
        agent: replies of the model.
        answers: answers that the model owes.
        calls: function calls of the model.
        updates: `session.update` events.
        digits: keys that are not part of the conversation yet.
        secret_entry: keys that a tool asks for, and that are not part of the conversation.
        silence: clock of the time without speech.
        turn_clock: clock of the caller's turn that the model answers.
        log: logger with the call's uuid.
    """

    def __init__(
        self, opening: wire.Open, config: SessionConfig, limits: UpstreamLimits, now_seconds: float
    ) -> None:
        uuid = opening.uuid
        audio_format = for_format(config.audio_format)
        silence_ms = config.local_silence_ms
        vad = None if silence_ms is None else local_vad(config, silence_ms)
        self.uuid = uuid
        self.config = config
        self.limits = limits
        self.log = structlog.get_logger().bind(uuid=uuid)
        self.ids = ItemIds(opening.epoch)
        self.out = ActionQueue(uuid)
        self.silence = SilenceClock(now_seconds)
        self.turn_clock = TurnClock()
        self.digits = DigitEntry(config.digits_seconds)
        self.secret_entry = SecretEntry(EntryLimits())
        self.conversation = Conversation()
        self.audio = CallerAudio(audio_format.uplink(), vad, config.local_prefix_ms)
        self.audio.input_muted = config.welcome is not None and not config.welcome_interruptible
        self.memory_writer = MemoryWriter(self.conversation, self.audio, self.out)
        self.replay = Replay(self.conversation, self.out, audio_format.uplink)
        self.agent = AgentSpeech(opening, audio_format, self.conversation, self.out, self.replay)
        self.answers = Answering(
            config,
            limits,
            uuid=uuid,
            agent=self.agent,
            replay=self.replay,
            outbox=self.out,
            new_id=self.ids.new,
            turn_clock=self.turn_clock,
        )
        self.calls = FunctionCalls(
            self.conversation,
            replay=self.replay,
            agent=self.agent,
            memory_writer=self.memory_writer,
            outbox=self.out,
            new_id=self.ids.new,
            uuid=uuid,
            transfers=config.transfers,
            built_in=config.built_in,
        )
        self.updates = SessionUpdates(config, self.out, uuid)

    def request_due(self, now_seconds: float) -> None:
        """Request the answer that is due."""
        self.answers.request_due(
            now_seconds, caller_speaks=self.memory_writer.speaking, caller_keys=self.digits.is_open
        )

    def barge_in(self) -> None:
        """Cancel the response and drop unheard audio, for a barge-in that the API does not know of."""
        self.answers.cancel()
        self.agent.flush()

    def number(self, value: object, most: float) -> float | None:
        """Return a number of the API from 0 to `most`; count another value, and return None."""
        number = number_within(value, 0, most)
        if number is None:
            self.out.report(Metric.UPSTREAM_ERROR, label=BadInput.EVENT)
        return number

    def is_quiet(self, now_seconds: float) -> bool:
        """Return whether this is a quiet moment: no speech, no owed answer and no pending request."""
        return (
            self.answers.responses.state is SchedulerState.IDLE
            and not self.answers.responses.owes
            and not self.memory_writer.speaking
            and not self.agent.is_heard
            and not self.calls.any_open
            and not self.digits.is_open
            and self.updates.is_settled
            and not self.audio.turns.awaits_text(now_seconds)
        )
