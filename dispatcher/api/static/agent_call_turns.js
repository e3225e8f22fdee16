// Who speaks when in a call from this page, and how long answers take: computed from levels of sound.

// A pause within speech that does not end it.
const PAUSE_SECONDS = 0.35;
// Sound shorter than this is a click, not speech.
const SHORTEST_SECONDS = 0.06;
const QUIETEST_DBFS = -50;
// The microphone's noise is followed slowly, and speech has to be louder by this much.
const ABOVE_NOISE_DB = 12;
const NOISE_RISE_DB = 0.02; // for each frame of 20 ms
// Of each kind of mark the last ones are kept.
const MOST_KEPT = 600;

function keep(list, mark) {
  list.push(mark);
  if (list.length > MOST_KEPT) list.shift();
}

/** One speaker: the stretches of time in which there was speech. */
class Lane {
  stretches = []; // {from, to}, in seconds
  #noise = -70;
  #since = undefined; // start of sound that may become speech
  #adapts;

  constructor(adapts) {
    this.#adapts = adapts;
  }

  /** Takes the level of the 20 ms that end at `at`; returns whether speech has begun with it. */
  hear(dbfs, at) {
    if (this.#adapts) this.#noise = Math.min(dbfs, this.#noise + NOISE_RISE_DB, -45);
    const isLoud = dbfs > Math.max(QUIETEST_DBFS, this.#adapts ? Math.max(-70, this.#noise) + ABOVE_NOISE_DB : QUIETEST_DBFS);
    const last = this.stretches.at(-1);
    if (last && at - last.to <= PAUSE_SECONDS) {
      if (isLoud) last.to = at;
      return false;
    }
    if (!isLoud) {
      this.#since = undefined;
      return false;
    }
    this.#since ??= at - 0.02;
    if (at - this.#since < SHORTEST_SECONDS) return false;
    keep(this.stretches, { from: this.#since, to: at });
    this.#since = undefined;
    return true;
  }

  cut(at) {
    const last = this.stretches.at(-1);
    if (last && last.to > at) last.to = Math.max(last.from, at);
  }
}

/** The turns of one call. */
export class Turns {
  user = new Lane(true);
  agent = new Lane(false);
  interruptions = []; // seconds
  keys = []; // {at, key}
  answers = []; // {from, to, seconds}: from the end of the caller's speech to the first sound of the answer

  hear(who, dbfs, at) {
    const hasBegun = this[who].hear(dbfs, at);
    if (!hasBegun || who !== "agent") return undefined;
    const { from } = this.agent.stretches.at(-1);
    const asked = this.user.stretches.at(-1);
    const before = this.agent.stretches.at(-2);
    // A reply with a pause in it is still one reply.
    if (!asked || asked.to > from || (before && before.to > asked.to)) return undefined;
    const answer = { from: asked.to, to: from, seconds: from - asked.to };
    keep(this.answers, answer);
    return answer;
  }

  interrupt(at) {
    this.agent.cut(at);
    keep(this.interruptions, at);
  }

  press(key, at) {
    keep(this.keys, { at, key });
  }
}
