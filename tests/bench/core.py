"""AVR Core for the benchmarks: many calls in one process, each with a frame every 20 ms at its own phase.

One thread sends by the clock, and one receives. Frames are masked and encoded in advance. Received frames are
compared with the model's audio one by one, and timed.

`python -m tests.bench.core` reads one JSON object (`Workload`) from a line of stdin, and prints `up` when all
calls are up. When stdin ends, it hangs up and prints its report.
"""

from __future__ import annotations

import heapq
import random
import select
import socket
import sys
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any

import orjson

from dispatcher.avr import protocol
from tests.bench import sound
from tests.bench.frames import CLOSE, PING, PONG, TEXT, FrameReader, client_frame, upgrade_request

RECEIVE_BYTES = 256 * 1024
CLOSE_FRAME = client_frame(b"\x03\xe8", CLOSE)
HANG_UP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Workload:
    """The calls to place.

    Attributes:
        port: port of the dispatchers.
        calls: number of calls.
        calls_per_second: rate at which they start.
        call_seconds: length of each call; 0: until the end.
        audio_format: audio format of the API, which determines the expected audio.
        surplus: calls beyond these at the same rate, which must be refused.
        surplus_after_seconds: time after the start of the others at which the surplus starts.
    """

    port: int
    calls: int
    calls_per_second: float
    call_seconds: float
    audio_format: str
    surplus: int = 0
    surplus_after_seconds: float = 0.0


