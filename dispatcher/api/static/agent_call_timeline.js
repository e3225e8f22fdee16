// The timeline of a call from this page: who spoke when, how long answers took, and interruptions.

const SVG = "http://www.w3.org/2000/svg";
// About as many units as the panel has pixels, so that text has its usual size.
const WIDTH = 400;
const HEIGHT = 86;
const LANES = { user: 12, agent: 48 };
const LANE_HEIGHT = 18;
const LINES = { y1: 8, y2: 70 };
const SHOWN_SECONDS = 30;
const SECONDS_BETWEEN_TICKS = [5, 10, 30, 60, 120];

function element(name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}

export class Timeline {
  #svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": "Timeline" });

  get node() {
    return this.#svg;
  }

  /** Draws the last half minute of a live call, or all of an ended one. `began` and `now` are seconds. */
  draw(turns, began, now, isOver) {
    const first = isOver ? began : Math.max(began, now - SHOWN_SECONDS);
    const span = isOver ? Math.max(1, now - began) : SHOWN_SECONDS;
    const x = (seconds) => ((seconds - first) / span) * WIDTH;
    const parts = [];
    for (const who of Object.keys(LANES)) {
      parts.push(element("rect", { class: "lane", x: 0, y: LANES[who], width: WIDTH, height: LANE_HEIGHT, rx: 4 }));
    }
    const ticks = SECONDS_BETWEEN_TICKS.find((each) => span / each <= 10) ?? 300;
    for (let tick = Math.ceil((first - began) / ticks) * ticks; tick <= first - began + span; tick += ticks) {
      const at = x(began + tick);
      parts.push(element("line", { class: "tick", x1: at, x2: at, ...LINES }));
      if (at < WIDTH - 30) parts.push(element("text", { class: "time", x: at + 2, y: 83 }, `${tick} s`));
    }
    for (const who of Object.keys(LANES)) {
      for (const { from, to } of turns[who].stretches) {
        if (to < first) continue;
        const start = Math.max(0, x(from));
        const width = Math.max(2, x(to) - start);
        parts.push(element("rect", { class: who, x: start, y: LANES[who], width, height: LANE_HEIGHT, rx: 3 }));
      }
    }
    for (const { from, to, seconds } of turns.answers) {
      if (to < first) continue;
      const middle = LANES.agent - 9;
      parts.push(element("line", { class: "wait", x1: Math.max(0, x(from)), x2: x(to), y1: middle, y2: middle }));
      parts.push(element("text", { class: "wait-text", x: Math.max(0, x(to) + 3), y: middle + 4 }, `${seconds.toFixed(1)} s`));
    }
    for (const { at, key } of turns.keys) {
      if (at >= first) parts.push(element("text", { class: "key", x: x(at), y: LANES.user + 13 }, key));
    }
    for (const at of turns.interruptions) {
      if (at < first) continue;
      parts.push(element("line", { class: "cut", x1: x(at), x2: x(at), ...LINES }));
      parts.push(element("path", { class: "cut-mark", d: `M${x(at) - 6} 2h12l-6 9z` }));
    }
    this.#svg.replaceChildren(...parts);
    this.#svg.setAttribute("aria-label", summary(turns));
  }
}

function summary({ user, agent, answers, interruptions }) {
  const slowest = Math.max(...answers.map(({ seconds }) => seconds));
  const latency = answers.length ? `; slowest answer after ${slowest.toFixed(1)} seconds` : "";
  return (
    `Timeline: you spoke ${user.stretches.length} times, the agent ${agent.stretches.length} times` +
    `${latency}; ${interruptions.length} interruptions`
  );
}
