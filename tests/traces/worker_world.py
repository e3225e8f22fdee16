"""The peers of a worker's session for the traces: the Realtime API, the dispatcher, the tools, and the process."""

from __future__ import annotations

import copy
import itertools
from typing import Any, Final

from tests.traces.api_world import ApiWorld
from tests.traces.canonical import Output
from tests.traces.sound import tone
from tests.traces.world import Input, Step

FRAME_SAMPLES: Final = 160
_REASONS: Final = ["dropped", "rollover", "drain", "worker_lost"]
_GARBLED: Final = [
    (4, ""),
    (10, "7b7d20"),
    (13, "7b226e756d626572223a2d317d"),
    (13, "5b5d"),
    (14, "7b226974656d73223a5b335d7d"),
    (200, "00"),
    (20, "ff"),
]
_FAILURES: Final = [
    {"message": "refused", "code": "http_503", "retryable": True},
    {"message": "busy", "code": "rate_limit_exceeded", "retryable": True, "retry_after_seconds": 7.0},
    {"message": "unreachable", "code": "connect", "retryable": True},
    {"message": "held back", "code": "held_back", "retryable": True},
    {"message": "no such key", "code": "http_401", "retryable": False},
]
_SESSION: Final[dict[str, Any]] = {
    "type": "realtime",
    "output_modalities": ["audio"],
    "instructions": "You are a helpful assistant.",
    "max_output_tokens": "inf",
    "tool_choice": "auto",
    "tracing": "auto",
    "truncation": "auto",
    "tools": [
        {"type": "function", "name": "look_up", "parameters": {"type": "object"}},
        {"type": "mcp", "server_label": "shop", "server_url": "https://shop.example/"},
    ],
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24_000},
            "transcription": {"model": "gpt-4o-transcribe", "language": "en"},
            "noise_reduction": {"type": "near_field"},
            "turn_detection": {
                "type": "server_vad",
                "create_response": True,
                "interrupt_response": True,
                "silence_duration_ms": 500,
            },
        },
        "output": {"format": {"type": "audio/pcm", "rate": 24_000}, "voice": "marin", "speed": 1.1},
    },
}