class Call:
    """One call: its socket, its next frame, and the audio it has heard."""

    def __init__(self, number: int, orders: Workload) -> None:
        self.number = number
        self.is_over = False
        self.frames = [client_frame(protocol.audio(pcm)) for pcm in sound.caller_frames(number)]
        self.next_frame = 0
        self.ends_seconds = float("inf")
        self.init_seconds = 0.0
        self.said_seconds: list[float] = []
        self.heard_seconds: list[float] = []
        self.stalls = 0
        self.heard_frames = 0
        self.broken = 0
        self.errors: list[str] = []
        self.close_code: int | None = None
        self.closed_seconds = 0.0
        self._hung_up = False
        self._expected = sound.heard(orders.audio_format, number % sound.VOICES)
        self._next_heard = 0
        self._received_seconds = 0.0
        self._answer: bytes | None = b""
        self._reader = FrameReader(self._frame)
        self.sock = socket.create_connection(("127.0.0.1", orders.port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(upgrade_request(f"127.0.0.1:{orders.port}", f"/?from={number}"))

    def report(self) -> dict[str, Any]:
        """Return the result in JSON's types; times are seconds of the machine's monotonic clock."""
        return {
            "call": self.number,
            "init_seconds": self.init_seconds,
            "said_seconds": self.said_seconds,
            "heard_seconds": self.heard_seconds,
            "frames": self.next_frame,
            "heard_frames": self.heard_frames,
            "replies": self.heard_frames // len(self._expected),
            "broken": self.broken,
            "stalls": self.stalls,
            "errors": self.errors,
            "close_code": self.close_code,
            "closed_seconds": self.closed_seconds,
        }

    def say(self) -> None:
        """Send the next frame."""
        timed = self.next_frame % sound.TIMED_EVERY_FRAMES == 0
        if timed:
            self.said_seconds.append(time.monotonic())
        frame = self.frames[self.next_frame % sound.LOOP_FRAMES]
        try:
            sent = self.sock.send(frame, socket.MSG_DONTWAIT)
        except BlockingIOError:
            # The service does not read. A real caller's frame would be lost; this one is late.
            self.stalls += 1
            if timed:
                self.said_seconds.pop()
            return
        if sent < len(frame):
            self.sock.sendall(frame[sent:])
        self.next_frame += 1

    def hang_up(self) -> None:
        """Close as AVR Core does at a hang-up."""
        self._hung_up = True
        self.sock.sendall(CLOSE_FRAME)

    def receive(self, data: bytes) -> bool:
        """Take bytes of the service; return True if the call has just begun."""
        self._received_seconds = time.monotonic()
        if self._answer is None:
            self._reader.feed(data)
            return False
        self._answer += data
        head, end, rest = self._answer.partition(b"\r\n\r\n")
        if not end:
            return False
        if not head.startswith(b"HTTP/1.1 101 "):
            self.errors.append(head.partition(b"\r\n")[0].decode(errors="replace"))
            return False
        self._answer = None
        self.init_seconds = time.monotonic()
        self.sock.sendall(client_frame(orjson.dumps({"type": "init", "uuid": str(uuid.uuid4())})))
        self._reader.feed(rest)
        return True

    def _frame(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT and payload.startswith(protocol.AUDIO_HEAD):
            index = self._next_heard
            # Each delta's first frame. The audio that the resampler held back comes in one after the last delta.
            if index % sound.FRAMES_PER_DELTA == 0 and index < sound.DELTAS * sound.FRAMES_PER_DELTA:
                self.heard_seconds.append(self._received_seconds)
            if payload != self._expected[index]:
                self.broken += 1
            self.heard_frames += 1
            self._next_heard = (index + 1) % len(self._expected)
        elif opcode == TEXT:
            message = orjson.loads(payload)
            if message["type"] != "transcript":
                self.errors.append(f"{message['type']}: {message.get('message', '')}")
        elif opcode == PING:
            self.sock.sendall(client_frame(payload, PONG))
        elif opcode == CLOSE:
            self.close_code = int.from_bytes(payload[:2])
            self.closed_seconds = self._received_seconds
            if not self._hung_up:
                self.hang_up()
                self.is_over = True


class Core:
    """All calls of the process."""

    def __init__(self, orders: Workload) -> None:
        self._orders = orders
        self._calls: list[Call] = []
        self._epoll = select.epoll()
        self._by_fd: dict[int, Call] = {}
        self._due: list[tuple[float, int, Call]] = []
        self._began: list[Call] = []
        self._over = threading.Event()
        self._random = random.Random(7)
        self._late_seconds: list[float] = []
        # Made before the clocks run.
        for voice in range(sound.VOICES):
            sound.heard(orders.audio_format, voice)

    def run(self) -> None:
        """Place the calls, keep them up until stdin ends, and report."""
        receiver = threading.Thread(target=self._receive, daemon=True)
        sender = threading.Thread(target=self._send, daemon=True)
        receiver.start()
        sender.start()
        orders = self._orders
        self._place(range(orders.calls))
        sys.stdout.write("up\n")
        sys.stdout.flush()
        if orders.surplus:
            time.sleep(orders.surplus_after_seconds)
            self._place(range(orders.calls, orders.calls + orders.surplus))
        sys.stdin.read()
        self._over.set()
        sender.join()
        for call in self._calls:
            if not call.is_over:
                call.hang_up()
        deadline = time.monotonic() + HANG_UP_SECONDS
        while time.monotonic() < deadline and not all(call.is_over for call in self._calls):
            time.sleep(0.05)
        late = sorted(self._late_seconds)
        report = {
            "calls": [call.report() for call in self._calls],
            "late_p99_seconds": late[len(late) * 99 // 100] if late else 0.0,
        }
        sys.stdout.buffer.write(orjson.dumps(report))

    def _place(self, numbers: range) -> None:
        began = time.monotonic()
        for count, number in enumerate(numbers):
            time.sleep(max(0.0, began + count / self._orders.calls_per_second - time.monotonic()))
            call = Call(number, self._orders)
            self._calls.append(call)
            self._by_fd[call.sock.fileno()] = call
            self._epoll.register(call.sock.fileno(), select.EPOLLIN)

    def _send(self) -> None:
        frames = 0
        while not self._over.is_set():
            while self._began:
                call = self._began.pop()
                first = call.init_seconds + self._random.uniform(0.0, sound.FRAME_SECONDS)
                if self._orders.call_seconds:
                    call.ends_seconds = first + self._orders.call_seconds
                heapq.heappush(self._due, (first, call.number, call))
            if not self._due:
                time.sleep(0.001)
                continue
            due, number, call = self._due[0]
            wait = due - time.monotonic()
            if wait > 0:
                time.sleep(min(wait, sound.FRAME_SECONDS / 10))
                if wait > sound.FRAME_SECONDS / 10:
                    continue
            elif frames % 100 == 0:
                self._late_seconds.append(-wait)
            frames += 1
            try:
                if call.is_over or due >= call.ends_seconds:
                    heapq.heappop(self._due)
                    if not call.is_over:
                        call.hang_up()
                    continue
                call.say()
            except OSError as error:
                call.errors.append(str(error))
                call.is_over = True
            heapq.heapreplace(self._due, (due + sound.FRAME_SECONDS, number, call))

    def _receive(self) -> None:
        while True:
            for fd, _ in self._epoll.poll():
                call = self._by_fd[fd]
                try:
                    data = call.sock.recv(RECEIVE_BYTES)
                except OSError:
                    data = b""
                if not data:
                    call.is_over = True
                    self._epoll.unregister(fd)
                    del self._by_fd[fd]
                    call.sock.close()
                elif call.receive(data):
                    self._began.append(call)


def main() -> None:
    """Carry out one workload."""
    orders = Workload(**orjson.loads(sys.stdin.readline()))
    Core(orders).run()


if __name__ == "__main__":
    main()
