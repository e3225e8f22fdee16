// How things are said. What comes from a call is hostile: it goes into the page as text, by `put`, and in no other way.

const MOST_CHARACTERS = 4000;

/** Sets an element's text where it is another one: what does not change is not read out again. */
export function put(element, text) {
  const whole = String(text);
  const shown = whole.length > MOST_CHARACTERS ? `${whole.slice(0, MOST_CHARACTERS)} …` : whole;
  if (element.textContent !== shown) element.textContent = shown;
}

/** A copy of what a template holds. */
export const copy = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);

/** Who calls whom, as far as that is known. */
export function who(call) {
  const { from, to } = call.metadata;
  if (from && to) return `${from} → ${to}`;
  return from || to || call.uuid;
}

/** 65 seconds are 1:05. */
export function age(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

export const state = (value) => value.replaceAll("_", " ");

const SPEAKERS = { agent: "Agent", user: "Caller", function_call: "Tool", function_call_output: "Result" };

/** Who says an entry of a conversation, and what. */
export function entry({ role, type, name, text }) {
  const speaker = SPEAKERS[role ?? type] ?? role ?? type;
  return { kind: role ?? "tool", speaker, text: type && name ? `${name} ${text}` : text };
}
