// The list of ended calls, where records are kept. It is read again when a call has ended, and once a minute.

import { askList, Refused } from "./api.js";
import { badge, fill, mark } from "./rows.js";
import { age, copy, count, ending, money, put, reason, sentence, who } from "./text.js";

const STEP = 25;
const MOST_ROWS = 500;
const SELDOM_MS = 60_000;
// The record of a call is written within a second after its end.
const RECORD_MS = 1_500;
const SOON_MS = 5_000;

const get = (id) => document.getElementById(id);

export class Ended {
  #rows = new Map(); // record id: row
  #wanted = STEP;
  #asked = "";
  #askedAt = -Infinity;
  #dueAt = -Infinity;
  #live = new Set();
  #opened = "";
  #isAsking = false;

  /** Calls `wake()` when the list is to be read again at once. */
  constructor(wake) {
    get("ending").addEventListener("change", () => {
      this.#wanted = STEP;
      wake();
    });
    get("more-ended").addEventListener("click", () => {
      this.#wanted = Math.min(MOST_ROWS, this.#wanted + STEP);
      wake();
    });
  }

  /** Reads the list if it is due: another search, a call that left the live ones, or a minute. */
  async look(live, wanted) {
    const now = performance.now();
    const uuids = new Set(live.map(({ uuid }) => uuid));
    if ([...this.#live].some((uuid) => !uuids.has(uuid))) {
      this.#dueAt = Math.min(this.#dueAt, Math.max(now + RECORD_MS, this.#askedAt + SOON_MS));
    }
    this.#live = uuids;
    const query = new URLSearchParams({ ended: "", limit: this.#wanted });
    if (get("ending").value) query.set("ending", get("ending").value);
    if (wanted) query.set("find", wanted);
    if (this.#isAsking || (String(query) === this.#asked && now < this.#dueAt)) return;
    this.#isAsking = true;
    this.#asked = String(query);
    this.#askedAt = now;
    this.#dueAt = now + SELDOM_MS;
    try {
      this.#show(await askList(`calls?${query}`), wanted);
    } catch (error) {
      if (error.status === 401 || !(error instanceof Refused)) throw error;
      get("no-ended").hidden = false;
      put(get("no-ended"), `Ended calls cannot be read now. ${sentence(error.message)}`);
    } finally {
      this.#isAsking = false;
    }
  }

  clear() {
    this.#asked = "";
    fill(get("ended"), this.#rows, [], () => undefined);
  }

  mark(uuid) {
    this.#opened = uuid;
    for (const row of this.#rows.values()) mark(row, row.dataset.uuid === uuid);
  }

  link(uuid) {
    return [...this.#rows.values()].find((row) => row.dataset.uuid === uuid)?.querySelector("a");
  }

  #show({ entries, kept, hasMore }, wanted) {
    const records = new Map(entries.map((record) => [record.id, record]));
    fill(get("ended"), this.#rows, [...records.keys()], (id) => this.#newRow(records.get(id)));
    for (const [id, record] of records) showRecord(this.#rows.get(id), record);
    get("ending").hidden = !kept;
    get("more-ended").hidden = !hasMore || entries.length >= MOST_ROWS;
    const isBound = hasMore && entries.length >= MOST_ROWS;
    get("no-ended").hidden = entries.length > 0 && !isBound;
    put(get("no-ended"), isBound ? `These are the last ${count(entries.length, "call")}. Find others above.` : none(kept, wanted));
  }

  #newRow(record) {
    const row = copy("call-row");
    row.dataset.uuid = record.uuid;
    row.querySelector("a").href = `#${encodeURIComponent(record.uuid)}`;
    mark(row, record.uuid === this.#opened);
    return row;
  }
}

function none(kept, wanted) {
  if (!kept) return "Ended calls are not kept. Set CALL_RECORDS_KEEP_SECONDS to see them here.";
  if (wanted) return `No ended call matches “${wanted}”.`;
  return get("ending").value ? "No kept call has this ending." : "No call has ended yet.";
}

/** Formats a time; one of another day has its date. */
function when(time) {
  const isToday = time.toDateString() === new Date().toDateString();
  const day = isToday ? {} : { month: "short", day: "numeric" };
  return time.toLocaleString([], { ...day, hour: "2-digit", minute: "2-digit" });
}

function showRecord(row, record) {
  put(row.querySelector(".who"), who(record));
  badge(row, record.ending, ending(record.ending));
  put(row.querySelector(".age"), age(record.seconds));
  put(row.querySelector(".words"), reason(record.reason));
  put(row.querySelector(".aside"), [when(new Date(record.ended_at)), record.tenant, money(record.cost_usd)].filter(Boolean).join(" · "));
}