class WorkerWorld(ApiWorld):
    """All that a session has to do with."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, 100_000)
        self._position = self.one([0, 0, 8_000])
        self._epoch = 1
        self._standby = False
        self._sent: dict[int, int] = {}
        self._heard: dict[int, int] = {}
        self._commands = 0
        self._credit_given = self.one([10**9, 64_000, 8_000, 0])
        self._returns_credit = self.chance(0.9) and self.mood != "endless talk"
        self._talking = 0
        self._state = ""
        if self.mood == "endless talk":
            self._credit_given = 8_000
        self.header = self._header()
        # More than one tick in a row: minutes.
        self._is_idle = self.chance(0.15)

    def _header(self) -> dict[str, Any]:
        kind = self.weighted([(6, "new"), (4, "restore"), (2, "standby")])
        snapshot = None if kind == "new" else self._snapshot(standby=kind == "standby")
        self._standby = kind == "standby"
        if snapshot is not None:
            self._recall(snapshot)
        opening = {
            "uuid": "uuid-1",
            "epoch": self._epoch,
            "position_samples": self._position,
            "credit_bytes": self._credit_given,
            "restore": kind != "new",
            "filler": self.chance(0.5),
            "first_index": 0 if kind == "new" else 5,
            "age_seconds": self.one([0.0, 0.0, 200.5]),
            "delay_seconds": self.one([0.0, 0.0, 0.25]),
            "waited_seconds": self.weighted([(40, 0.0), (6, 3.0), (1, 400.0)]),
        }
        return {
            "seed": self.seed,
            "now": self.now,
            "opening": opening,
            "plan": self._plan(),
            "snapshot": snapshot,
        }

    def _plan(self) -> dict[str, Any]:
        session = copy.deepcopy(_SESSION)
        plan: dict[str, Any] = {"dialect": self.dialect, "session": session}
        detection = session["audio"]["input"]["turn_detection"]
        match self.weighted([(6, "server"), (2, "local"), (1, "semantic"), (1, "idle")]):
            case "local":
                session["audio"]["input"]["turn_detection"] = None
                plan |= {"local_silence_ms": 300, "local_threshold": 0.5, "local_prefix_ms": 200}
            case "semantic":
                session["audio"]["input"]["turn_detection"] = {"type": "semantic_vad", "create_response": False}
                plan["silence_ms"] = 0
            case "idle":
                detection["idle_timeout_ms"] = 6000
        plan["audio_format"] = self.weighted([(6, "pcm"), (1, "pcmu"), (1, "pcma")])
        if self.chance(0.3):
            plan |= {"welcome": "Welcome to the traces.", "welcome_interruptible": self.chance(0.5)}
        plan["retry_seconds"] = self.weighted([(4, 30.0), (4, 300.0), (1, 5.0)])
        if self.chance(0.2):
            plan["silence_hangup_seconds"] = self.one([5.0, 40.0])
        if self.chance(0.15):
            plan["max_call_seconds"] = self.one([20.0, 240.0])
        if self.chance(0.2):
            plan |= {"rollover_seconds": self.one([10.0, 100.0]), "rollover_part": self.one([0.9, 1.0])}
        if self.chance(0.3):
            plan["idempotent"] = ["repeatable"]
        if self.chance(0.5):
            plan["approved_servers"] = ["shop"]
        if self.chance(0.3):
            plan["transfers"] = ["sales", self.one([None, ["600"], ["internal", "_0039.@sales"]])]
        if self.chance(0.1):
            plan["notes"] = ["[The tools of shop are not available.]"]
        if self.dialect == "xai":
            plan["service"] = "xAI"
        return plan

    # Memory of a session before this one

    def _recall(self, snapshot: dict[str, Any]) -> None:
        """What goes on from a session before this one: replies that play, tools that run."""
        for reply in snapshot["replies"]:
            if reply["sent_samples"] and not reply["cut"]:
                self._sent[reply["index"]] = reply["sent_samples"]
        for call in snapshot["running"]:
            if self.chance(0.7):
                self.later(self.one([10, 100, 1500]), "tool_done", call, "found", self.chance(0.4))
        for order in snapshot["orders"]:
            if self.chance(0.5):
                done = {"id": order, "ok": self.chance(0.7), "message": ""}
                self.later(self.one([10, 900]), "record", "OrderDone", done)

    def _snapshot(self, *, standby: bool) -> dict[str, Any]:
        replies: list[dict[str, Any]] = []
        items = [self._remembered(number, replies) for number in range(self.random.randint(0, 5))]
        for before, item in itertools.pairwise(items):
            item["after"] = before["item_id"]
        audio = []
        at = max(0, self._position - 4_000)
        while at < self._position:
            audio.append([at, tone(2_000, self.one([0, 3000]), at)])
            at += 2_000
        calls = [item["item"]["call_id"] for item in items if "call_id" in item["item"]]
        return {
            "reason": self.one(["rollover", "drain"] if standby else _REASONS),
            "standby": standby,
            "items": items,
            "replies": replies,
            "audio": audio if self.chance(0.7) else [],
            "orders": [self.one([*calls, "hang-up"])] if self.chance(0.15) else [],
            "running": [call for call in calls if self.chance(0.3)],
            "digits": self.weighted([(8, ""), (1, "12"), (1, "5#")]),
            "speaking": self.chance(0.2),
            "recalled": not standby and self.chance(0.25),
            "first_index": 5,
            "hang_up": "the model said so" if self.chance(0.05) else "",
            "words_lost": self.chance(0.1),
        }

    def _remembered(self, number: int, replies: list[dict[str, Any]]) -> dict[str, Any]:
        item_id = f"old_{number}"
        text = self.one(["What time is it?", "It is nine o'clock.", ""])
        match self.weighted([(3, "user"), (4, "agent"), (2, "call"), (1, "output"), (1, "sound")]):
            case "user":
                end = self._position - self.one([0, 1000])
                item: dict[str, Any] = {
                    "role": "user",
                    "text": text,
                    "text_done": bool(text),
                    "reported": bool(text),
                }
                if self.chance(0.5):
                    item["span"] = [max(0, end - 2000), max(0, end)]
            case "agent":
                item = {"role": "agent", "text": text, "text_done": True, "reported": True}
                if self.chance(0.5):
                    item["heard_share"] = self.one([0.0, 0.5, 1.0])
                elif self.chance(0.7):
                    sent = self.one([0, 800, 8000])
                    replies.append(
                        {
                            "index": len(replies),
                            "item_id": item_id,
                            "text": text,
                            "received_samples": sent + self.one([0, 4000]),
                            "sent_samples": sent,
                            "done": self.chance(0.5),
                            "heard_samples": self.one([0, sent // 2, sent]),
                            "cut": self.chance(0.2),
                        }
                    )
            case "call":
                name = self.one(["look_up", "repeatable", "avr_transfer", "avr_hangup"])
                arguments = '{"transfer_extension":"600"}' if name == "avr_transfer" else "{}"
                item = {"kind": "function_call", "call_id": f"old_call_{number}", "name": name, "text": arguments}
                item |= {"started": self.chance(0.5), "runs": self.one([0, 1, 2]), "text_done": True}
            case "output":
                item = {
                    "kind": "function_call_output",
                    "call_id": f"old_call_{max(0, number - 1)}",
                    "text": "found",
                }
                item |= {"silent": self.chance(0.2), "text_done": True}
            case _:
                item = {"role": "user", "text": "", "text_done": self.chance(0.5), "reported": True}
                return {"item_id": item_id, "item": item, "sound": tone(1600, 3000, number)}
        return {"item_id": item_id, "item": item}

    # What the session wants done

    def next(self, outputs: list[Output], state: Any) -> Step | None:
        self._state = state[0]
        step = super().next(outputs, state)
        if step is not None and step[1] == "event":
            self.delivered(step[2])
        return step

    def see(self, output: Output) -> None:
        match output:
            case ["upstream", _]:
                self.saw_upstream(output)
            case ["record", name, fields]:
                self._told(name, fields)
            case ["action", "Connect", fields]:
                self._connect(fields["delay_seconds"])
            case ["action", "RunTool", fields]:
                if not self.chance(0.1):
                    output_text = self.one(["It is nine.", '{"hours":"9-5"}', "error"])
                    self.later(
                        self.one([0, 200, 3000]), "tool_done", fields["call_id"], output_text, self.chance(0.1)
                    )
            case ["raised", "LinkProtocolError"]:
                self.later(0, "stopped", "a record was not understood")

    def _connect(self, delay_seconds: float) -> None:
        delay_ms = int(delay_seconds * 1000) + self.one([20, 150])
        bad = max(self.badness / 2, 0.05)
        if self.chance(bad):
            self.later(
                delay_ms, "connect_failed", self.weighted([(4, self.one(_FAILURES[:4])), (1, _FAILURES[4])])
            )
            return
        self.later(delay_ms, "connected", self.chance(0.2))
        if not self.chance(bad / 4):
            created: dict[str, Any] = {"type": "session.created", "session": {"id": "sess_1", "type": "realtime"}}
            if self.chance(0.3):
                created["lasts_seconds"] = self.one([1800.0, 20.0, -1.0, "x"])
            self.later(delay_ms + 5, "event", created)

    def _told(self, name: str, fields: dict[str, Any]) -> None:
        match name:
            case "ReplyItem":
                self._sent[fields["index"]] = 0
            case "ReplyAudio":
                size = fields["pcm"]["bytes"]
                self._sent[fields["index"]] = self._sent.get(fields["index"], 0) + size // 2
                if self._returns_credit:
                    self.later(self.one([20, 200]), "record", "Credit", {"credit_bytes": size})
                if self.chance(0.4):
                    self.later(self.one([100, 400]), "playout")
            case "ReplyItemDone":
                self.later(self.one([200, 2000]), "playout")
            case "Flush":
                if not self.chance(self.badness / 4):
                    self.later(self.one([5, 60]), "heard", fields["number"])
            case "Tool":
                if not self.chance(0.05):
                    self.later(self.one([0, 30]), "record", "ToolKnown", {"call_id": fields["call_id"]})
            case "Order":
                done = {"id": fields["id"], "ok": self.chance(0.7), "message": self.one(["", "no such channel"])}
                self.later(self.one([100, 1500]), "record", "OrderDone", done)
            case "Move":
                if self.chance(0.7):
                    self.later(self.one([300, 1500]), "record", "Release", {"seconds": self.one([0.0, 3.0, 20.0])})
                if self.chance(0.2):
                    self.later(2500, "record", "Release", {"seconds": 10.0, "revoked": True})
            case "Ready" if fields["standby"]:
                if not self.chance(0.1):
                    self.later(self.one([100, 1500]), "go")

    # Inputs that are made when their time comes

    def _take(self) -> Input:
        made = super()._take()
        match made:
            case ["playout"]:
                return ["record", "Playout", self._playout()]
            case ["heard", number]:
                return ["record", "Heard", self._cut(number)]
            case ["go"]:
                return self._go()
            case ["connected" | "connect_failed", *_] if self._state != "connecting" and not self.rude:
                # The connection attempt was given up.
                return self._do_tick()
        return made

    def _playout(self) -> dict[str, Any]:
        idle = self.chance(0.6)
        items = []
        for index, sent in list(self._sent.items()):
            heard = sent if idle else min(sent, self._heard.get(index, 0) + self.one([800, 1600, 4000]))
            if heard != self._heard.get(index):
                items.append([index, heard])
            self._heard[index] = heard
        if idle:
            self._sent.clear()
        queued = [] if idle else [[index, sent] for index, sent in self._sent.items()]
        return {"items": items, "idle": idle, "queued": queued}

    def _cut(self, number: int) -> dict[str, Any]:
        items = []
        for index, sent in self._sent.items():
            items.append([index, self.one([0, sent // 3, sent, self._heard.get(index, 0)])])
        self._sent.clear()
        return {"number": number, "items": items}

    def _go(self) -> Input:
        changed = {**copy.deepcopy(_SESSION), "instructions": "Changed."} if self.chance(0.2) else None
        return ["go", self._snapshot(standby=False), changed]

    # Unasked

    def tick(self) -> Input:
        return ["tick"] if self.chance(0.8) else ["tick", self.now - self.one([0.1, 1.0, 6.0])]

    def act(self) -> Input:
        if self._talking:
            return self._talk()
        if self._is_idle and self.chance(0.5):
            self.now_ms += self.one([1000, 3000, 12_000, 31_000, 61_000])
            return self.tick()
        if self.rude and self.chance(0.1):
            return self._do_odd()
        return getattr(self, f"_do_{self.weighted(_ACTS)}")()  # type: ignore[no-any-return]

    def _talk(self) -> Input:
        """Audio in the course of a turn; silence at its end, for whoever finds the turns on this side."""
        self._talking -= 1
        samples = self.one([160, 160, 320, 1600, 4000])
        self.now_ms += samples // 8
        return self._audio(samples, self.one([3000, 6000, 12_000]) if self._talking > 2 else 0)

    def _audio(self, samples: int, level: int) -> Input:
        if self.chance(0.02):
            self._position += 800  # lost on the way
        position = self._position
        self._position += samples
        return ["audio", position, tone(samples, level, position)]

    def _do_talk(self) -> Input:
        self._talking = self.random.randint(3, 9)
        if self._state == "live":
            self.turn()
        return self._talk()

    def _do_frame(self) -> Input:
        self.now_ms += 20
        return self._audio(FRAME_SAMPLES, self.one([0, 0, 300]))

    def _do_much(self) -> Input:
        self.now_ms += 500
        return self._audio(self.one([8_000, 24_000, 80_000]), 2000)

    def _do_tick(self) -> Input:
        self.now_ms += self.weighted([(10, 200), (4, 1000), (2, 3000), (1, 11_000), (1, 61_000)])
        return self.tick()

    def _do_key(self) -> Input:
        self.now_ms += self.one([50, 400, 2000])
        return ["record", "Dtmf", {"digit": self.one("0123456789*#AD")}]

    def _do_surprise(self) -> Input:
        return self.surprise()

    def _do_playout(self) -> Input:
        self.now_ms += 200
        return ["record", "Playout", self._playout()]

    def _do_pause(self) -> Input:
        self.later(self.one([100, 1000, 8000]), "writable")
        return ["paused"]

    def _do_command(self) -> Input:
        self._commands += 1
        name = self.weighted([(6, "say"), (4, "session"), (2, "conversation"), (1, "hang_up")])
        body: dict[str, Any] = {}
        if name == "say":
            body = {"text": f"Saying {self._commands}."}
        elif name == "session":
            body = self.one(
                [
                    {"instructions": "Be brief."},
                    {"audio": {"input": {"turn_detection": None}}},
                    {"audio": {"input": {"turn_detection": {"type": "server_vad"}}}},
                    {"tools": [{"type": "function", "name": "new", "parameters": {"type": "object"}}]},
                ]
            )
        return ["command", self._commands, name, body]

    def _do_burst(self) -> Input:
        """Many commands at once."""
        for _ in range(self.one([6, 20])):
            self.later(0, *self._do_command())
        return self._do_command()

    def _do_leave(self) -> Input:
        """The link breaks, or another dispatcher comes."""
        if self.chance(0.4):
            self.later(self.one([300, 5000]), "resumed")
            return ["detached"]
        self._epoch += 1
        opening = {
            "uuid": "uuid-1",
            "epoch": self._epoch,
            "credit_bytes": self.one([64_000, 8_000]),
            "attach": True,
            "filler": self.chance(0.5),
        }
        self.later(self.one([0, 800]), "attached", opening)
        return ["detached"]

    def _do_end(self) -> Input:
        return self.one(
            [
                ["connection_lost", "closed with 1006"],
                ["move", "rollover", 5.0],
                ["move", "drain", self.one([0.0, 5.0, 60.0])],
                ["move", "drain", self.one([0.0, 5.0, 60.0])],
                ["move", "rollover", 10.0],
                ["release", "drain", "the worker stops"],
                ["record", "Close", {"reason": "the caller has hung up"}],
                self.one([["dispatcher_lost"], ["stopped", "the worker ends"]]),
                ["record", "Release", {"seconds": self.one([0.0, 5.0]), "revoked": self.chance(0.2)}],
            ]
        )

    def _do_odd(self) -> Input:
        choices: list[Input] = [
            [
                "record",
                "OrderDone",
                {"id": self.one(["hang-up", "call_0"]), "ok": self.chance(0.5), "message": "late"},
            ],
            ["record", "ToolKnown", {"call_id": "call_0"}],
            ["record", "Heard", {"number": self.one([0, 1, 2, 99]), "items": [[0, 100]]}],
            ["record", "Transcript", {"item_id": "x", "role": "user", "text": "not for a worker"}],
            ["tool_done", self.one(["call_0", *self._calls]), "late", self.chance(0.3)],
            ["connect_failed", _FAILURES[0]] if self._state == "connecting" else ["tick"],
            ["go", self._snapshot(standby=False)] if self._standby else ["tick"],
        ]
        if self.rude:
            choices += [["raw", *self.one(_GARBLED)], ["connected"], ["connect_failed", _FAILURES[1]]]
        return self.one(choices)


_ACTS: Final = [
    (10, "talk"),
    (12, "frame"),
    (1, "much"),
    (14, "tick"),
    (5, "key"),
    (5, "surprise"),
    (8, "playout"),
    (1, "pause"),
    (5, "command"),
    (1, "burst"),
    (2, "leave"),
    (1, "end"),
    (3, "odd"),
]
