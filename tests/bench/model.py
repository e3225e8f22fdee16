"""The Realtime API of the benchmarks, in its own process.

It only checks that appended audio is the caller's, and notes the time at which it came. It speaks half of the
time, with the API's events around that. The caller's turn is committed and transcribed; the reply has items,
parts, words and a `response.done` with tokens. All events are made in advance, except for their ids.

`python -m tests.bench.model pcm|pcmu [CERTIFICATE]` prints its port and, when stdin ends, its report.
"""

from __future__ import annotations

import asyncio
import binascii
import random
import socket
import ssl
import sys
import time
from typing import Any

import orjson
import uvloop

from tests.bench import sound
from tests.bench.frames import CLOSE, PING, PONG, TEXT, FrameReader, server_frame, upgrade_answer

NAME = "benchmark call "
APPEND_HEAD = b'{"type":"input_audio_buffer.append","audio":"'
APPEND_TAIL = b'"}'

REPLY_SECONDS = sound.REPLY_MS / 1000
DELTA_PAUSE_SECONDS = sound.DELTA_MS / 1000 / 5
FIRST_AUDIO_SECONDS = 0.3
# The caller's acts between the end of a reply and the start of the next.
SPEECH_STARTED_SECONDS = REPLY_SECONDS + 0.2
SPEECH_STOPPED_SECONDS = 2 * REPLY_SECONDS - FIRST_AUDIO_SECONDS
TRANSCRIBED_SECONDS = 0.4
WORDS = 8
DELTAS_PER_WORD = sound.DELTAS // WORDS


class Model:
    """State shared by all sessions."""

    def __init__(self, audio_format: str) -> None:
        self.audio_format = audio_format
        self.sessions: list[Session] = []
        self.cpu_began = time.process_time()
        # Made before the clocks run.
        for call in range(sound.LOOP_FRAMES):
            sound.appended(audio_format, call)
        for voice in range(sound.VOICES):
            sound.deltas(audio_format, voice)

    def report(self) -> bytes:
        """Return the results of all calls, as JSON."""
        return orjson.dumps([session.report() for session in self.sessions if session.call >= 0])


