// The last words of the calls that can be seen, asked for one call after the other: the list of calls has none, as
// each call's worker would have to be asked. However many calls there are, it is one request at a time, and few.

import { ask, pathOf } from "./api.js";
import { entry } from "./text.js";

const PACE_MS = 500;
const FRESH_MS = 5_000;

export class LastWords {
  #rows = new Map(); // a call's row in the list: its uuid
  #visible = new Map(); // uuid: when it was asked last
  #tell;
  #observer = new IntersectionObserver((changes) => {
    for (const { target, isIntersecting } of changes) {
      const uuid = this.#rows.get(target);
      if (uuid === undefined) continue;
      if (!isIntersecting) this.#visible.delete(uuid);
      else if (!this.#visible.has(uuid)) this.#visible.set(uuid, -Infinity);
    }
  });

  /** `tell(uuid, speaker, text)` is called with what was said last. */
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

  /** What was said last, where the whole conversation is at hand. */
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
      await new Promise((resolve) => setTimeout(resolve, PACE_MS));
      const oldest = [...this.#visible].reduce((a, b) => (b[1] < a[1] ? b : a), ["", Infinity]);
      if (document.hidden || performance.now() - oldest[1] < FRESH_MS) continue;
      const [uuid] = oldest;
      this.#visible.set(uuid, performance.now());
      try {
        this.take(uuid, (await ask(pathOf(uuid))).conversation);
      } catch {
        // It may have ended: the list will say so.
      }
    }
  }
}
