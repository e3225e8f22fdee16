// What is known of one call besides its conversation: a line of chips, and a list of facts.

import { age, count, ending, money, number, parts, put, reason, sentence, short, state } from "./text.js";

const get = (id) => document.getElementById(id);

/** Shows chips: `[text, kind]`; texts that are empty are left out. */
export function showGlance(chips) {
  const list = get("glance");
  const shown = chips.filter(([text]) => text);
  while (list.children.length > shown.length) list.lastElementChild.remove();
  shown.forEach(([text, kind], place) => {
    const chip = list.children[place] ?? list.appendChild(document.createElement("li"));
    chip.className = kind === undefined ? "chip" : "chip state";
    chip.dataset.state = kind ?? "";
    put(chip, text);
  });
}

/** Shows facts by their names; empty ones are left out. */
export function showFacts(facts) {
  const list = get("facts");
  const shown = Object.entries(facts).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  while (list.children.length > 2 * shown.length) list.lastElementChild.remove();
  shown.forEach(([name, value], place) => {
    if (list.children.length <= 2 * place) {
      list.append(document.createElement("dt"), document.createElement("dd"));
      list.lastElementChild.append(document.createElement("bdi"));
    }
    put(list.children[2 * place], name);
    put(list.children[2 * place + 1].firstElementChild, value);
  });
}

/** Returns the chips that live and ended calls have. */
export function figureChips(figures) {
  if (!figures) return [];
  const failed = figures.tools.filter(({ outcome }) => outcome !== "completed").length;
  const tools = figures.tools.length + (figures.tools_left_out ?? 0);
  const { p50_seconds: median, worst_seconds: worst, count: turns } = figures.turn_latency;
  return [
    [turns ? `waits ${short(median)}, at worst ${short(worst)}` : ""],
    [tools ? `${count(tools, "tool")}${failed ? `, ${number(failed)} not completed` : ""}` : "", failed ? "ill" : undefined],
    [figures.interruptions ? count(figures.interruptions, "interruption") : ""],
    [figures.moves + figures.recoveries ? count(figures.moves + figures.recoveries, "move") : ""],
    [money(figures.cost_usd)],
  ];
}

/** Returns the facts that live and ended calls have. */
export function figureFacts(figures) {
  if (!figures) return {};
  const { turn_latency: latency, greeting_seconds: greeting } = figures;
  const medians = parts(latency);
  return {
    Waits: latency.count
      ? `${count(latency.count, "turn")}: median ${short(latency.p50_seconds)}, 95th percentile ` +
        `${short(latency.p95_seconds)}, worst ${short(latency.worst_seconds)}${medians ? `. Medians: ${medians}` : ""}`
      : "none measured yet",
    Greeting: typeof greeting === "number" ? `after ${short(greeting)}` : "",
    Tools: figures.tools.map(({ name, seconds, outcome }) => `${name}: ${state(outcome)} in ${short(seconds)}`).join("\n"),
    Interruptions: number(figures.interruptions),
    Keys: figures.keys ? `${number(figures.keys)} pressed` : "",
    Moves: moves(figures),
    Answers: answers(figures),
    Cost: money(figures.cost_usd),
  };
}

function moves({ moves: planned, recoveries }) {
  const told = [];
  if (planned) told.push(`${number(planned)} planned (rollover of the session, or drain of a worker)`);
  if (recoveries) told.push(`${number(recoveries)} taken over after a loss`);
  return told.join(", ") || "none";
}

function answers({ answers_retried: retried, answers_given_up: givenUp }) {
  const told = [];
  if (retried) told.push(`${number(retried)} asked for again`);
  if (givenUp) told.push(`${number(givenUp)} given up`);
  return told.join(", ");
}

/** Returns which prompt a session has. */
export function prompt(session) {
  if (!session) return "";
  const { from, stored_id: id, stored_version: version, characters, beginning } = session.prompt;
  const told = [];
  if (id) told.push(`stored prompt ${id}${version ? `, version ${version}` : ""}`);
  if (characters) {
    const text = beginning.length < characters ? `${beginning} …` : beginning;
    told.push(`${from === "default" ? "the default" : from}, ${count(characters, "character")}: “${text}”`);
  }
  return told.join("; ");
}

/** Returns model and voice of a session or a record. */
export const voice = ({ model, voice: name }) => [model, name].filter(Boolean).join(", ");

/** Returns the entries of a call's metadata that are not in its title. */
export const metadata = (call) =>
  Object.fromEntries(Object.entries(call.metadata ?? {}).filter(([name]) => name !== "from" && name !== "to"));

/** Shows the record of an ended call. */
export function showRecord(record) {
  showGlance([
    ["ended", "ended"],
    [ending(record.ending), record.ending],
    [age(record.seconds)],
    ...figureChips(record),
  ]);
  showFacts({
    Ended: `${new Date(record.ended_at).toLocaleString()}, ${reason(record.reason).toLowerCase()}`,
    Reason: sentence(record.reason_text),
    Began: new Date(record.started_at).toLocaleString(),
    Tenant: record.tenant,
    "Model, voice": voice(record),
    ...figureFacts(record),
    Recording: record.recording?.length ? count(record.recording.length, "file") : "",
    Trace: record.trace_id,
    uuid: record.uuid,
    ...metadata(record),
  });
}
