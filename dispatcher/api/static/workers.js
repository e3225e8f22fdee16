// The workers: one line while all are well. The table opens by itself when one is ill.

import { badge, fill } from "./rows.js";
import { attention, copy, count, number, put, state } from "./text.js";

const MOST_ROWS = 200;
const BUSY_SHARE = 0.9;

const get = (id) => document.getElementById(id);

export class Workers {
  #workers = [];
  #rows = new Map(); // id: row
  #wasIll = false;
  #openedItself = false;

  show(workers) {
    // Ill workers come first: the table is bounded.
    this.#workers = workers.toSorted((a, b) => isIll(b) - isIll(a));
    this.#showRows(false);
    const ill = workers.filter(isIll);
    const taken = workers.reduce((sum, worker) => sum + worker.calls, 0);
    const capacity = workers.reduce((sum, worker) => sum + worker.capacity, 0);
    const isFull = workers.length > 0 && taken >= capacity;
    put(get("workers-line"), line(workers, ill, taken, capacity, isFull));
    get("workers-part").dataset.ill = String(ill.length > 0 || isFull || workers.length === 0);
    get("workers").hidden = workers.length === 0;
    this.#unfold(ill.length > 0 || isFull);
  }

  /** Shows that the data is old. */
  stale() {
    if (!this.#workers.length) return;
    this.#showRows(true);
    put(get("workers-line"), `${count(this.#workers.length, "worker")} when last seen`);
    get("workers-part").dataset.ill = "false";
  }

  /** Opens the table when a worker becomes ill, and closes it again when all are well. People may do otherwise. */
  #unfold(isIll) {
    const box = get("workers-box");
    if (isIll && !this.#wasIll) {
      this.#openedItself = !box.open;
      box.open = true;
    } else if (!isIll && this.#wasIll && this.#openedItself) {
      box.open = false;
    }
    this.#wasIll = isIll;
  }

  #showRows(isStale) {
    const shown = this.#workers.slice(0, MOST_ROWS);
    const list = get("workers").tBodies[0];
    fill(list, this.#rows, shown.map(({ id }) => id), () => copy("worker-row"));
    for (const worker of shown) {
      const row = this.#rows.get(worker.id);
      put(row.querySelector(".name"), `${worker.host} · ${worker.pid}`);
      row.title = `${worker.id} at ${worker.address}`;
      put(row.querySelector(".problem"), worker.problem ? `The Realtime API refuses its key: ${worker.problem}` : "");
      put(row.querySelector(".release"), worker.release);
      if (isStale) badge(row, "unknown", `was ${state(worker.state)}`);
      else badge(row, isIll(worker) && worker.state === "ready" ? "ill" : worker.state, state(worker.state));
      const meter = row.querySelector("meter");
      meter.max = Math.max(1, worker.capacity);
      meter.high = BUSY_SHARE * meter.max;
      meter.value = worker.calls;
      put(row.querySelector(".load"), `${number(worker.calls)} of ${number(worker.capacity)}`);
    }
    const hidden = this.#workers.length - shown.length;
    get("more-workers").hidden = hidden === 0;
    put(get("more-workers"), `And ${count(hidden, "worker")} more.`);
  }
}

const isIll = (worker) => worker.state !== "ready" || Boolean(worker.problem);

function line(workers, ill, taken, capacity, isFull) {
  if (!workers.length) return "There are none: calls are refused until one starts.";
  const places = `${number(taken)} of ${count(capacity, "place")} taken`;
  if (isFull) return `All are full: ${places}. New calls are refused.`;
  if (ill.length) return `${attention(ill.length, number(workers.length))}, ${places}`;
  return workers.length === 1 ? `1 is ready, ${places}` : `All ${number(workers.length)} are ready, ${places}`;
}
