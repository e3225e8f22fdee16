// The lists of workers and calls. A call keeps its row element, so that focus and reading position are kept.

import { LastWords } from "./last_words.js";
import { age, copy, put, state, who } from "./text.js";

// Maximum number of rows. People find further calls with the search field.
const MOST_ROWS = 200;
const BUSY_SHARE = 0.9;

const get = (id) => document.getElementById(id);

export class Cluster {
  #calls = [];
  #workers = [];
  #seenAt = 0;
  #callRows = new Map(); // uuid: row
  #workerRows = new Map(); // id: row
  #words = new Map(); // uuid: the call's last words
  #lastWords;
  #opened = "";

  constructor() {
    this.#lastWords = new LastWords((uuid, speaker, text) => {
      this.#words.set(uuid, `${speaker}: ${text}`);
      const row = this.#callRows.get(uuid);
      if (row) put(row.querySelector(".words"), this.#words.get(uuid));
    });
    get("find").addEventListener("input", () => this.#showCalls());
    setInterval(() => this.#showAges(), 1000);
  }

  /** Shows the API's answers; `calls` begins with the oldest call. */
  show(calls, workers) {
    this.#calls = calls.toReversed();
    this.#workers = workers;
    this.#seenAt = performance.now();
    const lives = new Set(calls.map(({ uuid }) => uuid));
    for (const uuid of this.#words.keys()) if (!lives.has(uuid)) this.#words.delete(uuid);
    this.#showSummary();
    this.#showWorkers();
    this.#showCalls();
  }

  clear() {
    this.show([], []);
  }

  lists(uuid) {
    return this.#calls.some((call) => call.uuid === uuid);
  }

  /** Marks the opened call; "" for none. */
  mark(uuid) {
    this.#opened = uuid;
    for (const [each, row] of this.#callRows) this.#mark(each, row);
  }

  /** Takes the conversation of the opened call, to update its last words. */
  heard(uuid, conversation) {
    this.#lastWords.take(uuid, conversation);
  }

  /** Moves the keyboard focus to a call's row, or to the search field, when the call is closed. */
  focus(uuid) {
    (this.#callRows.get(uuid)?.querySelector("a") ?? get("find")).focus();
  }

  #showSummary() {
    const capacity = this.#workers.reduce((sum, worker) => sum + worker.capacity, 0);
    const calls = this.#calls.length === 1 ? "1 call" : `${this.#calls.length} calls`;
    const workers = this.#workers.length === 1 ? "1 worker" : `${this.#workers.length} workers`;
    put(get("summary"), `${calls}, room for ${capacity} on ${workers}`);
  }

  #showWorkers() {
    const keys = this.#workers.slice(0, MOST_ROWS).map(({ id }) => id);
    this.#fill(get("workers"), this.#workerRows, keys, () => copy("worker-row"));
    for (const worker of this.#workers.slice(0, MOST_ROWS)) {
      const row = this.#workerRows.get(worker.id);
      put(row.querySelector(".name"), `${worker.host} · ${worker.pid}`);
      row.title = `${worker.id} at ${worker.address}, release ${worker.release}`;
      this.#showState(row, worker.state);
      const meter = row.querySelector("meter");
      meter.max = Math.max(1, worker.capacity);
      meter.high = BUSY_SHARE * meter.max;
      meter.value = worker.calls;
      put(row.querySelector(".load"), `${worker.calls} of ${worker.capacity}`);
    }
    get("no-workers").hidden = this.#workers.length > 0;
  }

  #showCalls() {
    const wanted = get("find").value.trim().toLowerCase();
    const found = wanted ? this.#calls.filter((call) => matches(call, wanted)) : this.#calls;
    const shown = found.slice(0, MOST_ROWS);
    this.#fill(get("calls"), this.#callRows, shown.map(({ uuid }) => uuid), (uuid) => this.#newCall(uuid), this.#lastWords);
    const hosts = new Map(this.#workers.map(({ id, host, pid }) => [id, `${host} · ${pid}`]));
    for (const call of shown) {
      const row = this.#callRows.get(call.uuid);
      put(row.querySelector(".who"), who(call));
      put(row.querySelector(".worker"), hosts.get(call.worker) ?? call.worker);
      this.#showState(row, call.state);
    }
    this.#showAges();
    const hidden = found.length - shown.length;
    const none = wanted ? "No call is like that." : "Nobody is calling.";
    get("no-calls").hidden = found.length > 0 && hidden === 0;
    put(get("no-calls"), found.length ? `And ${hidden} more: find them above.` : none);
  }

  #showState(row, value) {
    const badge = row.querySelector(".state");
    put(badge, state(value));
    badge.dataset.state = value;
  }

  #showAges() {
    const since = (performance.now() - this.#seenAt) / 1000;
    for (const call of this.#calls) {
      const row = this.#callRows.get(call.uuid);
      if (row) put(row.querySelector(".age"), age(call.seconds + since));
    }
  }

  #newCall(uuid) {
    const row = copy("call-row");
    row.querySelector("a").href = `#${encodeURIComponent(uuid)}`;
    put(row.querySelector(".words"), this.#words.get(uuid) ?? "");
    this.#mark(uuid, row);
    return row;
  }

  #mark(uuid, row) {
    const link = row.querySelector("a");
    if (uuid === this.#opened) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }

  /** Gives a list these rows in this order, without touching rows that are already in place. */
  #fill(list, rows, keys, create, watched = undefined) {
    const wanted = new Set(keys);
    for (const [key, row] of rows) {
      if (wanted.has(key)) continue;
      watched?.remove(row);
      row.remove();
      rows.delete(key);
    }
    let place = list.firstElementChild;
    for (const key of keys) {
      let row = rows.get(key);
      if (row && row === place) {
        place = place.nextElementSibling;
        continue;
      }
      if (!row) {
        row = create(key);
        rows.set(key, row);
        watched?.add(row, key);
      }
      list.insertBefore(row, place);
    }
  }
}

function matches(call, wanted) {
  const texts = [call.uuid, call.worker, call.dispatcher, state(call.state), ...Object.values(call.metadata)];
  return texts.some((text) => String(text).toLowerCase().includes(wanted));
}
