"""The agent's side of a session: the model's replies, and how much of each the caller hears."""

from __future__ import annotations

from collections import deque
from typing import Any

import pybase64
import structlog

from common.link import wire
from worker.audio.audio_format import ApiAudio
from worker.realtime.api_values import checked_id
from worker.session.action_queue import ActionQueue
from worker.session.actions import Metric
from worker.session.agent.replies import Replies, Reply
from worker.session.memory.conversation import Conversation, Item, Role, heard_part
from worker.session.memory.replay import Replay
from worker.session.truncation import MAX_TEXT_CHARS

# Maximum ids of closed responses, whose late audio is dropped.
MAX_CLOSED_RESPONSES = 32


class AgentSpeech:
    """Replies of one session. Methods have the names of the API's and the dispatcher's events.

    Attributes:
        closed_responses: ids of responses whose further audio is dropped.
    """

    def __init__(
        self, opening: wire.Open, audio: ApiAudio, texts: Conversation, outbox: ActionQueue, replay: Replay
    ) -> None:
        """Make the replies of a session that has none.

        Args:
            opening: the dispatcher's OPEN.
            audio: format of the API's audio.
            texts: conversation of the session.
            outbox: takes the actions.
            replay: replay of items to the API.
        """
        self.closed_responses: deque[str] = deque(maxlen=MAX_CLOSED_RESPONSES)
        self._log = structlog.get_logger().bind(uuid=opening.uuid)
        self._texts = texts
        self._outbox = outbox
        self._replay = replay
        self._replies = Replies(opening.credit_bytes, audio.downlink(), audio.bytes_per_ms, opening.first_index)
        self._reply_of: dict[str, Reply] = {}
        self._fresh_text: dict[str, str] = {}
        self._reported_seconds = 0.0

    @property
    def is_heard(self) -> bool:
        """Whether a reply plays, or waits to be played."""
        return self._replies.any_playing

    @property
    def waiting_commands(self) -> list[wire.TelephonyCommand]:
        """Return telephony commands that wait behind audio without credit."""
        return self._replies.waiting_commands

    @property
    def is_unanswered(self) -> bool:
        """Whether too many flushes have no answer."""
        return self._replies.is_unanswered

    # Audio and text of the model

    def audio_delta(self, event: dict[str, Any]) -> bool:
        """Take audio of a reply; return whether it is sent to the caller."""
        pcm = pybase64.b64decode(event["delta"])
        item_id, response_id = checked_id(event["item_id"]), checked_id(event["response_id"])
        reply = self._reply_of.get(item_id)
        if reply is None:
            if response_id in self.closed_responses:
                return False
            reply, records = self._replies.begin(item_id, response_id, int(event["content_index"]))
            self._reply_of[item_id] = reply
            self._outbox.dispatcher(records)
        elif event["content_index"] != reply.parts[-1][0]:
            reply.parts.append((int(event["content_index"]), reply.received_bytes))
        records = self._replies.audio(reply, pcm)
        self._report_text(reply)
        self._outbox.dispatcher(records)
        if reply.closed:
            return False
        if self._replies.is_full:
            self._log.warning("reply truncated: the caller takes it too slowly")
            self._outbox.report(Metric.REPLY_AUDIO_DROPPED_SECONDS, self._replies.waiting_seconds)
            self.cancel(response_id)
            self.flush()
        return bool(pcm)

    def audio_done(self, event: dict[str, Any]) -> None:
        """Complete an item that has no more audio."""
        reply = self._reply_of.get(event["item_id"])
        if reply is not None and not reply.closed:
            self._report_text(reply)
            self._outbox.dispatcher(self._replies.complete())
            self._settle_heard_out()

    def text_delta(self, event: dict[str, Any]) -> None:
        """Add to the text of an item."""
        item = self._texts.get(event["item_id"])
        if item is not None and not item.text_done:
            delta = event["delta"]
            item.text += delta
            self._fresh_text[item.item_id] = self._fresh_text.get(item.item_id, "") + delta

    def text_done(self, event: dict[str, Any]) -> None:
        """Replace the text of an item by the complete one."""
        item = self._texts.get(event["item_id"])
        if item is not None:
            item.text = event["transcript"].strip()
            self._texts.changed(item)

    def response_over(self, response_id: str, *, is_last: bool) -> None:
        """Complete audio and texts of a response that is over, and report its truncated items.

        An item of text alone is deleted, because the caller has heard nothing of it.

        Args:
            response_id: id of the response.
            is_last: no other response is under way, so every open item has ended.
        """
        for begun in self._reply_of.values():
            self._report_text(begun)
        self._fresh_text.clear()
        if is_last or self._replies.current_response_id == response_id:
            self._outbox.dispatcher(self._replies.complete())
        for item in self._texts.open_replies():
            reply = self._reply_of.get(item.item_id)
            if reply is None and is_last:
                self._unheard(item.item_id)
            elif reply is not None and (is_last or reply.response_id == response_id):
                self._text_over(item, reply)
        self._settle_heard_out()

    def item_done(self, item_id: str) -> None:
        """Complete an item, so that its transcript need not wait for the end of the response."""
        item, reply = self._texts.get(item_id), self._reply_of.get(item_id)
        if item is not None and reply is not None and item.text and not item.text_done:
            self._report_text(reply)
            self._text_over(item, reply)
            self._settle_heard_out()

    def _text_over(self, item: Item, reply: Reply) -> None:
        item.text_done = True
        self._texts.changed(item)
        if reply.heard_samples is not None:
            self._settle(reply)

    def truncate_received(self, response_id: str) -> None:
        """Truncate the items of a failed response at the end of their audio, which the caller hears."""
        for reply in self._reply_of.values():
            if reply.response_id == response_id and reply.received_ms and not reply.truncated:
                self._truncate(reply, reply.received_ms)

    def cancel(self, response_id: str) -> None:
        """Cancel a response, and drop its further audio."""
        self.closed_responses.append(response_id)
        self._outbox.upstream({"type": "response.cancel", "response_id": response_id})

    # After another session, or with another dispatcher

    def restore(self, replies: tuple[wire.Reply, ...], first_index: int) -> bool:
        """Restore replies of a lost session; return whether the model must continue one.

        Args:
            replies: replies that the caller may still be hearing.
            first_index: first index of this session's own items.
        """
        self._reply_of.clear()
        self._replies.forget(first_index)
        goes_on = False
        for known in replies:
            item = self._texts.get(known.item_id)
            if item is None or item.role is not Role.AGENT:
                continue
            received = max(known.received_samples, known.sent_samples)
            if not known.done:
                goes_on = goes_on or (known.sent_samples > 0 and not known.truncated)
                item.text = heard_part(known.text.strip(), known.sent_samples / received if received else 0.0)
            elif not item.text:
                item.text = known.text.strip()
            item.text_done = True
            self._texts.changed(item)
            if not known.sent_samples or (known.truncated and not known.heard_samples):
                # The caller has not heard the reply, and will not hear it.
                self._texts.remove(item.item_id)
                continue
            reply = self._replies.restore(known.index, known.item_id, known.sent_samples)
            self._reply_of[item.item_id] = reply
            if known.truncated or known.heard_samples >= known.sent_samples:
                self._replies.settle(reply, known.heard_samples)
                self._settle(reply)
        return goes_on

    def settle_others(self, *, heard: bool) -> None:
        """Settle all other replies, of which the dispatcher has no audio.

        Args:
            heard: complete replies count as heard, because their playout is unknown. Otherwise none was sent.
        """
        for item in list(self._texts):
            if item.role is not Role.AGENT or item.heard_share is not None or item.item_id in self._reply_of:
                continue
            if heard and item.text_done and item.text:
                item.heard_share = 1.0
                self._texts.changed(item)
            else:
                self._texts.remove(item.item_id)

    def attached(self, credit_bytes: int, now_seconds: float) -> None:
        """Report the playing replies to another dispatcher that has the call now."""
        age_seconds = now_seconds - self._reported_seconds
        replies, playout, flushes = self._replies.attached(credit_bytes, age_seconds)
        spoken = []
        for reply in replies:
            item = self._texts.get(reply.item_id)
            text = "" if item is None else item.text
            spoken.append(
                wire.Reply(
                    reply.index, reply.item_id, text, reply.received_samples, reply.sent_samples, reply.complete
                )
            )
        self._fresh_text.clear()
        if spoken:
            self._outbox.record(wire.PendingReplies(tuple(spoken)))
            self._outbox.record(playout)
        self._outbox.dispatcher(flushes)
        self._outbox.dispatcher(self._replies.send())

    # Playout

    def flush(self) -> None:
        """Drop audio that the caller has not heard: a barge-in."""
        if self._replies.any_playing:
            self._outbox.happened("interruption")
        self._outbox.dispatcher(self._replies.flush())

    def send_command(self, command: wire.TelephonyCommand) -> None:
        """Send a telephony command after all audio so far, even if that is interrupted."""
        self._outbox.dispatcher(self._replies.append(command))

    def credit(self, credit_bytes: int) -> None:
        """Send more audio: the dispatcher has room again."""
        self._outbox.dispatcher(self._replies.credit(credit_bytes))

    def playout(self, playout: wire.Playout, now_seconds: float) -> None:
        """Settle the replies that are heard to their end, by a report of the playout."""
        self._reported_seconds = now_seconds
        for reply in self._replies.playout(playout):
            self._settle(reply)

    def heard(self, heard: wire.Heard) -> None:
        """Truncate the replies that a barge-in interrupted to their heard parts."""
        for reply in self._replies.heard(heard):
            self._truncate_to_heard(reply)

    def send_transcripts(self, now_seconds: float) -> None:
        """Send the transcripts that are due, of both sides."""
        for item in self._texts.due_transcripts(now_seconds):
            assert item.role is not None
            role, text = item.role.value, item.heard_text
            self._outbox.happened("transcript", item_id=item.item_id, role=role, text=text)
            self._outbox.record(wire.Transcript(item.item_id, role, text))

    def _report_text(self, reply: Reply) -> None:
        """Report new text of a reply to the dispatcher, for a session that continues the reply."""
        text = self._fresh_text.pop(reply.item_id, "")
        for start in range(0, len(text), MAX_TEXT_CHARS):
            part, samples = text[start : start + MAX_TEXT_CHARS], reply.received_samples
            self._outbox.record(wire.ReplyText(reply.index, samples, part))

    def _settle(self, reply: Reply) -> None:
        """Settle an item whose heard part is known. Its share needs complete text and audio."""
        item = self._texts.get(reply.item_id)
        if item is not None and (item.text_done or reply.fully_heard):
            item.heard_share = reply.heard_share
            self._texts.changed(item)
        if item is None or item.text_done:
            self._reply_of.pop(reply.item_id, None)

    def _truncate_to_heard(self, reply: Reply) -> None:
        """Truncate an interrupted item at the model to its heard part; delete an unheard one."""
        if not reply.fully_heard:
            # The API refuses to truncate at 0 ms.
            if reply.heard_ms == 0:
                self._unheard(reply.item_id)
                return
            if not reply.restored:
                self._truncate(reply, reply.heard_ms)
        self._settle(reply)
        item = self._texts.get(reply.item_id)
        if reply.restored and not reply.fully_heard and item is not None:
            if item.heard_text:
                self._replay.rewrite(item)
            else:
                self._unheard(item.item_id)

    def _settle_heard_out(self) -> None:
        """Settle the replies that the caller has heard to their end."""
        for reply in self._replies.take_heard_out():
            self._settle(reply)

    def _truncate(self, reply: Reply, end_ms: int) -> None:
        """Truncate the part of the item in which the audio ends; the API counts each part from its own start."""
        index, start_bytes = reply.part_at(end_ms)
        self._outbox.upstream(
            {
                "type": "conversation.item.truncate",
                "item_id": reply.item_id,
                "content_index": index,
                "audio_end_ms": end_ms - start_bytes // reply.bytes_per_ms,
            }
        )

    def _unheard(self, item_id: str) -> None:
        """Delete an item that the caller has not heard."""
        self._reply_of.pop(item_id, None)
        if self._texts.get(item_id) is not None:
            self._texts.remove(item_id)
            self._replay.delete(item_id)
