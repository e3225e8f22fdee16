// Texts of the page. Data of a call may be hostile, so only `put` writes it into the page, as text.

const MOST_CHARACTERS = 4000;

/** Sets an element's text if it differs, so that screen readers do not read unchanged text again. */
export function put(element, text) {
  const whole = String(text);
  const shown = whole.length > MOST_CHARACTERS ? `${whole.slice(0, MOST_CHARACTERS)} …` : whole;
  if (element.textContent !== shown) element.textContent = shown;
}

/** Returns a copy of a template's element. */
export const copy = (id) => document.getElementById(id).content.firstElementChild.cloneNode(true);

/** Returns the known numbers of caller and callee, otherwise the uuid. */
export function who(call) {
  const { from, to } = call.metadata;
  if (from && to) return `${from} → ${to}`;
  return from || to || call.uuid;
}

/** Formats seconds: 65 becomes 1:05. */
export function age(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

export const state = (value) => value.replaceAll("_", " ");

const SPEAKERS = { agent: "Agent", user: "Caller", function_call: "Tool", function_call_output: "Result" };

/** Returns kind, speaker and text of an entry in a conversation. */
export function entry({ role, type, name, text }) {
  const speaker = SPEAKERS[role ?? type] ?? role ?? type;
  return { kind: role ?? "tool", speaker, text: type && name ? `${name} ${text}` : text };
}
