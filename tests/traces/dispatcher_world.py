"""The peers of a dispatcher's call for the traces: AVR Core, placement, workers, avr-ami, and the process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.traces.canonical import Output
from tests.traces.dispatcher_tables import ACTS, BAD_INITS, GARBAGE, GARBLED, LIMITS, RECORDS, WORDS
from tests.traces.sound import tone
from tests.traces.world import Input, Step, World


@dataclass(slots=True)
class _Worker:
    """What the worker at the other end of a leg knows."""

    number: int
    worker_id: str
    epoch: int
    attach: bool = False
    restore: bool = False
    standby: bool = False
    state: str = "asked"
    credit_bytes: int = 64_000
    index: int = 0
    flushes: int = 0
    received: int = 0
    acknowledged: int = 0
    last_ms: int = 0
    items: list[str] = field(default_factory=list)


class DispatcherWorld(World):
    """All that a call has to do with."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, 1_000_000)
        self.badness = self.one([0.0, 0.02, 0.1, 0.3])
        self._workers: list[_Worker] = []
        self._state = "awaiting_init"
        self._is_away = False
        self._placed: dict[str, Any] = {}
        self._sound = 0
        self._is_idle = self.chance(0.1)
        self._is_pressing = self.chance(0.01)
        self.header = self._header()
        self._begin()

    def _header(self) -> dict[str, Any]:
        limits: dict[str, Any] = {}
        for name, values in LIMITS.items():
            if self.chance(0.15):
                limits[name] = self.one(values)
        frames = self.one([0, 0, 3, 40])
        announcements = {
            "sentence": tone(160 * frames, 2000 if frames else 0),
            "extension": self.one(["", "", "600"]),
            "context": "demo",
            "filler": tone(160 * 5, 500) if self.chance(0.4) else tone(0, 0),
            "filler_after_seconds": self.one([1.5, 0.3]),
        }
        return {
            "seed": self.seed,
            "now": self.now,
            "metadata": {"from": "100"},
            "limits": limits,
            "announcements": announcements,
        }

    def _begin(self) -> None:
        if self.chance(0.02):
            self.later(0, "message", self.one(BAD_INITS))
        elif self.chance(0.2):
            self.later(self.one([0, 300]), "began", "call-1")
        else:
            init: dict[str, Any] = {"type": "init", "uuid": "call-1"}
            if self.chance(0.2):
                init["provider_config"] = {"instructions": "Be brief."}
            self.later(self.one([0, 300]), "message", init)
        if self.chance(0.1):
            self.later(400, "restored", self._stored())
        if self.chance(0.05):
            self.later(300, "outrank", 4)

    def _stored(self) -> dict[str, Any]:
        items = {f"item:old_{number}": {"role": "user", "text": f"Words {number}."} for number in range(2)}
        return {"profile": {"model": "gpt-realtime"}, "order": ["old_0", "old_1"], **items}

    # What the call wants done

    def next(self, outputs: list[Output], state: Any) -> Step | None:
        self._state = state[0]
        return super().next(outputs, state)

    def see(self, output: Output) -> None:
        match output:
            case ["record", leg, name, fields]:
                self._told(self._workers[leg], name, fields)
            case ["action", "Place", fields]:
                self._place(fields)
            case ["action", "Execute", fields]:
                order = fields["order"]
                ok = self.chance(0.7)
                message = "done" if ok else "avr-ami does not answer"
                if not self.chance(0.05):
                    self.later(self.one([50, 800]), "executed", order, ok, message)
            case ["action", "TransferAway", _]:
                outcome = self.one(["transferred", "transferred", "failed", "refused"])
                self.later(self.one([100, 1500]), "transferred_away", outcome)
            case ["action", "Wake", fields]:
                if not self.chance(0.05):
                    self.later(max(0, round(fields["at_seconds"] * 1000) - self.now_ms), "wake")
            case ["action", "LeaveChannel", fields]:
                self._workers[fields["leg"]].state = "left"
                self.forget(f"leg {fields['leg']}")
            case ["raised", _]:
                self._not_placed()
                for worker in self._open():
                    self.later(0, "worker_lost", worker.number)
            case ["unwanted", _]:
                self._not_placed()

    def _not_placed(self) -> None:
        """The worker that was found is not wanted any more: it has no leg."""
        if self._placed:
            self._workers.pop()
        self._placed = {}

    def _place(self, fields: dict[str, Any]) -> None:
        delay_ms = self.one([5, 40, 300])
        purpose = fields["purpose"]
        if self.chance(max(self.badness / 2, 0.04)):
            code, is_known = self.one([(1013, True), (1011, True), (1011, False)])
            self.later(delay_ms, "not_placed", code, "no capacity", is_known)
            return
        worker_id = fields["same_worker"] or self.one(
            [w for w in ("w-1", "w-2", "w-3") if w not in fields["excluded"]] or ["w-4"]
        )
        epoch = fields["epoch"] + self.weighted([(9, 0), (1, 2)])
        placed = {
            "worker_id": worker_id,
            "epoch": epoch,
            "channel": 3,
            "pins": epoch,
            "attach": purpose == "begin" and self.chance(0.15),
            "age_seconds": self.one([0.0, 0.0, 90.5]),
        }
        self.later(delay_ms, "placed", purpose, placed)

    def _take(self) -> Input:
        made = super()._take()
        if made[0] == "placed":
            self._placed = made[2]
            fields = made[2]
            self._workers.append(
                _Worker(len(self._workers), fields["worker_id"], fields["epoch"], fields["attach"])
            )
        return made

    # Workers

    def _open(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.state not in ("left", "ended")]

    def _say(self, worker: _Worker, delay_ms: int, name: str, **fields: Any) -> None:
        if self.chance(self.badness / 6) and (self.rude or name not in ("Opened", "Ready")):
            return
        # A link keeps the order of its records.
        worker.last_ms = max(worker.last_ms, self.now_ms + delay_ms)
        self.later(worker.last_ms - self.now_ms, "record", worker.number, name, fields, tag=f"leg {worker.number}")

    def _told(self, worker: _Worker, name: str, fields: dict[str, Any]) -> None:
        delay_ms = self.one([5, 30, 150])
        worker.received += name not in ("Open", "Ack", "Attach")
        match name:
            case "Open":
                self._placed = {}
                worker.index = fields["first_index"]
                worker.credit_bytes = fields["credit_bytes"]
                worker.restore = fields["restore"]
                self._answer_open(worker, delay_ms)
            case "Go" if worker.state != "ready":
                worker.standby = fields["standby"]
                worker.index = max(worker.index, fields["first_index"])
                if not self.chance(self.badness / 3):
                    self._say(worker, delay_ms + self.one([50, 700]), "Ready", standby=worker.standby)
                    worker.state = "standby" if worker.standby else "ready"
            case "Release":
                if not fields["revoked"]:
                    self._say(
                        worker, delay_ms, "Released", reason=self.one(["drain", "rollover"]), message="as asked"
                    )
                    worker.state = "ended"
            case "Close":
                worker.state = "ended"
            case "Attach":
                # The last record was lost with the link.
                worker.received = max(worker.acknowledged, worker.received - 1)
                self._say(worker, delay_ms, "Attached", received=worker.received)
            case "Credit":
                worker.credit_bytes += fields["credit_bytes"]

    def _answer_open(self, worker: _Worker, delay_ms: int) -> None:
        if self.chance(max(self.badness / 2, 0.05)):
            reason = self.one(["full", "draining", "stale_epoch", "unknown", "invalid"])
            self._say(worker, delay_ms, "Refused", reason=reason, epoch=worker.epoch + self.one([0, 3]))
            worker.state = "ended"
            return
        opened: dict[str, Any] = {"credit_bytes": self.one([32_000, 32_000, 4_000, 0])}
        if worker.attach:
            opened |= {"attached": True, "position_samples": 16_000}
        self._say(worker, delay_ms, "Opened", **opened)
        worker.state = "opened"
        if worker.attach:
            self._attached(worker, delay_ms + 5)
        if not worker.restore:
            self._say(worker, delay_ms + 5, "Profile", record={"model": "gpt-realtime"}, secrets={"key": "s"})
            self._say(worker, delay_ms + self.one([20, 900]), "Ready")
            worker.state = "ready"

    def _attached(self, worker: _Worker, at: int) -> None:
        """A session that goes on tells everything."""
        item = {"role": "agent", "text": "So far."}
        self._say(worker, at, "Remember", item_id="old_reply", item=item)
        replies = [
            {"index": 0, "item_id": "old_reply", "text": "So", "received_samples": 9000, "sent_samples": 4000},
            {
                "index": 1,
                "item_id": "older",
                "text": "far",
                "received_samples": 800,
                "sent_samples": 800,
                "done": True,
            },
        ]
        self._say(worker, at, "Spoken", replies=replies)
        playout = {"items": [[0, 1000]], "queued": [[0, 4000]], "age_seconds": self.one([0.1, 3.0])}
        self._say(worker, at, "Playout", **playout)
        self._say(worker, at, "Finished", position_samples=8_000, speaking=self.chance(0.5))
        if self.chance(0.4):
            self._say(worker, at, "KeptAudio", position_samples=12_000, pcm=tone(1600, 3000, 12_000))
        worker.index = 2

    # Unasked

    def tick(self) -> Input:
        return ["tick"]

    def act(self) -> Input:
        if self._is_idle and self.chance(0.3):
            self.now_ms += self.weighted([(9, 1000), (6, 4000), (3, 12_000), (1, 61_000)])
            return self.tick()
        if self._is_pressing and self._state != "awaiting_init":
            return self._do_key()
        return getattr(self, f"_do_{self.weighted(ACTS)}")()  # type: ignore[no-any-return]

    def _do_audio(self) -> Input:
        """One frame, as a message or as several together."""
        samples = self.one([160, 160, 160, 160, 480, 1600, 0])
        self.now_ms += samples // 8
        self._sound += samples
        sound = tone(samples, self.one([0, 3000]), self._sound)
        if self.chance(0.4):
            return ["audio", sound, self.one([0, 1, 3])]
        if self.chance(0.1):
            return ["message", {"type": "audio", "audio": sound, "more": 1}]
        return ["message", {"type": "audio", "audio": sound}]

    def _do_much(self) -> Input:
        samples = self.weighted([(6, 8_000), (4, 40_000), (1, 200_000)])
        self._sound += samples
        self.now_ms += self.one([0, 500, 3000])
        return ["audio", tone(samples, 2000, self._sound), 1]

    def _do_flood(self) -> Input:
        return ["audio", tone(160, 0), self.one([5, 3000])]

    def _do_key(self) -> Input:
        self.now_ms += self.one([50, 500])
        return ["message", {"type": "dtmf_digit", "digit": self.one(["1", "5", "#", "*", "a", 7])}]

    def _do_garbage(self) -> Input:
        if self.chance(0.1):
            return ["message", {"type": "init", "uuid": "call-2"}]
        return ["message", self.one(GARBAGE)]

    def _do_tick(self) -> Input:
        self.now_ms += self.weighted([(48, 200), (12, 1000), (5, 3000), (1, 11_000), (1, 31_000)])
        return self.tick()

    def _do_caller(self) -> Input:
        """AVR Core stalls, goes away, comes back."""
        if self._is_away:
            self._is_away = False
            self.now_ms += self.one([200, 3000])
            return ["caller_back"]
        match self.weighted([(14, "pause"), (16, "lost"), (1, "closed"), (2, "gone")]):
            case "pause":
                self.later(self.weighted([(6, 100), (6, 900), (1, 40_000)]), "caller_writable")
                return ["caller_paused"]
            case "lost":
                self._is_away = True
                return ["caller_closed", self.one([1006, 1011]), True]
            case "closed":
                return ["caller_closed", self.one([1000, 1001, 1005]), True]
        return ["caller_closed", 1006, False]

    def _do_link(self) -> Input:
        """The link to a worker breaks; there is another one, or none."""
        # Those that have let the call go, too.
        workers = [worker for worker in self._workers if worker.state != "left"]
        if not workers:
            return self._do_tick()
        worker = self.one(workers)
        if self.chance(0.3):
            worker.state = "left"
            return ["worker_lost", worker.number]
        for _ in range(2):
            self.later(20, *self._do_audio())
        if self.chance(0.8):
            self.later(self.one([100, 1500]), "resume", worker.number)
        else:
            self.later(self.one([100, 6000]), "worker_lost", worker.number)
        return ["link_broke", worker.number]

    def _do_redis(self) -> Input:
        return self.weighted([(8, ["changes"]), (1, ["forgotten"]), (1, ["epoch", self.random.randint(1, 4)])])

    def _do_end(self) -> Input:
        return self.weighted(
            [
                (2, ["superseded"]),
                (2, ["stopped", "the dispatcher ends"]),
                (3, ["failed", "internal error"]),
                (3, ["hang_up"]),
                (2, ["left", "the dispatcher ends"]),
                (1, ["broke_protocol", "bad_websocket", "a frame is broken"]),
                (1, ["absorbed"] if self._state == "awaiting_init" else ["hang_up"]),
            ]
        )

    def _do_record(self) -> Input:
        """Something of a worker's that nothing has asked for."""
        workers = [worker for worker in self._workers if worker.state not in ("asked", "ended", "left")]
        if not workers:
            return self._do_tick()
        worker = workers[-1] if self.chance(0.2) else workers[0]
        return self._record(worker)

    def _record(self, worker: _Worker) -> Input:
        if self.rude and self.chance(0.1):
            return self._rude(worker)
        name = self.weighted(RECORDS)
        fields: dict[str, Any] = {}
        match name:
            case "ReplyAudio":
                return self._reply(worker)
            case "Credit":
                fields = {"credit_bytes": self.one([8_000, 16_000])}
            case "Flush":
                worker.flushes += 1
                fields = {"number": worker.flushes}
            case "Transcript":
                item_id = self.one([f"item_{self.number()}", *worker.items])
                fields = {"item_id": item_id, "role": self.one(["user", "agent"]), "text": self.one(WORDS)}
            case "Remember":
                fields = self._remember(worker)
            case "Finished":
                position = max(0, self._sound - self.one([0, 1600, 16_000]))
                fields = {"position_samples": position, "speaking": self.chance(0.3)}
            case "Keyed":
                fields = {"digits": self.one([1, 2, 20])}
            case "Order":
                fields = self._order()
            case "Tool":
                fields = {"call_id": f"call_{self.number()}"}
            case "Profile":
                fields = {"record": {"model": "other"}, "secrets": {}}
            case "Awaiting":
                fields = {"waiting": self.chance(0.7)}
            case "Move":
                fields = {"reason": self.one(["rollover", "drain"]), "seconds": self.one([5.0, 60.0])}
            case "Released":
                fields = {"reason": self.one(["dropped", "dropped", "drain", "rollover"]), "message": "lost"}
                worker.state = "ended"
            case "Ended":
                if self.chance(0.2):
                    return ["record", worker.number, "Close", {"reason": "another epoch"}]
                fields = self.one(
                    [
                        {"outcome": "completed"},
                        {"outcome": "failed", "message": "no session"},
                        {"outcome": "failed"},
                    ]
                )
                worker.state = "ended"
            case "Ack":
                worker.acknowledged = worker.received
                fields = {"received": worker.received}
            case "Hello":
                fields = {"protocol": 1}
        return ["record", worker.number, name, fields]

    def _rude(self, worker: _Worker) -> Input:
        choices: list[Input] = [
            ["raw", worker.number, *self.one(GARBLED)],
            ["record", worker.number, "Ready", {}],
            ["record", worker.number, "Opened", {"credit_bytes": 100}],
            ["record", worker.number, "Refused", {"reason": self.one(["full", "unknown"]), "epoch": 1}],
            ["record", worker.number, "Ack", {"received": 10_000}],
            ["record", worker.number, "Attached", {"received": 10_000}],
            ["record", worker.number, "ReplyAudio", {"index": 0, "pcm": tone(60_000, 100)}],
        ]
        return self.one(choices)

    def _order(self) -> dict[str, Any]:
        if self.chance(0.5):
            return {"id": self.one(["hang-up", f"call_{self.number()}"]), "action": "hang_up"}
        place = {"extension": "600", "context": "demo", "priority": "1"}
        return {"id": f"call_{self.number()}", "action": "transfer", **place}

    def _remember(self, worker: _Worker) -> dict[str, Any]:
        known = self.one([*worker.items, f"item_{self.number()}"])
        item_id = known if self.chance(0.5) else f"item_{self.number()}"
        item = {"role": self.one(["user", "agent"]), "text": self.one(WORDS)}
        fields: dict[str, Any] = {"item_id": item_id, "after": self.one(["", known, "unknown"]), "item": item}
        if self.chance(0.2):
            fields["forgotten"] = True
        if self.chance(0.3):
            fields["settled"] = True
        if self.chance(0.1):
            fields["sound"] = tone(800, 3000)
        return fields

    def _reply(self, worker: _Worker) -> Input:
        """A reply: its item, text, audio within the credit, and its end."""
        index, item_id = worker.index, f"item_{self.number()}"
        worker.index += 1
        worker.items.append(item_id)
        at, received = 0, 0
        for _ in range(self.random.randint(1, 4)):
            samples = self.one([80, 160, 777, 1600, 8000])
            if 2 * samples > worker.credit_bytes and not (self.rude and self.chance(0.1)):
                break
            worker.credit_bytes -= 2 * samples
            received += samples
            self._say(worker, at, "ReplyText", index=index, received_samples=received, text=self.one(WORDS))
            self._say(worker, at, "ReplyAudio", index=index, pcm=tone(samples, 3000, received))
            at += self.one([5, 100, 300])
        if self.chance(0.8):
            self._say(worker, at, "ReplyItemDone", index=index)
        if self.chance(0.3):
            self._say(worker, at + 300, "Transcript", item_id=item_id, role="agent", text="Hello.")
        return ["record", worker.number, "ReplyItem", {"index": index, "item_id": item_id}]
