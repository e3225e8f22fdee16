// The conversation of one call, with the wait for each reply, interruptions and tools.

import { copy, entry, joined, put } from "./text.js";

const MOST_ENTRIES = 300;
const NEAR_END_PX = 60;

/** Shows a conversation; a log that was scrolled to its end stays there. */
export function showConversation(log, conversation) {
  const follows = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END_PX;
  const shown = joined(conversation)
    .filter(({ text, role }) => text || !role)
    .slice(-MOST_ENTRIES);
  while (log.children.length > shown.length) log.lastElementChild.remove();
  shown.forEach((each, place) => {
    const { kind, speaker, text, result, note, failed } = entry(each);
    const row = log.children[place] ?? copy("entry-row");
    row.dataset.kind = kind;
    row.dataset.failed = String(failed);
    put(row.querySelector(".speaker"), speaker);
    put(row.querySelector(".text"), text);
    put(row.querySelector(".result"), result);
    put(row.querySelector(".note"), note);
    if (!row.isConnected) log.append(row);
  });
  if (follows) log.scrollTop = log.scrollHeight;
}
