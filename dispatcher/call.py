"""A call's life in the dispatcher, Sans-I/O: events and the time go in, actions come out.

    AWAITING_INIT ──init──▶ PLACING ──pinned, channel──▶ OPENING ──OPENED──▶ CONNECTING ──READY──▶ LIVE
          │                    ▲  │                         │                     │                │
          │                    └──┴────────── REFUSED ──────┘                     │                │
          └───────────────────────┴──────────── any end ──────────────────────────┴────────────────┴──▶ ENDED

The call owns the caller's side: what of the caller's audio waits for the worker, what of the reply waits for
the caller, and the playout clock.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from websockets.typing import BytesLike

from common import link
from common.errors import AvrProtocolError, LinkProtocolError
from common.link import Kind, Outcome, Refusal
from dispatcher import avr
from dispatcher.actions import (
    Action,
    CloseCaller,
    Complain,
    Ended,
    Ending,
    Execute,
    Interrupt,
    LeaveChannel,
    Place,
    Play,
    Report,
    Seen,
    Tell,
    ToWorker,
    Unpin,
)
from dispatcher.playout import PlayoutClock


class State(StrEnum):
    """Where a call is; the value is what `GET /calls` shows."""

    AWAITING_INIT = "awaiting_init"
    PLACING = "placing"
    OPENING = "opening"
    CONNECTING = "connecting"
    LIVE = "live"
    ENDED = "ended"


# Keys that wait for a worker: more than any menu asks for.
MAX_WAITING_DIGITS = 64

# Orders that wait for the last words: a model that gives more contradicts itself.
MAX_WAITING_ORDERS = 8

# Every reason for which a call is ended by what its core sent: the values of a metric's label.
BAD_INPUT_REASONS = (
    "bad_audio",
    "bad_base64",
    "bad_config",
    "bad_digit",
    "bad_http",
    "bad_uuid",
    "bad_websocket",
    "before_init",
    "binary",
    "flood",
    "message_too_big",
    "no_audio",
    "no_init",
    "not_json",
    "not_reading",
    "odd_bytes",
    "second_init",
    "unknown_type",
)


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Bounds of one call.

    Attributes:
        init_seconds: how long a connection may take to say `init`.
        silence_seconds: a caller's connection without one audio message for so long is dead, whatever TCP says.
        stuck_seconds: a core that takes nothing of what waits for it for so long is cut off.
        placing_seconds: from `init` to a worker that has taken the call.
        placing_attempts: workers that are asked at most.
        waiting_bytes: caller's audio that waits for a worker (10 s); above it the oldest is dropped.
        burst_seconds: audio that may come faster than real time at once, after a stall of the network.
        flood_ratio: and the rate, as a multiple of real time, that may go on for ever.
        messages_per_second: of any kind, with a burst of ten seconds' worth.
        order_seconds: an order to hang up or transfer waits so long for the last words to be heard.
        hung_up_seconds: a core that keeps its connection so long after avr-ami has hung up is closed.
    """

    init_seconds: float = 10.0
    silence_seconds: float = 60.0
    stuck_seconds: float = 30.0
    placing_seconds: float = 10.0
    placing_attempts: int = 4
    waiting_bytes: int = 10 * 16_000
    burst_seconds: float = 10.0
    flood_ratio: float = 1.25
    messages_per_second: float = 200.0
    order_seconds: float = 120.0
    hung_up_seconds: float = 3.0


DEFAULT_LIMITS = CallLimits()

# Items whose transcript was sent last: enough to tell one that comes again, after whatever recovery.
MAX_TRANSCRIPTS_KNOWN = 1024


@dataclass(slots=True)
class _Allowance:
    """A token bucket: `used` drains at `rate` a second and may not exceed `burst`."""

    rate: float
    burst: float
    used: float = 0.0
    seen_seconds: float = field(default=0.0)

    def exceeded(self, amount: float, now_seconds: float) -> bool:
        elapsed = max(0.0, now_seconds - self.seen_seconds)
        self.used = max(0.0, self.used - elapsed * self.rate) + amount
        self.seen_seconds = now_seconds
        return self.used > self.burst


