// The list of live calls. The dispatcher searches and sorts, so the page has a bounded number of them.

import { LastWords } from "./last_words.js";
import { badge, fill, mark } from "./rows.js";
import { age, copy, number, put, state, who } from "./text.js";

// Numbers of rows: at first, and at most. Below the calls there is more to see on a small screen.
const FIRST_ROWS = matchMedia("(min-width: 60rem)").matches ? 100 : 20;
const MOST_ROWS = 200;

const get = (id) => document.getElementById(id);

export class Cluster {
  #calls = [];
  #hosts = new Map(); // worker id: its name
  #seenAt = 0;
  #isStale = false;
  #rows = new Map(); // uuid: row
  #words = new Map(); // uuid: the call's last words
  #lastWords;
  #opened = "";
  /** Number of calls to ask the dispatcher for. */
  wanted = FIRST_ROWS;

  /** Calls `wake()` when more calls are wanted. */
  constructor(wake) {
    get("more-calls").addEventListener("click", () => {
      this.wanted = MOST_ROWS;
      wake();
    });
    this.#lastWords = new LastWords((uuid, speaker, text) => {
      if (!this.#rows.has(uuid)) return;
      this.#words.set(uuid, `${speaker}: ${text}`);
      put(this.#rows.get(uuid).querySelector(".words"), this.#words.get(uuid));
    });
    setInterval(() => this.#showAges(), 1000);
  }

  /** Shows the API's answer: the newest calls first, how many live and how many were found; `wanted` was searched. */
  show({ entries, live, found }, workers, wanted) {
    this.#calls = entries;
    this.#hosts = new Map(workers.map(({ id, host, pid }) => [id, `${host} · ${pid}`]));
    this.#seenAt = performance.now();
    this.#isStale = false;
    for (const uuid of this.#words.keys()) if (!this.#rows.has(uuid)) this.#words.delete(uuid);
    this.#showCalls();
    const hidden = found - entries.length;
    get("no-calls").hidden = !wanted && hidden === 0;
    if (hidden > 0) put(get("no-calls"), `These are ${number(entries.length)} of ${number(found)}. Find others above.`);
    else if (entries.length) get("no-calls").hidden = true;
    else put(get("no-calls"), `No live call matches “${wanted}”.`);
    get("more-calls").hidden = hidden === 0 || entries.length >= MOST_ROWS;
    get("welcome").hidden = live > 0 || Boolean(wanted);
  }

  /** Shows that the data is old: a state of the past is none of now. */
  stale() {
    if (this.#isStale) return;
    this.#showAges();
    this.#isStale = true;
    this.#showCalls();
  }

  clear() {
    this.show({ entries: [], live: 0, found: 0 }, [], "");
  }

  /** Marks the opened call; "" for none. */
  mark(uuid) {
    this.#opened = uuid;
    for (const [each, row] of this.#rows) mark(row, each === uuid);
  }

  /** Takes the conversation of the opened call, to update its last words. */
  heard(uuid, conversation) {
    this.#lastWords.take(uuid, conversation);
  }

  /** Returns the link of a call's row; undefined if it has none. */
  link(uuid) {
    return this.#rows.get(uuid)?.querySelector("a");
  }

  #showCalls() {
    const keys = this.#calls.map(({ uuid }) => uuid);
    fill(get("calls"), this.#rows, keys, (uuid) => this.#newRow(uuid), this.#lastWords);
    for (const call of this.#calls) {
      const row = this.#rows.get(call.uuid);
      put(row.querySelector(".who"), who(call));
      const host = this.#hosts.get(call.worker) ?? call.worker;
      put(row.querySelector(".aside"), [call.tenant, host].filter(Boolean).join(" · "));
      if (this.#isStale) badge(row, "unknown", `was ${state(call.state)}`);
      else badge(row, call.state, state(call.state));
    }
    this.#showAges();
  }

  #showAges() {
    // The age of a call of which nothing is known any more does not grow.
    if (this.#isStale || document.hidden) return;
    const since = (performance.now() - this.#seenAt) / 1000;
    for (const call of this.#calls) {
      const row = this.#rows.get(call.uuid);
      if (row) put(row.querySelector(".age"), age(call.seconds + since));
    }
  }

  #newRow(uuid) {
    const row = copy("call-row");
    row.querySelector("a").href = `#${encodeURIComponent(uuid)}`;
    put(row.querySelector(".words"), this.#words.get(uuid) ?? "");
    mark(row, uuid === this.#opened);
    return row;
  }
}
