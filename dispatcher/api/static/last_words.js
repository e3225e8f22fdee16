// Requests the last words of the visible calls, one call at a time. The list of calls does not contain last words,
// because the dispatcher would have to ask the worker of each call. The rate of requests does not grow with the calls.

import { ask, pathOf } from "./api.js";
import { entry } from "./text.js";

const INTERVAL_MS = 500;
const FRESH_MS = 5_000;

export class LastWords {
  #rows = new Map(); // a call's row in the list: its uuid
  #visible = new Map(); // uuid: time of the call's last request
  #tell;
  #observer = new IntersectionObserver((changes) => {
    for (const { target, isIntersecting } of changes) {
      const uuid = this.#rows.get(target);
      if (uuid === undefined) continue;
      if (!isIntersecting) this.#visible.delete(uuid);
      else if (!this.#visible.has(uuid)) this.#visible.set(uuid, -Infinity);
    }
  });

  /** Calls `tell(uuid, speaker, text)` with the last words of a call. */
  constructor(tell) {
    this.#tell = tell;
    this.#run();
  }

  add(row, uuid) {
    this.#rows.set(row, uuid);
    this.#observer.observe(row);
  }

  remove(row) {
    this.#observer.unobserve(row);
    this.#visible.delete(this.#rows.get(row));
    this.#rows.delete(row);
  }

  /** Takes the last words from a complete conversation. */
  take(uuid, conversation) {
    if (this.#visible.has(uuid)) this.#visible.set(uuid, performance.now());
    const last = conversation.findLast((each) => each.text && each.role);
    if (last) {
      const { speaker, text } = entry(last);
      this.#tell(uuid, speaker, text);
    }
  }

  async #run() {
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
      const oldest = [...this.#visible].reduce((a, b) => (b[1] < a[1] ? b : a), ["", Infinity]);
      if (document.hidden || performance.now() - oldest[1] < FRESH_MS) continue;
      const [uuid] = oldest;
      this.#visible.set(uuid, performance.now());
      try {
        this.take(uuid, (await ask(pathOf(uuid))).conversation);
      } catch {
        // If the call has ended, the next list shows that.
      }
    }
  }
}