class Call:
    """One call. Methods are events; what is to be done collects in `actions`, which the shell takes and clears.

    All times are seconds of one monotonic clock.
    """

    def __init__(self, metadata: dict[str, str], now_seconds: float, limits: CallLimits = DEFAULT_LIMITS) -> None:
        self.state = State.AWAITING_INIT
        self.uuid = ""
        self.metadata = metadata
        self.epoch = 0
        self.pins = 0
        self.worker_id = ""
        self.finished_samples = 0
        self.refused_for_capacity = False
        self.actions: list[Action] = []
        self._limits = limits
        self._opened_seconds = now_seconds
        self._init_seconds = now_seconds
        self._audio_seconds = now_seconds
        self._stuck_since: float | None = None
        self._channel: int | None = None
        self._excluded: set[str] = set()
        self._refusals = 0
        self._audio_allowance = _Allowance(limits.flood_ratio, limits.burst_seconds, 0.0, now_seconds)
        self._message_allowance = _Allowance(
            limits.messages_per_second, 10 * limits.messages_per_second, 0.0, now_seconds
        )
        # Caller → worker
        self._position_samples = 0
        self._credit_bytes = 0
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._waiting_bytes = 0
        self._digits: list[str] = []
        self._provider_config: dict[str, Any] = {}
        # Orders to avr-ami
        self._orders: deque[tuple[link.Order, float]] = deque()
        self._executing = False
        self._hung_up_seconds: float | None = None
        # Worker → caller
        self._clock = PlayoutClock()
        self._playing = False
        self._held: deque[tuple[int, bytes | None]] = deque()  # None: the item has no more
        self._partial = b""
        self._partial_item = 0
        self._paused = False
        self._returned_bytes = 0
        self._given_bytes = 0
        self._greeted = False
        self._transcripts: dict[str, None] = {}  # a set that knows its oldest

    @property
    def paused(self) -> bool:
        """Whether what comes for AVR Core is held because it does not read."""
        return self._paused

    # Events from the caller

    def message(self, data: BytesLike, text: bool, now_seconds: float) -> None:
        """A message of AVR Core has come."""
        if self.state is State.ENDED:
            return
        try:
            if not text:
                raise AvrProtocolError("binary", "binary messages are not part of the protocol: send JSON text")
            if self._message_allowance.exceeded(1, now_seconds):
                raise AvrProtocolError("flood", "messages come faster than any caller can speak")
            message = avr.parse(data)
            if isinstance(message, avr.Audio):
                self._caller_audio(message.pcm, now_seconds)
            elif isinstance(message, avr.Init):
                self._init(message, now_seconds)
            else:
                self._digit(message.digit)
        except AvrProtocolError as error:
            self.broke_protocol(error.reason, str(error))

    def began(self, uuid: str, now_seconds: float) -> None:
        """The older protocol has said which call it is."""
        try:
            self._init(avr.checked_init(uuid), now_seconds)
        except AvrProtocolError as error:
            self.broke_protocol(error.reason, str(error))

    def audio(self, pcm: bytes, now_seconds: float) -> None:
        """Caller's audio has come by the older protocol: PCM16 at 8 kHz, whole samples."""
        if self.state is State.ENDED:
            return
        try:
            self._caller_audio(pcm, now_seconds)
        except AvrProtocolError as error:
            self.broke_protocol(error.reason, str(error))

    def broke_protocol(self, reason: str, message: str) -> None:
        """AVR Core broke the protocol: this call ends, and no other."""
        if self.state is State.ENDED:
            return
        self._report(Seen.BAD_INPUT, label=reason)
        self._end(Ending.REJECTED if not self.pins else Ending.FAILED, 1008, message)

    def caller_closed(self, code: int) -> None:
        """The caller's connection is gone: cleanly (1000, 1001, 1005), or lost."""
        reason = f"the caller's connection closed with {code}"
        if self.state is State.AWAITING_INIT:
            self._finish(Ending.REJECTED, f"{reason} before init")
        else:
            clean = code in (1000, 1001, 1005)
            self._finish(Ending.COMPLETED if clean else Ending.FAILED, reason)

    def caller_paused(self, now_seconds: float) -> None:
        """AVR Core does not read: hold what comes for it."""
        self._paused = True
        self._stuck_since = now_seconds

    def caller_writable(self, now_seconds: float) -> None:
        """AVR Core reads again."""
        self._paused = False
        self._stuck_since = None
        while self._held:
            item, pcm = self._held.popleft()
            if pcm is None:
                self._pad(item, now_seconds)
            else:
                self._to_caller(item, pcm, now_seconds)
        self._return_credit()

    def superseded(self) -> None:
        """Another connection with the same uuid has the call now."""
        self._end(Ending.FAILED, 1008, "another connection with the same uuid has taken this call over")

    def stopped(self, reason: str) -> None:
        """This process ends and cannot wait for the call any longer."""
        self._end(Ending.FAILED, 1011, reason)

    # Events from placement and the link

    def placed(self, worker_id: str, epoch: int, channel: int, pins: int, now_seconds: float) -> None:
        """The call is pinned to a worker, and there is a channel to it."""
        self._expect("placed", State.PLACING)
        self.worker_id, self.epoch, self.pins, self._channel = worker_id, epoch, pins, channel
        self.state = State.OPENING
        self._given_bytes, self._returned_bytes = link.REPLY_CREDIT_BYTES, 0
        opening = link.Open(
            uuid=self.uuid,
            epoch=epoch,
            metadata=self.metadata,
            position_samples=self._waiting[0][0] if self._waiting else self._position_samples,
            credit_bytes=link.REPLY_CREDIT_BYTES,
            age_seconds=now_seconds - self._init_seconds,
            provider_config=self._provider_config,
        )
        self._to_worker(link.encode(opening, channel))

    def not_placed(self, code: int, message: str) -> None:
        """No worker can take the call (1013), or none could be asked (1011)."""
        self._expect("not_placed", State.PLACING)
        self._end(Ending.REJECTED if code == 1013 else Ending.FAILED, code, message)

    def record(self, kind: int, payload: memoryview, now_seconds: float) -> None:
        """A record has come on the call's channel.

        Raises:
            LinkProtocolError: it cannot be understood.
        """
        if self._channel is None:
            return
        match kind:
            case Kind.REPLY_AUDIO:
                index, pcm = link.decode_reply_audio(payload)
                self._reply_audio(index, bytes(pcm), now_seconds)
            case Kind.CREDIT:
                self._credit_bytes += link.decode_credit(payload)
                self._send_waiting()
            case Kind.REPLY_ITEM_DONE:
                self._reply_done(link.decode_control(link.ReplyItemDone, payload).index, now_seconds)
            case Kind.FLUSH:
                self._flush(link.decode_control(link.Flush, payload).number, now_seconds)
            case Kind.TRANSCRIPT:
                self._transcript(link.decode_control(link.Transcript, payload))
            case Kind.ORDER:
                if len(self._orders) < MAX_WAITING_ORDERS:
                    self._orders.append((link.decode_control(link.Order, payload), now_seconds))
            case Kind.FINISHED:
                self.finished_samples = link.decode_control(link.Finished, payload).position_samples
            case Kind.OPENED:
                self._expect("OPENED", State.OPENING)
                self.state = State.CONNECTING
                self._credit_bytes = link.decode_control(link.Opened, payload).credit_bytes
                self._send_waiting()
                for digit in self._digits:
                    self._to_worker(link.encode(link.Dtmf(digit), self._channel))
                self._digits.clear()
            case Kind.REFUSED:
                self._refused(link.decode_control(link.Refused, payload))
            case Kind.READY:
                self._expect("READY", State.CONNECTING)
                self.state = State.LIVE
            case Kind.ENDED:
                self._worker_ended(link.decode_control(link.Ended, payload))
            case _:
                # REPLY_ITEM is for who takes the call over; kinds of a newer release are skipped.
                pass

    def worker_lost(self) -> None:
        """The link to the call's worker is gone."""
        if self._channel is not None:
            self._channel = None
            self._end(Ending.FAILED, 1011, f"the worker process of this call ({self.worker_id}) was lost")

    # Time

    def tick(self, now_seconds: float) -> None:
        """Look at the clocks; meant to be called every 200 ms."""
        if self.state is State.ENDED:
            return
        limits = self._limits
        if self._playing and self._channel is not None:
            items, idle = self._clock.progress(now_seconds)
            heard = tuple(link.ItemHeard(item, samples) for item, samples in items)
            self._to_worker(link.encode(link.Playout(heard, idle), self._channel))
            self._playing = not idle
        self._execute_order(now_seconds)
        if self._hung_up_seconds is not None and now_seconds - self._hung_up_seconds >= limits.hung_up_seconds:
            self._end(Ending.COMPLETED, 1000, "")
        elif self.state is State.AWAITING_INIT:
            if now_seconds - self._opened_seconds >= limits.init_seconds:
                self.broke_protocol("no_init", f"no init within {limits.init_seconds:g} s")
        elif now_seconds - self._audio_seconds >= limits.silence_seconds:
            self.broke_protocol("no_audio", f"no audio from the caller for {limits.silence_seconds:g} s")
        elif self._stuck_since is not None and now_seconds - self._stuck_since >= limits.stuck_seconds:
            self.broke_protocol("not_reading", f"AVR Core has read nothing for {limits.stuck_seconds:g} s")
        elif (
            self.state in (State.PLACING, State.OPENING)
            and now_seconds - self._init_seconds >= limits.placing_seconds
        ):
            self._end(Ending.FAILED, 1011, f"no worker took the call within {limits.placing_seconds:g} s")

    # Orders

    def _execute_order(self, now_seconds: float) -> None:
        """Carry out the oldest order when the last words have been heard, one after the other."""
        if not self._orders or self._executing:
            return
        order, since_seconds = self._orders[0]
        heard = not self._held and not self._partial and self._clock.end_seconds <= now_seconds
        if heard or now_seconds - since_seconds >= self._limits.order_seconds:
            self._orders.popleft()
            self._executing = True
            self.actions.append(Execute(order))

    def executed(self, order: link.Order, ok: bool, message: str, now_seconds: float) -> None:
        """What avr-ami made of an order."""
        self._executing = False
        if self.state is State.ENDED:
            return
        if self._channel is not None:
            self._to_worker(link.encode(link.OrderDone(order.number, ok, message), self._channel))
        if order.action == link.OrderAction.HANG_UP:
            if ok:
                # AVR Core closes when Asterisk has hung up.
                self._hung_up_seconds = now_seconds
            else:
                # Without avr-ami, the end of the connection is the end of the call.
                self._end(Ending.COMPLETED, 1000, "")

    # The caller's side

    def _init(self, init: avr.Init, now_seconds: float) -> None:
        if self.state is not State.AWAITING_INIT:
            raise AvrProtocolError("second_init", "a second init in the same connection")
        self.uuid = init.uuid
        self._provider_config = init.provider_config
        self._init_seconds = self._audio_seconds = now_seconds
        self.place()

    def place(self, epoch: int = 1) -> None:
        """Ask for a worker, at this epoch at least."""
        self.state = State.PLACING
        self.actions.append(Place(epoch, frozenset(self._excluded)))

    def _caller_audio(self, pcm: bytes, now_seconds: float) -> None:
        if self.state is State.AWAITING_INIT:
            raise AvrProtocolError("before_init", "audio before init")
        samples = len(pcm) // 2
        if self._audio_allowance.exceeded(samples / avr.SAMPLE_RATE_HZ, now_seconds):
            raise AvrProtocolError("flood", "audio comes much faster than real time")
        if not pcm:
            return
        self._audio_seconds = now_seconds
        position, self._position_samples = self._position_samples, self._position_samples + samples
        if self._credit_bytes >= len(pcm) and not self._waiting and self._channel is not None:
            self._credit_bytes -= len(pcm)
            self._to_worker(link.encode_caller_audio(self._channel, position, pcm))
            return
        self._waiting.append((position, pcm))
        self._waiting_bytes += len(pcm)
        self._send_waiting()
        while self._waiting_bytes > self._limits.waiting_bytes:
            dropped = len(self._waiting.popleft()[1])
            self._waiting_bytes -= dropped
            self._report(Seen.CALLER_AUDIO_DROPPED_SECONDS, dropped / 2 / avr.SAMPLE_RATE_HZ)

    def _send_waiting(self) -> None:
        while self._waiting and self._channel is not None:
            position, pcm = self._waiting[0]
            # A message may be longer than the whole window.
            size = min(len(pcm), self._credit_bytes // 2 * 2)
            if size == 0:
                return
            if size < len(pcm):
                self._waiting[0] = (position + size // 2, pcm[size:])
            else:
                self._waiting.popleft()
            self._waiting_bytes -= size
            self._credit_bytes -= size
            self._to_worker(link.encode_caller_audio(self._channel, position, pcm[:size]))

    def _digit(self, digit: str) -> None:
        if self.state is State.AWAITING_INIT:
            raise AvrProtocolError("before_init", "dtmf_digit before init")
        self._report(Seen.DIGIT)
        if self._channel is not None and self.state in (State.CONNECTING, State.LIVE):
            self._to_worker(link.encode(link.Dtmf(digit), self._channel))
        elif len(self._digits) < MAX_WAITING_DIGITS:
            self._digits.append(digit)

    # The worker's side

    def _refused(self, refused: link.Refused) -> None:
        self._expect("REFUSED", State.OPENING)
        self._leave_channel()
        if refused.reason != Refusal.STALE_EPOCH:
            self._excluded.add(self.worker_id)
        self.refused_for_capacity = refused.reason in (Refusal.FULL, Refusal.DRAINING)
        self._refusals += 1
        if self._refusals >= self._limits.placing_attempts:
            self._end(
                Ending.REJECTED if self.refused_for_capacity else Ending.FAILED,
                1013 if self.refused_for_capacity else 1011,
                f"{self._refusals} workers refused the call, the last because it is {refused.reason}",
            )
        else:
            self.place(max(self.epoch, refused.epoch) + 1)

    def _worker_ended(self, ended: link.Ended) -> None:
        self._leave_channel()
        if ended.outcome == Outcome.COMPLETED:
            self._end(Ending.COMPLETED, 1000, "")
        else:
            self._end(Ending.FAILED, 1011, ended.message or "the call failed")

    def _reply_audio(self, item: int, pcm: bytes, now_seconds: float) -> None:
        self._given_bytes -= len(pcm)
        if self._given_bytes < 0:
            raise LinkProtocolError(f"{-self._given_bytes} bytes of reply audio more than there was credit for")
        if not pcm:
            return
        if self._paused or self._held:
            # Bounded by the credit: what is held has not been given back.
            self._held.append((item, pcm))
        else:
            self._to_caller(item, pcm, now_seconds)
            self._return_credit()

    def _to_caller(self, item: int, pcm: bytes, now_seconds: float) -> None:
        """Cut into frames; an incomplete one waits for the item's next samples or its end."""
        if self._partial_item != item:
            self._pad(self._partial_item, now_seconds)
        self._returned_bytes += len(pcm)
        data = self._partial + pcm if self._partial else pcm
        whole = len(data) - len(data) % avr.FRAME_BYTES
        for offset in range(0, whole, avr.FRAME_BYTES):
            self.actions.append(Play(data[offset : offset + avr.FRAME_BYTES]))
        self._partial, self._partial_item = data[whole:], item
        if whole:
            self._played(item, whole // 2, 0, now_seconds)

    def _reply_done(self, item: int, now_seconds: float) -> None:
        if self._held:
            self._held.append((item, None))
        else:
            self._pad(item, now_seconds)

    def _pad(self, item: int, now_seconds: float) -> None:
        """Fill up the last frame of an item with silence."""
        if not self._partial or self._partial_item != item:
            return
        samples = len(self._partial) // 2
        frame = self._partial.ljust(avr.FRAME_BYTES, b"\0")
        self._partial = b""
        self.actions.append(Play(frame))
        self._played(item, samples, avr.FRAME_SAMPLES - samples, now_seconds)

    def _played(self, item: int, samples: int, padding: int, now_seconds: float) -> None:
        self._clock.sent(item, samples, now_seconds, padding=padding)
        self._playing = True
        if not self._greeted:
            self._greeted = True
            self._report(Seen.GREETING_SECONDS, now_seconds - self._init_seconds)

    def _flush(self, number: int, now_seconds: float) -> None:
        unsent = [self._partial_item] if self._partial else []
        unsent += [item for item, pcm in self._held if pcm is not None]
        self._returned_bytes += sum(len(pcm) for _, pcm in self._held if pcm is not None)
        self._held.clear()
        self._partial = b""
        self._playing = False
        cut = self._clock.cut(now_seconds, unsent)
        if cut:
            self.actions.append(Interrupt())
            self._report(Seen.INTERRUPTION)
        assert self._channel is not None
        items = tuple(link.ItemHeard(item, samples) for item, samples in cut)
        self._to_worker(link.encode(link.Heard(number, items), self._channel))
        self._return_credit()

    def _transcript(self, transcript: link.Transcript) -> None:
        if transcript.item_id not in self._transcripts:
            self._transcripts[transcript.item_id] = None
            if len(self._transcripts) > MAX_TRANSCRIPTS_KNOWN:
                del self._transcripts[next(iter(self._transcripts))]
            self.actions.append(Tell(transcript.role, transcript.text))

    def _return_credit(self) -> None:
        if self._returned_bytes >= link.CREDIT_STEP_BYTES and self._channel is not None:
            self._to_worker(link.encode_credit(self._channel, self._returned_bytes))
            self._given_bytes += self._returned_bytes
            self._returned_bytes = 0

    # Ends

    def _end(self, ending: Ending, code: int, message: str) -> None:
        if self.state is State.ENDED:
            return
        if message:
            self.actions.append(Complain(message))
        self.actions.append(CloseCaller(code, message))
        self._finish(ending, message)

    def _finish(self, ending: Ending, reason: str) -> None:
        if self.state is State.ENDED:
            return
        if self._channel is not None:
            self._to_worker(link.encode(link.Close(reason), self._channel))
            self._leave_channel()
        if self.epoch:
            self.actions.append(Unpin(self.epoch))
        self.state = State.ENDED
        self._waiting.clear()
        self._held.clear()
        self.actions.append(Ended(ending, reason))

    def _leave_channel(self) -> None:
        if self._channel is not None:
            self._channel = None
            self.actions.append(LeaveChannel())

    def _to_worker(self, record: bytes) -> None:
        self.actions.append(ToWorker(record))

    def _report(self, seen: Seen, value: float = 1.0, label: str = "") -> None:
        self.actions.append(Report(seen, value, label))

    def _expect(self, event: str, *states: State) -> None:
        if self.state not in states:
            raise LinkProtocolError(f"{event} in state {self.state}")
