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

/** Returns a text that ends as a sentence does: with one full stop, unless it has its own end. */
export function sentence(text) {
  const whole = String(text).trim();
  return !whole || /[.!?…]["”’)]?$/.test(whole) ? whole : `${whole}.`;
}

/** Returns the known numbers of caller and callee, otherwise the uuid. */
export function who(call) {
  const { from, to } = call.metadata ?? {};
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

const NUMBERS = new Intl.NumberFormat("en");

export const number = (value) => NUMBERS.format(value);

/** Returns a number with its noun: 1 call, 1,000 calls. */
export const count = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;

/** Formats a short time: 0.82 s, 12.3 s. */
export const short = (seconds) => `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;

/** Formats a cost; "" if there is none, or its price is not known. */
export const money = (usd) => (usd > 0 ? `$${usd.toFixed(usd < 0.1 ? 4 : 2)}` : "");

/** Returns how many of a number need attention. */
export const attention = (ill, all) => `${number(ill)} of ${all} need${ill === 1 ? "s" : ""} attention`;

export const state = (value) => value.replaceAll("_", " ");

const ENDINGS = { completed: "completed", failed: "failed", rejected: "refused", lost: "lost" };

export const ending = (value) => ENDINGS[value] ?? state(value);

const REASONS = {
  caller_hung_up: "The caller hung up",
  caller_lost: "The caller's connection broke",
  caller_silent: "Nobody spoke",
  agent_hung_up: "The agent hung up",
  transferred: "The agent transferred the call",
  api_hung_up: "An operator or the calls API hung up",
  too_long: "The call reached MAX_CALL_SECONDS",
  protocol: "AVR Core broke its protocol",
  no_capacity: "All workers were full",
  no_worker: "No worker took the call",
  upstream: "There was no Realtime session",
  no_answer: "The model gave no answers",
  stopped: "The service stopped",
  internal: "A fault of this service",
  lost: "The service's processes were lost",
};

export const reason = (value) => REASONS[value] ?? state(value);

/** Returns the parts of a wait, in seconds, such as "end of speech 0.50, model 0.20, service 0.10"; "" if unknown. */
export function parts(wait) {
  const named = [
    ["end of speech", wait.end_of_speech_seconds],
    ["model", wait.model_seconds],
    ["service", wait.service_seconds],
  ];
  return named
    .filter(([, seconds]) => typeof seconds === "number")
    .map(([name, seconds]) => `${name} ${seconds.toFixed(2)}`)
    .join(", ");
}

const SPEAKERS = { agent: "Agent", user: "Caller", function_call: "Tool", function_call_output: "Result of a tool" };

/** Returns kind, speaker, text, result and note of an entry in a conversation. */
export function entry(each) {
  const { role, type, name, text, waited, heard_share: heard, seconds, outcome, result } = each;
  const notes = [];
  if (waited) {
    const shown = parts(waited);
    notes.push(`Wait ${short(waited.seconds)}${shown ? `: ${shown}` : ""}`);
  }
  if (typeof heard === "number") notes.push(`Interrupted: ${Math.round(100 * heard)} % was heard`);
  if (outcome) notes.push(`${state(outcome)} in ${short(seconds)}`);
  return {
    kind: role ?? "tool",
    speaker: type && name ? `Tool ${name}` : (SPEAKERS[role ?? type] ?? role ?? type),
    text,
    result: result === undefined ? "" : `→ ${result}`,
    note: notes.join(" · "),
    failed: Boolean(outcome) && outcome !== "completed",
  };
}

/** Returns a conversation with each tool's output at its call. */
export function joined(conversation) {
  const calls = new Map();
  const entries = [];
  for (const each of conversation) {
    const call = each.type === "function_call_output" ? calls.get(each.call_id) : undefined;
    if (call) {
      call.result = each.text;
      continue;
    }
    const shown = { ...each };
    if (each.type === "function_call" && each.call_id) calls.set(each.call_id, shown);
    entries.push(shown);
  }
  return entries;
}
