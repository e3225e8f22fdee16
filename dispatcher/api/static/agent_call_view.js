// The panel of a call from this page. Texts of the call are only ever written as text.

import { Timeline } from "./agent_call_timeline.js";
import { age, put } from "./text.js";

const KEYS = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "*", "0", "#"];
const KEY_NAMES = { "*": "Star", "#": "Hash" };
const MOST_ENTRIES = 300;
const NEAR_END_PX = 60;

function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") made.className = value;
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

export class View {
  #section;
  #parts = {};
  #timeline = new Timeline();
  #lastAnswer;
  #wasInterrupted = false;

  /** Builds the panel in `section`. `act` has call(), hangUp(), mute(isMuted), press(key) and close(). */
  constructor(section, act) {
    this.#section = section;
    const parts = this.#parts;
    parts.title = make("h2", { id: "agent-call-title", tabindex: "-1" }, "Call this agent");
    parts.close = make("button", { type: "button", class: "agent-call-close" }, "Close");
    parts.state = make("p", { class: "agent-call-state", role: "status" });
    parts.note = make("p", { class: "agent-call-note", role: "status", hidden: true });
    parts.help = make("div", { class: "agent-call-help", hidden: true });
    parts.length = make("dd", {}, "0:00");
    parts.answer = make("dd", {}, "–");
    parts.slowest = make("dd", {}, "–");
    parts.cuts = make("dd", {}, "0");
    parts.figures = make(
      "dl",
      { class: "agent-call-figures", hidden: true },
      ...[
        ["Length", parts.length],
        ["Last answer", parts.answer],
        ["Slowest", parts.slowest],
        ["Interruptions", parts.cuts],
      ].map(([name, value]) => make("div", {}, make("dt", {}, name), value)),
    );
    parts.legend = make(
      "p",
      { class: "agent-call-legend" },
      make("span", { class: "user" }, "You"),
      make("span", { class: "agent" }, "Agent"),
      make("span", { class: "wait" }, "Wait for the answer"),
      make("span", { class: "cut" }, "Interruption"),
    );
    parts.timeline = make("div", { class: "agent-call-timeline", hidden: true }, this.#timeline.node, parts.legend);
    parts.words = make("div", {
      class: "agent-call-words",
      role: "log",
      "aria-label": "What is said in your call",
      tabindex: "0",
      hidden: true,
    });
    parts.call = make("button", { type: "button", class: "strong" }, "Call");
    parts.hangUp = make("button", { type: "button", class: "danger", hidden: true }, "Hang up");
    parts.mute = make("button", { type: "button", "aria-pressed": "false", hidden: true }, "Mute");
    parts.link = make("a", { class: "agent-call-link", hidden: true }, "Show it among the calls");
    parts.keypad = make(
      "div",
      { class: "agent-call-keypad", role: "group", "aria-label": "Telephone keys", hidden: true },
      ...KEYS.map((key) => {
        const button = make("button", { type: "button", "data-key": key }, key);
        if (KEY_NAMES[key]) button.setAttribute("aria-label", KEY_NAMES[key]);
        button.addEventListener("click", () => act.press(key));
        return button;
      }),
    );
    parts.call.addEventListener("click", () => act.call());
    parts.hangUp.addEventListener("click", () => act.hangUp());
    parts.mute.addEventListener("click", () => {
      const isMuted = parts.mute.getAttribute("aria-pressed") !== "true";
      parts.mute.setAttribute("aria-pressed", String(isMuted));
      act.mute(isMuted);
    });
    parts.close.addEventListener("click", () => act.close());
    section.setAttribute("aria-labelledby", "agent-call-title");
    section.replaceChildren(
      make("div", { class: "agent-call-head" }, parts.title, parts.close),
      parts.state,
      parts.note,
      parts.help,
      parts.figures,
      parts.timeline,
      parts.words,
      parts.keypad,
      make("div", { class: "agent-call-actions" }, parts.call, parts.mute, parts.hangUp, parts.link),
    );
    section.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        // The page closes its own panel with this key.
        event.stopPropagation();
        if (!this.#parts.close.hidden) act.close();
      } else if (KEYS.includes(event.key) && !event.ctrlKey && !event.altKey && !event.metaKey) {
        act.press(event.key);
      }
    });
  }

  get isOpen() {
    return !this.#section.hidden;
  }

  show(isShown) {
    this.#section.hidden = !isShown;
    if (isShown) this.#parts.title.focus();
  }

  /** Shows one of the states idle, closed (no call is possible), calling, live, ended and refused. */
  enter(state, text) {
    const parts = this.#parts;
    this.#section.dataset.state = state;
    const hadFocus = this.#section.contains(document.activeElement);
    put(parts.state, text);
    const isOn = state === "calling" || state === "live";
    parts.call.hidden = isOn || state === "closed";
    put(parts.call, { ended: "Call again", refused: "Try again" }[state] ?? "Call");
    parts.close.hidden = isOn;
    parts.hangUp.hidden = !isOn;
    put(parts.hangUp, state === "calling" ? "Cancel" : "Hang up");
    parts.mute.hidden = parts.keypad.hidden = state !== "live";
    for (const part of [parts.figures, parts.timeline, parts.words]) {
      part.hidden = state !== "live" && (state !== "ended" || part.hidden);
    }
    parts.help.hidden = state !== "closed" || !parts.help.childElementCount;
    if (state !== "live") parts.link.hidden = true;
    // A button that has gone loses the focus.
    if (hadFocus && !document.activeElement?.offsetParent) {
      const next = [parts.hangUp, parts.call].find((each) => !each.hidden) ?? parts.title;
      next.focus();
    }
  }

  /** Shows what people can do where the browser gives no microphone: paragraphs, and commands as code. */
  help(lines) {
    this.#parts.help.replaceChildren(
      ...lines.map(({ text, code }) => make("p", {}, code ? make("code", {}, code) : text)),
    );
  }

  began(uuid) {
    const parts = this.#parts;
    this.#wasInterrupted = false;
    this.#lastAnswer = undefined;
    parts.words.replaceChildren();
    parts.mute.setAttribute("aria-pressed", "false");
    put(parts.answer, "–");
    put(parts.slowest, "–");
    put(parts.cuts, "0");
    parts.link.href = `#${encodeURIComponent(uuid)}`;
    parts.link.hidden = false;
  }

  note(text) {
    put(this.#parts.note, text);
    this.#parts.note.hidden = !text;
  }

  said(role, text) {
    const log = this.#parts.words;
    const follows = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END_PX;
    const isAgent = role === "agent";
    const remarks = [];
    if (isAgent && this.#lastAnswer !== undefined) remarks.push(`after ${this.#lastAnswer.toFixed(1)} s`);
    if (isAgent && this.#wasInterrupted) remarks.push("interrupted");
    const speaker = make("span", { class: "agent-call-who" }, isAgent ? "Agent" : "You");
    if (remarks.length) speaker.append(make("span", { class: "agent-call-remark" }, ` · ${remarks.join(" · ")}`));
    const words = make("bdi", {});
    put(words, text);
    log.append(make("p", { "data-kind": isAgent ? "agent" : "user" }, speaker, words));
    if (log.children.length > MOST_ENTRIES) log.firstElementChild.remove();
    if (isAgent) {
      this.#lastAnswer = undefined;
      this.#wasInterrupted = false;
    }
    if (follows) log.scrollTop = log.scrollHeight;
  }

  answered({ seconds }, answers) {
    this.#lastAnswer = seconds;
    put(this.#parts.answer, `${seconds.toFixed(1)} s`);
    put(this.#parts.slowest, `${Math.max(...answers.map((each) => each.seconds)).toFixed(1)} s`);
  }

  interrupted(count) {
    this.#wasInterrupted = true;
    put(this.#parts.cuts, String(count));
  }

  pressed(key) {
    const button = this.#parts.keypad.querySelector(`[data-key="${CSS.escape(key)}"]`);
    button.classList.remove("agent-call-pressed");
    // The change must reach the screen before the next one, so that the same key flashes again.
    requestAnimationFrame(() => button.classList.add("agent-call-pressed"));
  }

  tick(turns, began, now, { mostSeconds, isOver = false }) {
    put(this.#parts.length, isOver ? age(now - began) : `${age(now - began)} of ${age(mostSeconds)}`);
    this.#timeline.draw(turns, began, now, isOver);
  }
}
