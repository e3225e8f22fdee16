"""A dispatcher's link at the worker's end: it distributes records to the calls by channel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol as Interface

import structlog

from common.errors import LinkProtocolError
from common.link import wire
from common.link.link_end import LinkEnd
from common.link.wire import Hello, Kind, Refusal
from common.net.tokens import Token
from common.observe.line_limit import LineLimit, shown
from worker.audio.resample import prepare
from worker.runner.session_runner import SessionRunner

log = structlog.get_logger()

# Records that the worker takes, and no call.
_TO_THE_WORKER: dict[int, type[wire.Command | wire.Open | wire.Attach]] = {
    Kind.COMMAND: wire.Command,
    Kind.OPEN: wire.Open,
    Kind.ATTACH: wire.Attach,
}


class LinkOwner(Interface):
    """The worker that has the calls of a link."""

    def take(self, opening: wire.Open, channel: int, dispatcher: DispatcherLink) -> SessionRunner | wire.Refused:
        """Take a call, or say why not."""

    def resume(self, attach: wire.Attach, dispatcher: DispatcherLink) -> SessionRunner | None:
        """Return the session of this call and epoch, and give it this link; None: it does not exist."""

    def command(self, command: wire.Command, send: Callable[[bytes], None]) -> None:
        """Carry out a command of the calls API."""

    def link_lost(self, lost: DispatcherLink) -> None:
        """Forget a link."""


class DispatcherLink:
    """A dispatcher's link at the worker's end, with its calls by channel."""

    def __init__(self, worker: LinkOwner, hello: Hello, token: Token | None, lines: LineLimit) -> None:
        self.end = LinkEnd(hello, self, token, lines)
        self._worker = worker
        self._is_up = False
        self._dispatcher = ""
        self._calls: dict[int, SessionRunner] = {}
        # Caller's audio that came together is resampled together; by channel: position, PCM16, when it was read.
        self._heard: dict[int, tuple[SessionRunner, int, bytes, float]] = {}

    def greeted(self, hello: Hello) -> None:
        """Take the name and the release of the dispatcher."""
        self._is_up = True
        self._dispatcher = shown(hello.id)
        log.info("link up", dispatcher=self._dispatcher, release=shown(hello.release))

    def record(self, kind: int, channel: int, payload: memoryview, received_seconds: float) -> None:
        """Hand a record to its call; OPEN begins one."""
        if channel in self._heard:
            # Audio that came before the record is handed on before it.
            self.caught_up()
        call = self._calls.get(channel)
        if call is not None and kind not in _TO_THE_WORKER:
            self._hand_on(call, kind, channel, payload, received_seconds)
        elif kind in _TO_THE_WORKER:
            self._for_the_worker(kind, channel, payload)
        # Otherwise the call ended here while the record was on its way.

    def _for_the_worker(self, kind: int, channel: int, payload: memoryview) -> None:
        try:
            record = wire.decode_control(_TO_THE_WORKER[kind], payload)
        except LinkProtocolError as error:
            # The framing of the link is valid, so its other calls continue.
            log.warning("record not understood", dispatcher=self._dispatcher, kind=kind, reason=str(error))
            if kind != Kind.COMMAND:
                self.end.send(wire.encode(wire.Refused(Refusal.INVALID), channel))
            return
        if isinstance(record, wire.Command):
            self._worker.command(record, self.end.send)
        elif isinstance(record, wire.Open):
            self._open(channel, record)
        else:
            self._attach(channel, record)

    def caught_up(self) -> None:
        """Hand on the callers' audio that came."""
        heard, self._heard = self._heard, {}
        if len(heard) > 1:
            each = [(call.upsampler, pcm) for call, _, pcm, _ in heard.values()]
            prepare([(upsampler, pcm) for upsampler, pcm in each if upsampler is not None])
        for call, position_samples, pcm, received_seconds in heard.values():
            try:
                call.caller_audio(position_samples, pcm, received_seconds)
            except Exception:
                stop_failed(call, "a caller's audio could not be handled")

    def _hand_on(
        self, call: SessionRunner, kind: int, channel: int, payload: memoryview, received_seconds: float
    ) -> None:
        try:
            if kind == Kind.CALLER_AUDIO:
                position_samples, pcm = wire.decode_caller_audio(payload)
                self._heard[channel] = (call, position_samples, bytes(pcm), received_seconds)
            elif kind == Kind.CLOSE and wire.decode_control(wire.Close, payload).keep:
                self.leave(call)
                call.detached()
            else:
                call.record(kind, payload)
        except LinkProtocolError as error:
            # The framing of the link is valid, so its other calls continue.
            log.warning("record not understood", uuid=call.uuid, kind=kind, reason=str(error))
            call.stop(f"the dispatcher sent a record that the worker does not understand: {error}")
        except Exception:
            stop_failed(call, "a record could not be handled", kind=kind)

    def lost(self, reason: str) -> None:
        """Detach the calls of a link that is gone: another link, or another dispatcher, may come for them."""
        self.caught_up()
        if self._is_up:
            log.info("link lost", dispatcher=self._dispatcher, reason=shown(reason), calls=len(self._calls))
        self._worker.link_lost(self)
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.detached()

    def leave(self, call: SessionRunner) -> None:
        """Forget a call that has ended, or that has another link."""
        self._calls = {channel: other for channel, other in self._calls.items() if other is not call}

    def _open(self, channel: int, opening: wire.Open) -> None:
        if channel in self._calls or not opening.uuid:
            raise LinkProtocolError(f"OPEN without a uuid, or on channel {channel} that is in use")
        taken = self._worker.take(opening, channel, self)
        if isinstance(taken, wire.Refused):
            self.end.send(wire.encode(taken, channel))
        elif not taken.has_ended:
            self._calls[channel] = taken

    def _attach(self, channel: int, attach: wire.Attach) -> None:
        call = self._worker.resume(attach, self)
        if call is None:
            self.end.send(wire.encode(wire.Refused(Refusal.UNKNOWN), channel))
            return
        self._calls[channel] = call
        try:
            call.resume(attach, self.end.send)
        except LinkProtocolError as error:
            # The framing of the link is valid, so its other calls continue.
            log.warning("channel not resumed", uuid=call.uuid, reason=str(error))
            call.stop(f"the dispatcher has other records than the worker: {error}")
        except Exception:
            stop_failed(call, "channel not resumed")


def stop_failed(call: SessionRunner, what: str, **details: object) -> None:
    """Stop one call after a fault of this service; the other calls of its link continue."""
    log.exception(what, uuid=call.uuid, **details)
    call.stop("internal error")