class Session(asyncio.Protocol):
    """One session."""

    def __init__(self, model: Model) -> None:
        self.call = -1
        self._model = model
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._request: bytes | None = b""
        self._reader = FrameReader(self._frame)
        self._random = random.Random()
        self._timers: list[asyncio.TimerHandle] = []
        # Caller → model
        self._configured_seconds = 0.0
        self._expected: sound.Appended | None = None
        self._position = 0
        self._next_timed = 0
        self._arrived: list[float] = []
        self._appends = 0
        self._broken = 0
        # Model → caller
        self._deltas: tuple[bytes, ...] = ()
        self._replies = 0
        self._turns = 0
        self._sent: list[float] = []

    def report(self) -> dict[str, Any]:
        """Return the result in JSON's types; times are seconds of the machine's monotonic clock."""
        return {
            "call": self.call,
            "configured_seconds": self._configured_seconds,
            "arrived_seconds": self._arrived,
            "sent_seconds": self._sent,
            "frames": self._position // self._expected.frame_bytes if self._expected else 0,
            "appends": self._appends,
            "broken": self._broken,
        }

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # TCP or TLS: a stream either way
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        if self._request is None:
            self._reader.feed(data)
            return
        self._request += data
        if b"\r\n\r\n" in self._request:
            self._write(upgrade_answer(self._request))
            self._request = None
            self._emit(b'{"type":"session.created","event_id":"event_0","session":{"type":"realtime"}}')

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for timer in self._timers:
            timer.cancel()

    # Caller → model

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT and payload.startswith(APPEND_HEAD):
            self._append(payload)
        elif opcode == TEXT:
            self._event(orjson.loads(payload))
        elif opcode == PING:
            self._write(server_frame(payload, PONG))
        elif opcode == CLOSE and self._transport is not None:
            self._write(server_frame(payload, CLOSE))
            self._transport.close()

    def _append(self, payload: bytes) -> None:
        expected = self._expected
        if expected is None:
            self._broken += 1
            return
        data = binascii.a2b_base64(payload[len(APPEND_HEAD) : -len(APPEND_TAIL)])
        if not expected.matches(self._position, data):
            self._broken += 1
        self._appends += 1
        self._position += len(data)
        while self._position > self._next_timed * expected.frame_bytes:
            self._arrived.append(time.monotonic())
            self._next_timed += sound.TIMED_EVERY_FRAMES

    def _event(self, event: dict[str, Any]) -> None:
        if event["type"] == "session.update":
            if self.call < 0:
                self._configured_seconds = time.monotonic()
                self._begin(event["session"]["instructions"])
            updated = {"type": "session.updated", "event_id": "event_1", "session": event["session"]}
            self._emit(orjson.dumps(updated))
        elif event["type"] == "response.create" and not self._replies:
            self._begin_reply()

    def _begin(self, instructions: str) -> None:
        self.call = int(instructions.partition(NAME)[2])
        self._random.seed(self.call)
        self._expected = sound.appended(self._model.audio_format, self.call)
        self._deltas = sound.deltas(self._model.audio_format, self.call % sound.VOICES)
        self._model.sessions.append(self)

    # Model → caller

    def _begin_reply(self) -> None:
        self._replies += 1
        number = self._replies
        self._emit(
            b'{"type":"response.created","event_id":"event_c%d","response":{"object":"realtime.response",'
            b'"id":"resp_%d","status":"in_progress","status_details":null,"output":[],"usage":null}}'
            % (number, number)
        )
        self._after(FIRST_AUDIO_SECONDS / 2, self._announce, number)

    def _announce(self, number: int) -> None:
        item = (
            b'{"id":"item_r%d","object":"realtime.item","type":"message","status":"in_progress",'
            b'"role":"assistant","content":[]}' % number
        )
        self._emit(
            b'{"type":"response.output_item.added","event_id":"event_a%d","response_id":"resp_%d",'
            b'"output_index":0,"item":%b}' % (number, number, item),
            b'{"type":"conversation.item.added","event_id":"event_b%d","previous_item_id":null,"item":%b}'
            % (number, item),
            b'{"type":"response.content_part.added","event_id":"event_p%d",%b,'
            b'"part":{"type":"audio","transcript":""}}' % (number, _place(number)),
        )
        began = self._loop.time() + FIRST_AUDIO_SECONDS / 2
        self._timers.append(self._loop.call_at(began, self._delta, number, 0, began))

    def _delta(self, number: int, index: int, began: float) -> None:
        place = _place(number)
        if index % DELTAS_PER_WORD == 0:
            self._emit(
                b'{"type":"response.output_audio_transcript.delta","event_id":"event_t%d_%d",%b,"delta":" word%d"}'
                % (number, index, place, index // DELTAS_PER_WORD)
            )
        self._sent.append(time.monotonic())
        self._emit(
            b'{"type":"response.output_audio.delta","event_id":"event_d%d_%d",%b,"delta":"%b"}'
            % (number, index, place, self._deltas[index])
        )
        index += 1
        if index < sound.DELTAS:
            due = began + index * DELTA_PAUSE_SECONDS
            self._timers[-1] = self._loop.call_at(due, self._delta, number, index, began)
        else:
            self._finish(number, began)

    def _finish(self, number: int, began: float) -> None:
        text = b" ".join(b"word%d" % word for word in range(WORDS))
        place = _place(number)
        item = (
            b'{"id":"item_r%d","object":"realtime.item","type":"message","status":"completed","role":"assistant",'
            b'"content":[{"type":"output_audio","transcript":"%b"}]}' % (number, text)
        )
        self._emit(
            b'{"type":"response.output_audio.done","event_id":"event_e%d",%b}' % (number, place),
            b'{"type":"response.output_audio_transcript.done","event_id":"event_f%d",%b,"transcript":"%b"}'
            % (number, place, text),
            b'{"type":"response.content_part.done","event_id":"event_g%d",%b,'
            b'"part":{"type":"audio","transcript":"%b"}}' % (number, place, text),
            b'{"type":"conversation.item.done","event_id":"event_h%d","previous_item_id":null,"item":%b}'
            % (number, item),
            b'{"type":"response.output_item.done","event_id":"event_i%d","response_id":"resp_%d",'
            b'"output_index":0,"item":%b}' % (number, number, item),
            b'{"type":"response.done","event_id":"event_j%d","response":{"object":"realtime.response",'
            b'"id":"resp_%d","status":"completed","status_details":null,"output":[%b],"usage":%b}}'
            % (number, number, item, _USAGE),
        )
        self._timers.clear()
        # After the greeting, sessions of calls that began together drift apart.
        apart = self._random.uniform(0.0, 2 * REPLY_SECONDS) if number == 1 else 0.0
        now = self._loop.time()
        self._after(began + SPEECH_STARTED_SECONDS + apart - now, self._speech_started)
        self._after(began + SPEECH_STOPPED_SECONDS + apart - now, self._speech_stopped)

    def _speech_started(self) -> None:
        self._turns += 1
        self._emit(
            b'{"type":"input_audio_buffer.speech_started","event_id":"event_s%d","audio_start_ms":0,'
            b'"item_id":"item_u%d"}' % (self._turns, self._turns)
        )

    def _speech_stopped(self) -> None:
        turn = self._turns
        item = (
            b'{"id":"item_u%d","object":"realtime.item","type":"message","status":"completed","role":"user",'
            b'"content":[{"type":"input_audio","transcript":null}]}' % turn
        )
        self._emit(
            b'{"type":"input_audio_buffer.speech_stopped","event_id":"event_k%d","audio_end_ms":1000,'
            b'"item_id":"item_u%d"}' % (turn, turn),
            b'{"type":"input_audio_buffer.committed","event_id":"event_l%d","previous_item_id":null,'
            b'"item_id":"item_u%d"}' % (turn, turn),
            b'{"type":"conversation.item.added","event_id":"event_m%d","previous_item_id":null,"item":%b}'
            % (turn, item),
            b'{"type":"conversation.item.done","event_id":"event_n%d","previous_item_id":null,"item":%b}'
            % (turn, item),
        )
        self._begin_reply()
        self._after(TRANSCRIBED_SECONDS, self._transcribed, turn)

    def _transcribed(self, turn: int) -> None:
        self._emit(
            b'{"type":"conversation.item.input_audio_transcription.completed","event_id":"event_o%d",'
            b'"item_id":"item_u%d","content_index":0,"transcript":"something that a caller says",'
            b'"usage":{"type":"tokens","total_tokens":20,"input_tokens":14,"output_tokens":6}}' % (turn, turn)
        )

    def _after(self, seconds: float, callback: Any, *arguments: Any) -> None:
        self._timers.append(self._loop.call_later(max(0.0, seconds), callback, *arguments))

    def _emit(self, *events: bytes) -> None:
        self._write(b"".join(map(server_frame, events)))

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


def _place(number: int) -> bytes:
    return b'"response_id":"resp_%d","item_id":"item_r%d","output_index":0,"content_index":0' % (number, number)


_USAGE = orjson.dumps(
    {
        "total_tokens": 196,
        "input_tokens": 132,
        "output_tokens": 64,
        "input_token_details": {
            "text_tokens": 119,
            "audio_tokens": 13,
            "image_tokens": 0,
            "cached_tokens": 64,
            "cached_tokens_details": {"text_tokens": 64, "audio_tokens": 0, "image_tokens": 0},
        },
        "output_token_details": {"text_tokens": 30, "audio_tokens": 34},
    }
)


async def _serve(audio_format: str, certificate: str | None) -> None:
    model = Model(audio_format)
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Session(model), "127.0.0.1", 0, ssl=context, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)
    sys.stdout.buffer.write(model.report())
    server.close()


def main() -> None:
    """Serve until stdin ends."""
    audio_format, *certificate = sys.argv[1:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(audio_format, certificate[0] if certificate else None))


if __name__ == "__main__":
    main()
